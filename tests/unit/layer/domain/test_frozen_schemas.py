"""v1 of each published schema means today what it meant when consumers built on it.

frozen/ holds what v1 means to a validator, without its descriptions, which may be improved. A
failure here is a change that can break a consumer. To make it, leave v1 alone and add a v2:
schemas/<name>.v2.json with its own $id and `schema` constant, SCHEMA or EVENT_SCHEMA in the layer,
the name in tools/contract.py and in this folder, and a line in docs/results.md on what changed.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tools.contract import EVENT, RESULT, SCHEMAS

FROZEN = Path(__file__).resolve().parent / "frozen"


def meaning(part: Any) -> Any:
    """A schema without the words that are for people."""
    if isinstance(part, dict):
        return {
            key: meaning(value)
            for key, value in part.items()
            if not (key in ("description", "title") and isinstance(value, str))
        }
    return [meaning(entry) for entry in part] if isinstance(part, list) else part


@pytest.mark.parametrize("name", [RESULT, EVENT])
def test_v1_means_what_it_always_meant(name: str) -> None:
    published = json.loads((SCHEMAS / f"{name}.json").read_text("utf-8"))
    frozen = json.loads((FROZEN / f"{name}.json").read_text("utf-8"))
    assert meaning(published) == frozen, __doc__


def test_a_change_of_meaning_shows_and_one_of_words_does_not() -> None:
    one = {"properties": {"label": {"type": "string", "description": "The class."}}}
    reworded = {"properties": {"label": {"type": "string", "description": "Its class."}}}
    changed = {"properties": {"label": {"type": "null", "description": "The class."}}}
    # A property may be called "description": only the words of a schema itself are left out.
    described = {"properties": {**one["properties"], "description": {"type": "string"}}}

    assert meaning(one) == meaning(reworded)
    assert meaning(one) != meaning(changed)
    assert meaning(one) != meaning(described)
