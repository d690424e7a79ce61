"""The row of one image: the columns that `droplens results` has, by the product's own rules."""

from datetime import UTC, datetime
from typing import Any

from droplens.domain import result
from droplens.domain.card import ModelCard
from droplens.domain.stored_object import ObjectInfo
from droplens.imaging.prepare import ImageError, ImageInfo
from droplens.inference.network import Prediction

Row = dict[str, Any]


def classified(bucket: str, image: ObjectInfo, prediction: Prediction, card: ModelCard) -> Row:
    """The row of an image with this prediction of the graph."""
    response = result.Response(prediction.probabilities, prediction.novelty)
    # A row has no size in pixels.
    found = result.classified(bucket, image, ImageInfo("", 0, 0), response, card)
    return _row(image, card) | {
        "status": found["status"],
        **found["prediction"],
        "candidates": found["candidates"],
        "top": found["top"],
    }


def rejected(image: ObjectInfo, problem: ImageError, card: ModelCard) -> Row:
    """The row of an image that cannot be classified, with the reason."""
    return _row(image, card) | {
        "status": "rejected",
        "error_code": problem.code,
        "error_message": problem.message,
    }


def _row(image: ObjectInfo, card: ModelCard) -> Row:
    return {
        "key": image.key,
        "classifier": card.classifier,
        "status": None,
        "label": None,
        "probability": None,
        "confident": None,
        "familiar": None,
        "familiarity": None,
        "candidates": None,
        "top": None,
        "error_code": None,
        "error_message": None,
        "run_id": card.run_id,
        "classified_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "etag": image.etag or None,
        "version_id": image.version_id,
        "bytes": image.bytes,
    }
