"""What training counted is read as it was written, or not at all."""

import json
import random
from typing import Any

import pytest

from droplens.statistics.fixed_sequence import THRESHOLDS, Counts
from droplens.statistics.left_out import LeftOut, credit


def some(records: int = 60, seed: int = 1) -> LeftOut:
    chance = random.Random(seed)
    return LeftOut.of(
        [chance.uniform(0.3, 1) for _ in range(records)],
        [chance.randrange(4) for _ in range(records)],
        [chance.random() < 0.8 for _ in range(records)],
        4,
    )


def test_it_is_read_as_it_was_written() -> None:
    found = some()
    document = json.loads(json.dumps({"left_out_confidence": found.to_dict()}))
    assert LeftOut.from_training(document, 4) == found


def test_factors_are_the_share_that_is_correct_in_relation_to_the_probabilities() -> None:
    found = LeftOut.of([0.9] * 20 + [0.8] * 10, [0] * 20 + [1] * 10, [True] * 20 + [False] * 10, 3)
    # (20 + 10) / (18 + 10), (0 + 10) / (8 + 10); of a class without predictions 1.
    assert found.factors == (1.0714, 0.5556, 1.0)
    assert found.records == 30


def test_a_record_has_no_influence_on_its_own_factor() -> None:
    found = LeftOut.of([0.5, 0.5], [0, 0], [True, False], 1)
    # The right one has (0 + 10) / (0.5 + 10), the wrong one (1 + 10) / (0.5 + 10).
    worth = [(0.5 * 10 / 10.5, True), (0.5 * 11 / 10.5, False)]
    assert found.counts == Counts.of(worth)


def test_below_one_half_a_prediction_has_no_credit_however_reliable_its_class() -> None:
    assert (credit(0.5, 1.5), credit(0.6, 0.5)) == (0.75, 0.3)
    assert credit(0.499999, 2.0) == 0
    found = LeftOut.of([0.5, 0.45, 0.4], [0, 0, 0], [True] * 3, 1)
    assert found.counts.total[-1] == found.counts.right[-1] == 1
    # They tell of the class all the same: (3 + 10) / (1.35 + 10).
    assert (found.records, found.factors) == (3, (1.1454,))


def test_without_counts_only_the_factors_remain() -> None:
    found = some().without_counts()
    assert (found.records, found.factors) == (0, some().factors)
    assert set(found.counts.total) == set(found.counts.right) == {0}


def changed(**changes: Any) -> dict[str, Any]:
    return {"left_out_confidence": {**some().to_dict(), **changes}}


@pytest.mark.parametrize(
    "training",
    [
        None,
        {},
        {"left_out_confidence": None},
        {"left_out_confidence": []},
        {"left_out_confidence": {}},
        changed(left_out=0),
        changed(left_out="60 of them"),
        changed(left_out=float("inf")),
        changed(left_out=5),
        changed(factors=[1.0] * 3),
        changed(factors=[1.0, 1.0, 1.0, 0.0]),
        changed(factors=[1.0, 1.0, 1.0, float("nan")]),
        changed(factors=None),
        changed(thresholds=[0.9, 0.8]),
        changed(total=[0] * 5),
        changed(total=list(range(len(THRESHOLDS)))[::-1]),
        changed(right=[61] * len(THRESHOLDS)),
        changed(right=[-1] * len(THRESHOLDS)),
        changed(right={"a": 1}),
    ],
)
def test_a_document_that_is_none_is_no_evidence(training: Any) -> None:
    assert LeftOut.from_training(training, 4) is None
