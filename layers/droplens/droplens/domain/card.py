"""The model card: what is needed to classify with one evaluated model."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self, TypeVar

from droplens.imaging.prepare import Preprocessing
from droplens.statistics.calibration import IDENTITY, Calibration
from droplens.statistics.conformal import LabelSets

T = TypeVar("T")

SCHEMA = "droplens.model-card.v1"

# Defaults of fields that cards of earlier versions lack.
_ABSENT: dict[str, Any] = {
    "calibration": {**IDENTITY.to_dict(), "ece_before": None, "ece_after": None},
    "coverage": None,
    "comparison": None,
    "unconfident_because": None,
    "confident_by_class": None,
    "novelty": None,
    "candidates": None,
    "generation": 0,
    "newest": "",
    "way_back": None,
    "droplens_version": "",
    "input_size": None,
    "model": None,
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
class Novelty:
    """The novelty of the dataset's own images, none of which the model was fitted to.

    limit: an image of a greater novelty is unfamiliar; share: of the own images, how many are
    measured to be; quantiles: 101 of the own images' novelty, ascending, at the levels 0, 0.01, …
    1.
    """

    limit: float
    share: float
    quantiles: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of model cards."""
        return {"limit": self.limit, "share": self.share, "quantiles": list(self.quantiles)}

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Self:
        """Read what `to_dict` wrote. Raises KeyError, TypeError, ValueError."""
        return cls(
            limit=float(document["limit"]),
            share=float(document["share"]),
            quantiles=tuple(float(value) for value in document["quantiles"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelObject:
    """A network's ONNX file in the bucket, which classify_image runs itself (EndpointMode=lambda).

    key: its object's; sha256: hexadecimal, of its content; bytes: its size; height, width: of the
    network's input, in pixels.
    """

    key: str
    sha256: str
    bytes: int
    height: int
    width: int

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of model cards and of a run's item."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote. Raises KeyError, TypeError, ValueError."""
        return cls(
            key=str(document["key"]),
            sha256=str(document["sha256"]),
            bytes=int(document["bytes"]),
            height=int(document["height"]),
            width=int(document["width"]),
        )


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
    confident_by_class: thresholds that replace confident_from for predictions of these classes, by
    name, or None.
    novelty: from where an image is unfamiliar; None where the model cannot tell.
    candidates: the conformal label sets, or None where the evaluation gave none.
    comparison: with the model that was live (`comparison.Comparison.to_dict`), or None; in the live
    card with the model that it replaces, else with the one that was live at the evaluation.
    replaces: the run that was live before, or None.
    generation: how often the live model has changed, including this time; 0 if it never was live.
    newest: the newest run that was ever live. An older run goes live by a rollback only.
    way_back: the targets of successive rollbacks (`domain.rollback_target`); None in a live card of
    an earlier version, and in cards that are not live.
    input_size: "height" and "width" of the network's input, in pixels; None where the training did
    not report it, as the built-in algorithm's, and on cards of earlier versions.
    droplens_version: the version that evaluated the model; "" on cards from before 0.2.0.
    model: what classify_image runs itself; None where an endpoint predicts. Then `endpoint` is the
    name of no endpoint, but of this try to deploy the run all the same.
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
    confident_by_class: dict[str, float] | None = None
    novelty: Novelty | None = None
    candidates: LabelSets | None = None
    comparison: dict[str, Any] | None = None
    replaces: str | None = None
    generation: int = 0
    newest: str = ""
    way_back: tuple[str, ...] | None = None
    droplens_version: str = ""
    input_size: dict[str, int] | None = None
    model: ModelObject | None = None

    def is_confident(self, label: str, probability: float) -> bool:
        """Whether a prediction of `label` with this calibrated probability is confident.

        An unfamiliar image is never confident, whatever this says.
        """
        threshold = (self.confident_by_class or {}).get(label, self.confident_from)
        return threshold is not None and probability >= threshold

    def is_familiar(self, novelty: float | None) -> bool | None:
        """Whether an image of this novelty is like the own images; None where one cannot tell."""
        if self.novelty is None or novelty is None:
            return None
        return novelty <= self.novelty.limit

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
            "confident_by_class": self.confident_by_class,
            "novelty": self.novelty and self.novelty.to_dict(),
            "candidates": self.candidates and self.candidates.to_dict(),
            "comparison": self.comparison,
            "promoted_at": self.promoted_at,
            "replaces": self.replaces,
            "generation": self.generation,
            "newest": self.newest,
            "way_back": self.way_back,
            "droplens_version": self.droplens_version,
            "input_size": self.input_size,
            "model": self.model and self.model.to_dict(),
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
                confident_by_class=document["confident_by_class"],
                novelty=_optional(Novelty.from_dict, document["novelty"]),
                candidates=_optional(LabelSets.from_dict, document["candidates"]),
                comparison=document["comparison"],
                promoted_at=document["promoted_at"],
                replaces=document["replaces"],
                generation=document["generation"],
                newest=document["newest"],
                way_back=None if document["way_back"] is None else tuple(document["way_back"]),
                droplens_version=document["droplens_version"],
                input_size=document["input_size"],
                model=_optional(ModelObject.from_dict, document["model"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise CardError(f"a malformed model card: {error!r}") from error


def _optional(read: Callable[[dict[str, Any]], T], document: dict[str, Any] | None) -> T | None:
    return None if document is None else read(document)
