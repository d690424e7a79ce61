"""A result of each kind, in both versions of the published schema."""

from typing import Any

from tests.support.builders import RUN

PICTURE: dict[str, Any] = {
    "bucket": "droplens-bucket",
    "key": "input/cars/a.jpg",
    "etag": "5a105e8b9d40e1329780d62ea2265d8a",
    "version_id": None,
    "bytes": 84213,
}


MODEL = {"run_id": RUN.run_id, "endpoint": "droplens--cars", "accuracy": 0.91}


BEST = {"label": "Škoda", "probability": 0.87}


CLASSIFIED: dict[str, Any] = {
    "schema": "droplens.result.v2",
    "status": "classified",
    "image": {**PICTURE, "width": 1024, "height": 683, "format": "JPEG"},
    "classifier": "cars",
    "prediction": {**BEST, "confident": True, "familiar": True, "familiarity": 0.42},
    "top": [BEST, {"label": "Citroën", "probability": 0.06}],
    "candidates": ["Škoda", "Citroën"],
    "model": MODEL,
    "classified_at": "2026-11-22T12:00:00Z",
}


ERROR = {"code": "image.unreadable", "message": "the picture is damaged"}


REJECTED: dict[str, Any] = {
    **{
        name: value
        for name, value in CLASSIFIED.items()
        if name not in ("prediction", "top", "candidates")
    },
    "status": "rejected",
    "image": PICTURE,
    "error": ERROR,
}


CLASSIFIED_V1: dict[str, Any] = {
    **{name: value for name, value in CLASSIFIED.items() if name != "candidates"},
    "schema": "droplens.result.v1",
    "prediction": {**BEST, "confident": True},
}


REJECTED_V1: dict[str, Any] = {**REJECTED, "schema": "droplens.result.v1"}
