"""Images with predictions: drawn, the same in every run."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

CLASSIFIER, RUN_ID = "cars", "20261122-120000-1a2b3c"
CLASSES = tuple(f"class {number:03}" for number in range(196))
_START = datetime(2026, 1, 1, tzinfo=UTC)
_SECONDS = 20_000_000
_NOT_CONFIDENT, _UNFAMILIAR, _REJECTED = 0.2, 0.05, 0.01


def result(number: int, key: str, version: str | None = None) -> dict[str, Any]:
    """A result of v2 for the image `key`."""
    choose = random.Random(number)
    image = {
        "bucket": "bucket",
        "key": key,
        "etag": "0" * 32,
        "version_id": version,
        "bytes": 60_000,
    }
    at = _START + timedelta(seconds=choose.randrange(_SECONDS))
    found: dict[str, Any] = {
        "schema": "droplens.result.v2",
        "status": "classified",
        "image": image,
        "classifier": CLASSIFIER,
        "model": {"run_id": RUN_ID, "endpoint": "e", "accuracy": 0.9},
        "classified_at": at.isoformat().replace("+00:00", "Z"),
    }
    if choose.random() < _REJECTED:
        error = {"code": "image.unreadable", "message": "not a readable picture"}
        return {**found, "status": "rejected", "error": error}
    image |= {"width": 640, "height": 480, "format": "JPEG"}
    labels = choose.sample(CLASSES, 5)
    shares = sorted((choose.random() for _ in labels), reverse=True)
    total = sum(shares)
    familiar = choose.random() >= _UNFAMILIAR
    top = [
        {"label": label, "probability": round(share / total, 4)}
        for label, share in zip(labels, shares, strict=True)
    ]
    return {
        **found,
        "prediction": {
            **top[0],
            "confident": familiar and choose.random() >= _NOT_CONFIDENT,
            "familiar": familiar,
            "familiarity": round(choose.random(), 4),
        },
        "top": top,
        "candidates": labels[:2],
    }


def results(count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Keys of results, in S3's order, and the results."""
    for number in range(count):
        name = f"{CLASSIFIER}/2026/{number:07}-photo.jpg"
        yield f"results/{name}.json", result(number, f"input/{name}")
