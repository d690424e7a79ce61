"""The model card: what is needed to classify with one evaluated model."""

import json
from dataclasses import dataclass
from typing import Any, Self

from droplens.imaging.prepare import Preprocessing
from droplens.statistics.calibration import IDENTITY, Calibration

SCHEMA = "droplens.model-card.v1"

# Defaults of fields that cards of earlier versions lack.
_ABSENT: dict[str, Any] = {
    "calibration": {**IDENTITY.to_dict(), "ece_before": None, "ece_after": None},
    "coverage": None,
    "comparison": None,
    "unconfident_because": None,
    "generation": 0,
    "newest": "",
    "way_back": None,
    "droplens_version": "",
}


class CardError(Exception):
    """A stored model card that this version cannot read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The evaluation of a candidate on validation records sent through its own endpoint.

    pictures: images sent, of `available` ones; accuracy and top5: shares in [0, 1];
    latency_ms_p50 and _p95: one InvokeEndpoint call, in milliseconds.
    """

    pictures: int
    available: int
    accuracy: float
    top5: float
    latency_ms_p50: float
    latency_ms_p95: float

    @property
    def right(self) -> int:
        """The number of images that were predicted correctly."""
        return round(self.accuracy * self.pictures)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """One model as classify_image uses it.

    classes: names in the order of the endpoint's probabilities.
    calibration: of these probabilities; ece_before, ece_after: the expected calibration error
    without and with it, on images that it was not fitted on.
    confident_from: the calibrated probability from which a prediction is confident, or None where
    the evaluation gave no such probability; coverage: the share of images that reach it.
    unconfident_because: why there is no confident_from, so that no prediction is confident; None
    where there is one, and on cards of earlier versions.
    comparison: with the model that was live (`comparison.Comparison.to_dict`), or None; in the live
    card with the model that it replaces, else with the one that was live at the evaluation.
    replaces: the run that was live before, or None.
    generation: how often the live model has changed, including this time; 0 if it never was live.
    newest: the newest run that was ever live. An older run goes live by a rollback only.
    way_back: the targets of successive rollbacks (`domain.rollback_target`); None in a live card of
    an earlier version, and in cards that are not live.
    droplens_version: the version that evaluated the model; "" on cards from before 0.2.0.
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
    calibration: Calibration = IDENTITY
    ece_before: float | None = None
    ece_after: float | None = None
    coverage: float | None = None
    unconfident_because: str | None = None
    comparison: dict[str, Any] | None = None
    replaces: str | None = None
    generation: int = 0
    newest: str = ""
    way_back: tuple[str, ...] | None = None
    droplens_version: str = ""

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
            "calibration": {
                **self.calibration.to_dict(),
                "ece_before": self.ece_before,
                "ece_after": self.ece_after,
            },
            "confident_from": self.confident_from,
            "coverage": self.coverage,
            "unconfident_because": self.unconfident_because,
            "comparison": self.comparison,
            "promoted_at": self.promoted_at,
            "replaces": self.replaces,
            "generation": self.generation,
            "newest": self.newest,
            "way_back": self.way_back,
            "droplens_version": self.droplens_version,
        }
        return json.dumps(document, ensure_ascii=False, indent=1).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read a stored card. Raises CardError."""
        try:
            document = {**_ABSENT, **json.loads(text)}
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
                calibration=Calibration.from_dict(document["calibration"]),
                ece_before=document["calibration"]["ece_before"],
                ece_after=document["calibration"]["ece_after"],
                confident_from=document["confident_from"],
                coverage=document["coverage"],
                unconfident_because=document["unconfident_because"],
                comparison=document["comparison"],
                promoted_at=document["promoted_at"],
                replaces=document["replaces"],
                generation=document["generation"],
                newest=document["newest"],
                way_back=None if document["way_back"] is None else tuple(document["way_back"]),
                droplens_version=document["droplens_version"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise CardError(f"a malformed model card: {error!r}") from error
