"""Images that wait for a review, in the small stack of deployed_stack.py."""

import json
from dataclasses import replace
from typing import Any

from droplens.domain import layout
from droplens.domain.review import Review, review_of
from droplens.state.reviews import Reviews
from tests.support.builders import RUN, card, jpeg
from tests.support.deployed_stack import Deployed

CLASSES = ("audi", "bmw", "citroën", "dacia", "fiat", "ford mustang 1967")


def with_versions(stack: Deployed) -> Deployed:
    """The stack as the template has it: its bucket has versions, and "cars" a live model."""
    stack.s3.put_bucket_versioning(
        Bucket=stack.bucket.name, VersioningConfiguration={"Status": "Enabled"}
    )
    model = card(classes=CLASSES).to_json()
    stack.put(layout.live_card_key("cars"), model)
    stack.put(layout.card_key("cars", RUN.run_id), model)
    return stack


def reviews_of(stack: Deployed) -> Reviews:
    """The stack's table of reviews."""
    table = stack.session.resource("dynamodb").Table(stack.outputs["ReviewsTableName"])
    return Reviews(table, stack.bucket)


def predicted(stack: Deployed, name: str, probability: float = 0.4, **image: Any) -> dict[str, Any]:
    """Put the image `name` of "cars" and its result, which is not confident; returns that."""
    key = f"{layout.INPUT}cars/{name}"
    stored = stack.s3.put_object(
        Bucket=stack.bucket.name, Key=key, Body=jpeg(size=(80, 60)) + name.encode()
    )
    rest = round((1 - probability) / 5, 4)
    result: dict[str, Any] = {
        "schema": "droplens.result.v2",
        "status": "classified",
        "image": {
            "bucket": stack.bucket.name,
            "key": key,
            "etag": stored["ETag"].strip('"'),
            "version_id": stored["VersionId"],
            "bytes": 5,
            "width": 80,
            "height": 60,
            "format": "JPEG",
        },
        "classifier": "cars",
        "prediction": {
            "label": CLASSES[0],
            "probability": probability,
            "confident": False,
            "familiar": True,
            "familiarity": 0.5,
        },
        "top": [
            {"label": label, "probability": rest if place else probability}
            for place, label in enumerate(CLASSES[:5])
        ],
        "candidates": [CLASSES[0]],
        "model": {"run_id": RUN.run_id, "endpoint": "e", "accuracy": 0.9},
        "classified_at": "2026-11-22T12:00:00Z",
    }
    stack.put(layout.result_key(key, "cars"), json.dumps(result).encode())
    return result


def waiting(stack: Deployed, *names: str) -> list[Review]:
    """Images of "cars" that wait for a review, in this order."""
    found = []
    for place, name in enumerate(names):
        result = predicted(stack, name)
        review = review_of(result, layout.result_key(result["image"]["key"], "cars"), 0.0)
        assert review is not None
        found.append(replace(review, order=place / 1000))
        assert reviews_of(stack).enter(found[-1])
    return found


def corrections(stack: Deployed) -> dict[str, str]:
    """The classes of the corrections of "cars", by the image's name."""
    prefix = layout.corrections_prefix("cars")
    return {
        entry.key.partition("-")[2]: entry.key.removeprefix(prefix).partition("/")[0]
        for entry in stack.bucket.entries(prefix)
    }
