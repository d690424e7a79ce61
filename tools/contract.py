"""Validates results and events against the published schemas.

v2 lets consumers ignore fields that it does not name. Droplens itself must not write any, so
`validate` refuses them: it closes every object of the schema first.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

SCHEMAS = Path(__file__).resolve().parent.parent / "schemas"
RESULT, EVENT = "result.v2", "image-classified.v2"
# What a stack with ResultSchema=v1 writes.
RESULT_V1, EVENT_V1 = "result.v1", "image-classified.v1"


def schema(name: str) -> dict[str, Any]:
    """The published schema schemas/<name>.json."""
    return dict(json.loads((SCHEMAS / f"{name}.json").read_text("utf-8")))


@cache
def validator(name: str, *, closed: bool = False) -> jsonschema.Draft202012Validator:
    """A validator of schemas/<name>.json that also checks formats such as date-time.

    closed: fields that the schema does not name are refused.
    """
    document = _closed(schema(name)) if closed else schema(name)
    return jsonschema.Draft202012Validator(
        document, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )


def validate(name: str, document: Any) -> None:
    """Validate `document` against schemas/<name>.json, without any field that this does not name.

    Raises jsonschema.ValidationError.
    """
    validator(name, closed=True).validate(document)


def validate_named(document: Any) -> None:
    """Validate a result or an event of either version against the schema that it names.

    Raises jsonschema.ValidationError.
    """
    names = {f"droplens.{name}": name for name in (RESULT, EVENT, RESULT_V1, EVENT_V1)}
    validate(names.get(document.get("schema"), RESULT), document)


def _closed(part: Any) -> Any:
    if isinstance(part, dict):
        return {
            key: False if key == "additionalProperties" else _closed(value)
            for key, value in part.items()
        }
    return [_closed(entry) for entry in part] if isinstance(part, list) else part
