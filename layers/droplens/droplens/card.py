"""The model card: everything needed to answer with one model, and how good it was measured."""

import json
from dataclasses import dataclass
from typing import Any, Self

from droplens.pictures import Preprocessing

SCHEMA = "droplens.model-card.v1"


class CardError(Exception):
    """A stored model card is not one that this version can read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """How the candidate did on validation records sent through its own endpoint.

    pictures: how many were sent, of `available`; accuracy and top5: shares in [0, 1];
    latency_ms_p50 and _p95: one InvokeEndpoint call, in milliseconds.
    """

    pictures: int
    available: int
    accuracy: float
    top5: float
    latency_ms_p50: float
    latency_ms_p95: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """One model as classify_image uses it.

    classes: names in the order of the endpoint's probabilities.
    confident_from: the probability from which an answer is called confident, or None where the
    measurement gave no such probability.
    replaces: the run whose endpoint this one took over from, or None.
    """

    classifier: str
    run_id: str
    endpoint: str
    trainer: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    measured: Measurement
    confident_from: float | None
    promoted_at: str
    replaces: str | None = None

    def to_json(self) -> bytes:
        """The card as it is stored."""
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "classifier": self.classifier,
            "run_id": self.run_id,
            "endpoint": self.endpoint,
            "trainer": self.trainer,
            "classes": list(self.classes),
            "preprocessing": self.preprocessing.to_dict(),
            "measured": {
                name: getattr(self.measured, name) for name in Measurement.__dataclass_fields__
            },
            "confident_from": self.confident_from,
            "promoted_at": self.promoted_at,
            "replaces": self.replaces,
        }
        return json.dumps(document, ensure_ascii=False, indent=1).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read a stored card. Raises CardError."""
        try:
            document = json.loads(text)
            if document["schema"] != SCHEMA:
                raise CardError(f"a model card of schema {document['schema']!r}, not {SCHEMA!r}")
            return cls(
                classifier=document["classifier"],
                run_id=document["run_id"],
                endpoint=document["endpoint"],
                trainer=document["trainer"],
                classes=tuple(document["classes"]),
                preprocessing=Preprocessing.from_dict(document["preprocessing"]),
                measured=Measurement(**document["measured"]),
                confident_from=document["confident_from"],
                promoted_at=document["promoted_at"],
                replaces=document["replaces"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise CardError(f"a malformed model card: {error!r}") from error
