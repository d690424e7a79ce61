"""The published schemas say what the code writes: no more, no less."""

from typing import Any

import jsonschema
import pytest

from droplens.domain import result
from droplens.imaging import prepare
from tests.support.results import (
    BEST,
    CLASSIFIED,
    CLASSIFIED_V1,
    ERROR,
    MODEL,
    PICTURE,
    REJECTED,
    REJECTED_V1,
)
from tools.contract import EVENT, EVENT_V1, RESULT, RESULT_V1, schema, validate, validator

NAMES = (RESULT_V1, EVENT_V1, RESULT, EVENT)
VERSIONS = {
    RESULT_V1: {"classified": CLASSIFIED_V1, "rejected": REJECTED_V1},
    RESULT: {"classified": CLASSIFIED, "rejected": REJECTED},
}
CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("classified", {"status": "unknown"}),
    ("classified", {"schema": "droplens.result.v3"}),
    ("classified", {"error": ERROR}),
    ("classified", {"image": PICTURE}),
    ("classified", {"prediction": None}),
    ("classified", {"top": []}),
    ("classified", {"top": [BEST] * 6}),
    ("classified", {"classifier": "Cars"}),
    ("classified", {"model": {**MODEL, "run_id": "latest"}}),
    ("classified", {"classified_at": "2026-11-22 12:00"}),
    ("rejected", {"error": {**ERROR, "code": "image.ugly"}}),
    ("rejected", {"error": {"code": "image.empty"}}),
    ("rejected", {"prediction": CLASSIFIED["prediction"]}),
    ("rejected", {"image": {**PICTURE, "width": 3}}),
]
# Fields that no version names, at each depth.
SURPRISES: list[tuple[str, dict[str, Any]]] = [
    ("classified", {"surprise": 1}),
    ("classified", {"image": {**CLASSIFIED_V1["image"], "surprise": 1}}),
    ("classified", {"model": {**MODEL, "surprise": 1}}),
    ("classified", {"top": [{**BEST, "surprise": 1}]}),
    ("rejected", {"surprise": 1}),
    ("rejected", {"error": {**ERROR, "surprise": 1}}),
]


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
def test_a_schema_is_valid_and_describes_every_field(name: str) -> None:
    document = schema(name)
    jsonschema.Draft202012Validator.check_schema(document)
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert document["properties"]["schema"]["const"] == f"droplens.{name}"
    assert described({key: document[key] for key in ("properties", "$defs")}) == []


def test_the_names_are_those_that_the_code_writes() -> None:
    assert {f"droplens.{RESULT_V1}", f"droplens.{RESULT}"} == set(result.RESULTS.values())
    assert {f"droplens.{EVENT_V1}", f"droplens.{EVENT}"} == set(result.EVENTS.values())


@pytest.mark.parametrize("name", NAMES)
def test_the_closed_list_of_reasons_is_the_code_s(name: str) -> None:
    codes = schema(name)["$defs"]["error"]["properties"]["code"]["oneOf"]
    assert sorted(code["const"] for code in codes) == sorted(prepare.CODES)


@pytest.mark.parametrize("name", NAMES)
def test_the_formats_are_the_code_s(name: str) -> None:
    formats = schema(name)["$defs"]["image"]["properties"]["format"]["enum"]
    assert sorted(formats) == sorted(prepare.FORMATS)


@pytest.mark.parametrize("names", [(RESULT_V1, EVENT_V1), (RESULT, EVENT)])
def test_results_and_events_mean_the_same_by_the_same_words(names: tuple[str, str]) -> None:
    one, other = (schema(name) for name in names)
    assert one["$defs"] == other["$defs"]
    assert one["properties"]["status"] == other["properties"]["status"]
    assert one["properties"]["classifier"] == other["properties"]["classifier"]


@pytest.mark.parametrize("name", [RESULT, EVENT])
def test_v2_allows_further_fields_everywhere_and_says_so(name: str) -> None:
    document = schema(name)
    assert "Ignore fields that this schema does not name" in document["description"]
    objects = [part for part in parts(document) if part.get("type") == "object"]
    assert len(objects) >= 5
    assert all(part["additionalProperties"] is True for part in objects)


def parts(document: Any) -> Any:
    """Every JSON object in a schema."""
    if isinstance(document, dict):
        yield document
    values = document.values() if isinstance(document, dict) else document
    for value in values if isinstance(document, dict | list) else ():
        yield from parts(value)


@pytest.mark.parametrize("name", VERSIONS)
@pytest.mark.parametrize("kind", ["classified", "rejected"])
def test_a_result_is_valid(name: str, kind: str) -> None:
    validator(name).validate(VERSIONS[name][kind])
    validate(name, VERSIONS[name][kind])


@pytest.mark.parametrize("name", VERSIONS)
@pytest.mark.parametrize(("kind", "changes"), CHANGES)
def test_what_is_no_result_is_invalid(name: str, kind: str, changes: Any) -> None:
    assert not validator(name).is_valid({**VERSIONS[name][kind], **changes})


@pytest.mark.parametrize(("kind", "changes"), SURPRISES)
def test_a_field_that_nobody_knows_is_ignored_since_v2_and_never_written(
    kind: str, changes: Any
) -> None:
    assert not validator(RESULT_V1).is_valid({**VERSIONS[RESULT_V1][kind], **changes})
    grown = {**VERSIONS[RESULT][kind], **changes}
    assert validator(RESULT).is_valid(grown)
    with pytest.raises(jsonschema.ValidationError, match="surprise"):
        validate(RESULT, grown)


@pytest.mark.parametrize(
    "changes",
    [
        {"probability": 1.2},
        {"familiar": "yes"},
        {"familiar": None, "familiarity": 1.5},
        {"familiarity": -0.1},
    ],
)
def test_a_prediction_has_probabilities_and_answers_yes_or_no(changes: Any) -> None:
    prediction = {**CLASSIFIED["prediction"], **changes}
    assert not validator(RESULT).is_valid({**CLASSIFIED, "prediction": prediction})


@pytest.mark.parametrize("candidates", [[], [""], ["Škoda", "Škoda"], "Škoda"])
def test_candidates_are_classes_at_least_one_each_once(candidates: Any) -> None:
    assert not validator(RESULT).is_valid({**CLASSIFIED, "candidates": candidates})


def test_a_model_that_cannot_tell_says_null() -> None:
    prediction = {**CLASSIFIED["prediction"], "familiar": None, "familiarity": None}
    validate(RESULT, {**CLASSIFIED, "prediction": prediction, "candidates": None})


@pytest.mark.parametrize("name", VERSIONS)
def test_a_classified_result_lacks_nothing(name: str) -> None:
    whole = VERSIONS[name]["classified"]
    for missing in whole:
        document = {name: value for name, value in whole.items() if name != missing}
        assert not validator(name).is_valid(document), missing
    for missing in ("confident", "familiar", "familiarity") if name == RESULT else ("confident",):
        prediction = {k: v for k, v in whole["prediction"].items() if k != missing}
        assert not validator(name).is_valid({**whole, "prediction": prediction}), missing
