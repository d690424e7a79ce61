"""Rankings, and probabilities as an endpoint sends them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droplens.domain import result
from droplens.domain.result import Response, UnexpectedResponse, parse_response, rank
from tests.support.builders import card


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_the_ranking_holds_the_best_five_in_order(probabilities: list[float]) -> None:
    classes = tuple(f"class {number}" for number in range(len(probabilities)))
    ranked = rank(probabilities, card(classes=classes))
    assert len(ranked) == min(5, len(classes))
    assert ranked[0].probability == round(max(probabilities), 6)
    assert [entry.probability for entry in ranked] == sorted(
        (entry.probability for entry in ranked), reverse=True
    )
    assert len({entry.label for entry in ranked}) == len(ranked)


def test_ties_are_broken_in_class_order() -> None:
    ranked = rank([0.25, 0.25, 0.25, 0.25], card(classes=("d", "c", "b", "a")))
    assert [entry.label for entry in ranked] == ["d", "c", "b", "a"]


def test_a_probability_a_hair_above_one_is_one() -> None:
    assert rank([1.0000009, 0.0], card())[0].probability == 1.0


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not a list"),
        (b"no", "not a list"),
        (b'{"predictions": []}', "not a list"),
        (b'{"probabilities": null}', "not a list"),
        (b'{"probabilities": [1.0], "novelty": 1}', "1 probabilities for 2"),
        (b'{"probabilities": [0.5, 0.5], "novelty": NaN}', "no finite number"),
        (b'{"probabilities": [0.5, 0.5], "novelty": 1e999}', "no finite number"),
        (b'{"probabilities": [0.5, 0.5], "novelty": 1' + b"0" * 400 + b"}", "no finite number"),
        (b'{"probabilities": [0.5, 0.5], "novelty": "1"}', "no finite number"),
        (b'{"probabilities": [0.5, 0.5], "novelty": true}', "no finite number"),
        (b"[1" + b"0" * 400 + b", 0]", "not a list"),
        (b"[" * 100_000, "not a list"),
        (b'"01"', "not a list"),
        (b"0.5", "not a list"),
        (b'[0.5, "many"]', "not a list"),
        (b"[0.5, null]", "not a list"),
        (b"[[0.5], [0.5]]", "not a list"),
        (b"[1.0]", "1 probabilities for 2"),
        (b"[0.2, 0.3, 0.5]", "3 probabilities for 2"),
        (b"[NaN, 0.5]", "no probabilities"),
        (b"[Infinity, 0.5]", "no probabilities"),
        (b"[-0.1, 1.1]", "no probabilities"),
        (b"[3.1, -2.7]", "no probabilities"),
    ],
)
def test_an_answer_that_is_not_one_probability_per_class_is_unexpected(
    body: bytes, why: str
) -> None:
    with pytest.raises(UnexpectedResponse, match=why):
        parse_response(body, 2)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=200))
def test_probabilities_are_read_as_they_were_sent(probabilities: list[float]) -> None:
    body = json.dumps(probabilities).encode()
    assert parse_response(body, len(probabilities)) == Response(probabilities, None)


@pytest.mark.parametrize(
    ("body", "novelty"),
    [
        (b'{"probabilities": [0.25, 0.75], "novelty": 12.5}', 12.5),
        (b'{"probabilities": [0.25, 0.75], "novelty": -3}', -3.0),
        (b'{"probabilities": [0.25, 0.75], "novelty": null}', None),
        (b'{"probabilities": [0.25, 0.75], "since": 2}', None),
    ],
)
def test_a_response_may_have_a_novelty(body: bytes, novelty: float | None) -> None:
    assert parse_response(body, 2) == Response([0.25, 0.75], novelty)


def test_json_of_a_result_keeps_every_script_readable() -> None:
    text = result.to_json({"label": "Škoda 比亚迪"}).decode()
    assert "Škoda 比亚迪" in text
