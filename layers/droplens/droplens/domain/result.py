"""The result of one image and its event, in both versions of their schemas (schemas/).

`classified` and `rejected` make results of v2, and `in_version` makes one of v1 of them.
"""

import contextlib
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from droplens.domain.card import ModelCard
from droplens.domain.stored_object import ObjectInfo
from droplens.imaging.prepare import ImageError, ImageInfo
from droplens.statistics.calibration import Calibration
from droplens.statistics.familiarity import familiarity

V1, V2 = "v1", "v2"
RESULTS = {version: f"droplens.result.{version}" for version in (V1, V2)}
EVENTS = {version: f"droplens.image-classified.{version}" for version in (V1, V2)}
EVENT_SOURCE = "droplens"
EVENT_TYPE = "Image Classified"
TOP = 5
# What v1 lacks: fields of a result, and of its prediction.
_RESULT_SINCE_V2 = ("candidates",)
_PREDICTION_SINCE_V2 = ("familiar", "familiarity")


class UnexpectedResponse(Exception):
    """A response of an endpoint that does not fit its model's class list."""


@dataclass(frozen=True, slots=True)
class Response:
    """An endpoint's response for one image.

    probabilities: in class order; novelty: the greater, the less like the training images, or None
    where the model does not compute it.
    """

    probabilities: list[float]
    novelty: float | None


@dataclass(frozen=True, slots=True)
class Ranked:
    """One class with its probability in [0, 1]."""

    label: str
    probability: float


def rank(probabilities: list[float], card: ModelCard) -> list[Ranked]:
    """The TOP most probable classes, best first, with calibrated probabilities.

    probabilities: as the endpoint returned them, in class order.
    """
    return [
        Ranked(card.classes[index], probability)
        for index, probability in top(probabilities, card.calibration)
    ]


def top(probabilities: Sequence[float], calibration: Calibration) -> list[tuple[int, float]]:
    """The TOP most probable classes, best first: index and calibrated probability."""
    calibrated = calibration.apply(probabilities)
    return [
        (index, min(1.0, round(calibrated[index], 6))) for index in best_first(probabilities)[:TOP]
    ]


def best_first(probabilities: Sequence[float]) -> list[int]:
    """The class indices by descending probability; ties in class order."""
    return sorted(range(len(probabilities)), key=lambda i: (-probabilities[i], i))


def parse_response(body: bytes, classes: int) -> Response:
    """Parse an endpoint's response: a JSON list with one number in [0, 1] for each class, or an
    object with this list in `probabilities` and a finite number or null in `novelty`.

    Raises UnexpectedResponse.
    """
    novelty = None
    try:
        values = json.loads(body)
        if isinstance(values, dict) and "probabilities" in values:
            values, novelty = values["probabilities"], values.get("novelty")
        if not isinstance(values, list):
            raise TypeError(f"a {type(values).__name__}")
        probabilities = [float(value) for value in values]
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise UnexpectedResponse(f"the answer is not a list of numbers: {error}") from error
    return checked(probabilities, novelty, classes)


def checked(probabilities: list[float], novelty: Any, classes: int) -> Response:
    """The response of a model of so many classes. Raises UnexpectedResponse."""
    if len(probabilities) != classes:
        raise UnexpectedResponse(f"{len(probabilities)} probabilities for {classes} classes")
    if not all(0.0 <= p <= 1.000001 for p in probabilities):
        raise UnexpectedResponse("numbers that are no probabilities")
    return Response(probabilities, None if novelty is None else _finite(novelty))


def _finite(novelty: Any) -> float:
    if isinstance(novelty, (int, float)) and not isinstance(novelty, bool):
        with contextlib.suppress(OverflowError):
            if math.isfinite(value := float(novelty)):
                return value
    raise UnexpectedResponse("a novelty that is no finite number")


