"""Candidates contain the right class as often as asked for, on images that did not choose them."""

import random

import pytest

from droplens.evaluation.candidates import candidates
from droplens.statistics.calibration import folds


def drawn(pictures: int, seed: int = 3) -> tuple[list[list[float]], list[int], list[int]]:
    """Rows of eight classes whose true class is drawn by the row, and their folds."""
    chance = random.Random(seed)
    rows, truths = [], []
    for _ in range(pictures):
        row = [chance.expovariate(1) ** 3 for _ in range(8)]
        row = [value / sum(row) for value in row]
        rows.append(row)
        truths.append(chance.choices(range(8), row)[0])
    return rows, truths, folds(truths, [str(n) for n in range(pictures)], 5)


@pytest.mark.parametrize("precision", [0.8, 0.95, 0.99])
def test_the_coverage_is_as_asked_for(precision: float) -> None:
    rows, truths, fold_of = drawn(3000)
    found = candidates(rows, truths, fold_of, precision)
    section = found.to_dict()
    assert section["coverage"]["low"] <= precision <= section["coverage"]["high"]
    assert section["precision"] == precision
    assert sum(count for _, count in section["sizes"]) == 3000
    total = sum(size * count for size, count in section["sizes"])
    assert section["mean_size"] == pytest.approx(total / 3000, abs=1e-6)
    assert found.sets is not None
    new, right, _ = drawn(3000, seed=4)
    covered = sum(truth in found.sets.apply(row) for row, truth in zip(new, right, strict=True))
    assert covered / 3000 == pytest.approx(precision, abs=0.02)


def test_an_image_does_not_choose_the_set_that_it_is_judged_by() -> None:
    rows, truths, fold_of = drawn(200)
    first = candidates(rows, truths, fold_of, 0.9)
    worst = min(range(200), key=lambda n: rows[n][truths[n]])
    rows[worst] = [1.0 if label != truths[worst] else 0.0 for label in range(8)]
    second = candidates(rows, truths, fold_of, 0.9)
    for number in range(200):
        if fold_of[number] == fold_of[worst] and number != worst:
            assert second.sizes[number] == first.sizes[number]


@pytest.mark.parametrize(("pictures", "chosen"), [(19, False), (25, True)])
def test_with_too_few_pictures_there_are_none(pictures: int, chosen: bool) -> None:
    # The fold's complement must have 19 for 95 %: of 25 these are 20.
    rows, truths, fold_of = drawn(pictures)
    found = candidates(rows, truths, fold_of, 0.95)
    assert (found.sets is not None) is chosen
    if not chosen:
        assert found.to_dict() == {
            "method": None,
            "parameters": {},
            "precision": 0.95,
            "coverage": None,
            "mean_size": None,
            "sizes": [],
            "reason": "too few validation pictures: 19, and it takes more than 19 to choose label "
            "sets that contain the right class in 95 % of pictures",
        }
