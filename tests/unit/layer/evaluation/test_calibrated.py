"""A correction of the endpoint's probabilities is judged on images that it was not fitted on."""

import random

import pytest

from droplens.evaluation.calibrated import FEWEST_TO_FIT, FOLDS, calibrated
from droplens.statistics.calibration import IDENTITY, cross_fit, folds


def overconfident(pictures: int, seed: int = 1) -> tuple[list[list[float]], list[int]]:
    """Predictions that call themselves 99 % sure, and are right four times in five."""
    chance = random.Random(seed)
    rows, truths = [], []
    for record in range(pictures):
        truth = record % 3
        said = truth if chance.random() < 0.8 else (truth + 1) % 3
        sure = chance.uniform(0.985, 0.999)
        row = [(1 - sure) / 2] * 3
        row[said] = sure
        rows.append(row)
        truths.append(truth)
    return rows, truths


def fold_of(truths: list[int]) -> list[int]:
    return folds(truths, [f"{number:04}" for number in range(len(truths))], FOLDS)


def test_a_model_that_is_too_sure_of_itself_is_cooled_down() -> None:
    rows, truths = overconfident(400)
    found = calibrated(rows, truths, fold_of(truths)).to_dict()
    assert found["method"] == "temperature and uniform"
    assert found["parameters"]["temperature"] > 1
    assert (found["fitted_on"], found["judged_on"], found["folds"]) == (400, 400, 5)
    assert found["ece_before"] > 0.1
    assert found["ece_after"] < 0.06
    assert found["nll_after"] < found["nll_before"]
    assert sum(entry["count"] for entry in found["bins_after"]) == 400


def test_every_image_is_judged_by_a_map_that_it_was_not_fitted_on() -> None:
    rows, truths = overconfident(200)
    fold = fold_of(truths)
    first = calibrated(rows, truths, fold).rows
    for changed in (0, 1, 77):
        others = list(truths)
        others[changed] = (truths[changed] + 1) % 3
        second = calibrated(rows, others, fold).rows
        same = [a == b for a, b in zip(first, second, strict=True)]
        assert same == [number == fold[changed] for number in fold]


def test_the_final_map_is_fitted_on_every_image() -> None:
    rows, truths = overconfident(200)
    found = calibrated(rows, truths, fold_of(truths)).calibration
    assert found == cross_fit(rows, truths, fold_of(truths)).calibration
    for changed in range(0, 200, 40):
        others = list(truths)
        others[changed] = (truths[changed] + 1) % 3
        assert calibrated(rows, others, fold_of(truths)).calibration != found


def test_calibrated_probabilities_are_kept() -> None:
    chance = random.Random(5)
    kept = 0
    for _ in range(40):
        rows, truths = [], []
        for _ in range(150):
            sure = chance.uniform(0.4, 1)
            rows.append([sure, 1 - sure])
            truths.append(0 if chance.random() < sure else 1)
        found = calibrated(rows, truths, fold_of(truths))
        kept += found.calibration == IDENTITY
        assert found.calibration != IDENTITY or found.rows is rows
    assert kept >= 38


@pytest.mark.parametrize(("pictures", "fitted"), [(FEWEST_TO_FIT - 1, 0), (60, 60)])
def test_on_few_pictures_nothing_is_fitted(pictures: int, fitted: int) -> None:
    rows, truths = [[0.98, 0.02]] * pictures, [n % 2 for n in range(pictures)]
    found = calibrated(rows, truths, fold_of(truths)).to_dict()
    assert found["fitted_on"] == fitted
    if not fitted:
        assert (found["method"], found["parameters"], found["folds"]) == ("none", {}, 0)
        assert found["ece_after"] == found["ece_before"]


def test_errors_are_over_all_images() -> None:
    # Of the four, each 60 % sure, two are correct: an error of 0.1, in the bin [0.6, 0.667).
    found = calibrated([[0.6, 0.2, 0.2]] * 4, [0, 1, 0, 1], [0, 1, 2, 3])
    (bin_before,) = found.before
    assert (bin_before.low, bin_before.count, bin_before.accuracy) == (0.6, 4, 0.5)
    assert found.to_dict()["ece_before"] == 0.1
    # The true classes had 0.6, 0.2, 0.6 and 0.2: minus the mean of ln 0.6 and ln 0.2.
    assert found.log_loss_before == pytest.approx(1.060132, abs=1e-6)