def classified(
    bucket: str, image: ObjectInfo, info: ImageInfo, response: Response, card: ModelCard
) -> dict[str, Any]:
    """The result of an image that was classified."""
    ranked = rank(response.probabilities, card)
    return {
        "schema": RESULTS[V2],
        "status": "classified",
        "image": {
            **_image(bucket, image),
            "width": info.width,
            "height": info.height,
            "format": info.format,
        },
        "classifier": card.classifier,
        "prediction": _prediction(ranked[0], response.novelty, card),
        "top": [{"label": entry.label, "probability": entry.probability} for entry in ranked],
        "candidates": _candidates(response.probabilities, card),
        "model": _model(card),
        "classified_at": _now(),
    }


def _prediction(best: Ranked, novelty: float | None, card: ModelCard) -> dict[str, Any]:
    familiar = card.is_familiar(novelty)
    share = None
    if card.novelty is not None and novelty is not None:
        share = round(familiarity(novelty, card.novelty.quantiles), 4)
    return {
        "label": best.label,
        "probability": best.probability,
        "confident": familiar is not False and card.is_confident(best.label, best.probability),
        "familiar": familiar,
        "familiarity": share,
    }


def _candidates(probabilities: list[float], card: ModelCard) -> list[str] | None:
    if card.candidates is None:
        return None
    calibrated = card.calibration.apply(probabilities)
    return [card.classes[index] for index in card.candidates.apply(calibrated)]


def rejected(
    bucket: str, image: ObjectInfo, problem: ImageError, card: ModelCard
) -> dict[str, Any]:
    """The result of an image that cannot be classified, with the reason."""
    return {
        "schema": RESULTS[V2],
        "status": "rejected",
        "image": _image(bucket, image),
        "classifier": card.classifier,
        "error": {"code": problem.code, "message": problem.message},
        "model": _model(card),
        "classified_at": _now(),
    }


def in_version(result: dict[str, Any], version: str) -> dict[str, Any]:
    """The result as consumers of `version` expect it. One of v1 stays one: v2 has fields that were
    not kept."""
    if version == V2 or _version(result) == V1:
        return result
    older = {name: value for name, value in result.items() if name not in _RESULT_SINCE_V2}
    older["schema"] = RESULTS[V1]
    if "prediction" in older:
        older["prediction"] = {
            name: value
            for name, value in older["prediction"].items()
            if name not in _PREDICTION_SINCE_V2
        }
    return older


def _version(result: dict[str, Any]) -> str:
    return V1 if result["schema"] == RESULTS[V1] else V2


def to_json(result: dict[str, Any]) -> bytes:
    """A result as it is stored: UTF-8 without escapes, on one line for Athena."""
    return json.dumps(result, ensure_ascii=False).encode() + b"\n"


def _image(bucket: str, image: ObjectInfo) -> dict[str, Any]:
    return {
        "bucket": bucket,
        "key": image.key,
        "etag": image.etag,
        "version_id": image.version_id,
        "bytes": image.bytes,
    }


def _model(card: ModelCard) -> dict[str, Any]:
    return {
        "run_id": card.run_id,
        "endpoint": card.endpoint,
        "accuracy": round(card.measured.accuracy, 6),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def classified_event(result: dict[str, Any], key: str, generation: int) -> dict[str, Any]:
    """The detail of the "Image Classified" event for the result `result` at `key`, in its version.

    Its id is the same whenever it is published again. generation: of the model card; it is part of
    the id, since after a rollback the same model classifies the image again, and a consumer that
    dropped this as a repeat would keep the result of the model that was rolled back from.
    """
    image, model = result["image"], result["model"]
    version = image["version_id"] or image["etag"]
    identity = "\n".join((key, version, model["run_id"], str(generation)))
    detail = {
        "schema": EVENTS[_version(result)],
        "id": hashlib.sha256(identity.encode()).hexdigest()[:32],
        "status": result["status"],
        "classifier": result["classifier"],
        "image": image,
        "result": {"bucket": image["bucket"], "key": key},
        "model": model,
    }
    for part in ("prediction", "error"):
        if part in result:
            detail[part] = result[part]
    return detail
