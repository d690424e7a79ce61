"""The published schemas say what the code writes: no more, no less."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from droplens.domain import result
from droplens.imaging import prepare
from tests.support.results import BEST, CLASSIFIED, ERROR, MODEL, PICTURE, REJECTED

NAMES = ("result.v1", "image-classified.v1")


def schema(root: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((root / "schemas" / f"{name}.json").read_text("utf-8")))


@pytest.fixture
def validator(repo_root: Path) -> jsonschema.Draft202012Validator:
    """What a consumer checks results with."""
    return jsonschema.Draft202012Validator(schema(repo_root, "result.v1"))


def described(part: Any, path: str = "$") -> list[str]:
    """Paths of properties and definitions that say nothing of themselves."""
    missing = []
    for group in ("properties", "$defs"):
        for name, value in part.get(group, {}).items() if isinstance(part, dict) else ():
            here = f"{path}.{name}"
            if "description" not in value and "$ref" not in value:
                missing.append(here)
            missing += described(value, here)
    return missing


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_valid_and_describes_every_field(repo_root: Path, name: str) -> None:
    document = schema(repo_root, name)
    jsonschema.Draft202012Validator.check_schema(document)
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert document["properties"]["schema"]["const"] == f"droplens.{name}"
    assert described({key: document[key] for key in ("properties", "$defs")}) == []


def test_the_names_are_those_that_the_code_writes() -> None:
    assert result.SCHEMA == "droplens.result.v1"
    assert result.EVENT_SCHEMA == "droplens.image-classified.v1"


@pytest.mark.parametrize("name", NAMES)
def test_the_closed_list_of_reasons_is_the_code_s(repo_root: Path, name: str) -> None:
    codes = schema(repo_root, name)["$defs"]["error"]["properties"]["code"]["oneOf"]
    assert sorted(code["const"] for code in codes) == sorted(prepare.CODES)


@pytest.mark.parametrize("name", NAMES)
def test_the_formats_are_the_code_s(repo_root: Path, name: str) -> None:
    formats = schema(repo_root, name)["$defs"]["image"]["properties"]["format"]["enum"]
    assert sorted(formats) == sorted(prepare.FORMATS)


def test_both_schemas_mean_the_same_by_the_same_words(repo_root: Path) -> None:
    one, other = (schema(repo_root, name) for name in NAMES)
    assert one["$defs"] == other["$defs"]
    assert one["properties"]["status"] == other["properties"]["status"]
    assert one["properties"]["classifier"] == other["properties"]["classifier"]


@pytest.mark.parametrize("document", [CLASSIFIED, REJECTED], ids=["classified", "rejected"])
def test_a_result_is_valid(validator: jsonschema.Draft202012Validator, document: Any) -> None:
    validator.validate(document)


@pytest.mark.parametrize(
    ("document", "changes"),
    [
        (CLASSIFIED, {"status": "unknown"}),
        (CLASSIFIED, {"schema": "droplens.result.v2"}),
        (CLASSIFIED, {"surprise": 1}),
        (CLASSIFIED, {"error": ERROR}),
        (CLASSIFIED, {"image": PICTURE}),
        (CLASSIFIED, {"prediction": None}),
        (CLASSIFIED, {"prediction": {**BEST, "probability": 1.2, "confident": True}}),
        (CLASSIFIED, {"top": []}),
        (CLASSIFIED, {"top": [BEST] * 6}),
        (CLASSIFIED, {"classifier": "Cars"}),
        (CLASSIFIED, {"model": {**MODEL, "run_id": "latest"}}),
        (CLASSIFIED, {"classified_at": "2026-11-22 12:00"}),
        (REJECTED, {"error": {**ERROR, "code": "image.ugly"}}),
        (REJECTED, {"error": {"code": "image.empty"}}),
        (REJECTED, {"prediction": CLASSIFIED["prediction"]}),
        (REJECTED, {"image": {**PICTURE, "width": 3}}),
    ],
)
def test_what_is_no_result_is_invalid(
    validator: jsonschema.Draft202012Validator, document: Any, changes: Any
) -> None:
    assert not validator.is_valid({**document, **changes})


@pytest.mark.parametrize("missing", CLASSIFIED)
def test_a_classified_result_lacks_nothing(
    validator: jsonschema.Draft202012Validator, missing: str
) -> None:
    document = {name: value for name, value in CLASSIFIED.items() if name != missing}
    assert not validator.is_valid(document)
