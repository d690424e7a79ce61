"""Validates results and events against the published schemas, as a strict consumer does."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

SCHEMAS = Path(__file__).resolve().parent.parent / "schemas"
RESULT, EVENT = "result.v1", "image-classified.v1"


@cache
def validator(name: str) -> jsonschema.Draft202012Validator:
    """A validator of schemas/<name>.json that also checks formats such as date-time."""
    schema = json.loads((SCHEMAS / f"{name}.json").read_text("utf-8"))
    return jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )


def validate(name: str, document: Any) -> None:
    """Validate `document` against schemas/<name>.json. Raises jsonschema.ValidationError."""
    validator(name).validate(document)
