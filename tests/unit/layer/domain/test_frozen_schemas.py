"""Each version of a published schema means today what it meant when consumers built on it.

frozen/ holds what a version means to a validator, without its descriptions, which may be improved.
v1 does not change at all. v2 may get further fields, which its consumers ignore; whatever else it
says stays. A failure here is a change that can break a consumer. To make it, leave these versions
alone and add a v3: schemas/<name>.v3.json with its own $id and `schema` constant, the constants in
droplens.domain.result, the name in tools/contract.py and in this folder, and a line in
docs/results.md on what changed.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tools.contract import EVENT, EVENT_V1, RESULT, RESULT_V1, schema

FROZEN = Path(__file__).resolve().parent / "frozen"


def frozen(name: str) -> Any:
    return json.loads((FROZEN / f"{name}.json").read_text("utf-8"))


def meaning(part: Any) -> Any:
    """A schema without the words that are for people."""
    if isinstance(part, dict):
        return {
            key: meaning(value)
            for key, value in part.items()
            if not (key in ("description", "title") and isinstance(value, str))
        }
    return [meaning(entry) for entry in part] if isinstance(part, list) else part


def without_new_fields(part: Any, former: Any) -> Any:
    """`part` without the properties that `former`, an earlier text of it, does not have."""
    if not isinstance(part, dict) or not isinstance(former, dict):
        return part
    kept = part
    if "properties" in former:
        names = former["properties"].keys()
        properties = {k: v for k, v in part.get("properties", {}).items() if k in names}
        kept = {**part, "properties": properties}
    return {name: without_new_fields(value, former.get(name)) for name, value in kept.items()}


@pytest.mark.parametrize("name", [RESULT_V1, EVENT_V1])
def test_v1_means_what_it_always_meant(name: str) -> None:
    assert meaning(schema(name)) == frozen(name), __doc__


@pytest.mark.parametrize("name", [RESULT, EVENT])
def test_v2_may_only_get_further_fields(name: str) -> None:
    assert without_new_fields(meaning(schema(name)), frozen(name)) == frozen(name), __doc__


def test_a_change_of_meaning_shows_and_one_of_words_does_not() -> None:
    one = {"properties": {"label": {"type": "string", "description": "The class."}}}
    reworded = {"properties": {"label": {"type": "string", "description": "Its class."}}}
    changed = {"properties": {"label": {"type": "null", "description": "The class."}}}
    # A property may be called "description": only the words of a schema itself are left out.
    described = {"properties": {**one["properties"], "description": {"type": "string"}}}

    assert meaning(one) == meaning(reworded)
    assert meaning(one) != meaning(changed)
    assert meaning(one) != meaning(described)
    assert without_new_fields(described, one) == one


def test_a_field_that_is_required_from_now_on_is_a_change() -> None:
    former = {"properties": {"a": {"type": "object", "properties": {"b": {}}}}, "required": ["a"]}
    grown: dict[str, Any] = {
        "properties": {"a": {"type": "object", "properties": {"b": {}, "c": {}}}, "d": {}},
        "required": ["a"],
    }
    assert without_new_fields(grown, former) == former
    assert without_new_fields({**grown, "required": ["a", "d"]}, former) != former
    nested = {"a": {**grown["properties"]["a"], "required": ["c"]}}
    assert without_new_fields({**grown, "properties": nested}, former) != former
