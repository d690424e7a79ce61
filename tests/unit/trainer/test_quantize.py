"""Which pictures calibrate the int8 variant, and what speaks against keeping it."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from trainer.quantize import Trial, evenly

LABELS = np.arange(100, dtype=np.int64) % 2


def chance() -> np.random.Generator:
    return np.random.default_rng(7)


def test_calibration_pictures_are_as_even_over_the_classes_as_they_can_be() -> None:
    labels = np.repeat(np.arange(4), (100, 50, 3, 1))
    chosen = evenly(labels, 20, chance())
    assert np.bincount(labels[chosen]).tolist() == [8, 8, 3, 1]
    assert (np.diff(chosen) > 0).all()
    assert chosen.tolist() == evenly(labels, 20, chance()).tolist()


def test_where_there_are_fewer_all_of_them_calibrate_and_of_many_classes_some() -> None:
    assert evenly(LABELS, 1000, chance()).tolist() == list(range(100))
    chosen = evenly(np.arange(500) % 250, 60, chance())
    assert len(set(chosen % 250)) == 60


def says(answers: Sequence[int], sure: float) -> NDArray[np.float32]:
    """Probabilities of two classes: `sure` of each answer."""
    probabilities = np.full((len(answers), 2), 1 - sure, np.float32)
    probabilities[np.arange(len(answers)), list(answers)] = sure
    return probabilities


def trial(wrong: int = 0, sure: float = 0.9, milliseconds: float = 5) -> Trial:
    """An int8 graph that is wrong `wrong` times in 100, beside a faultless fp32 of 10 ms."""
    answers = LABELS.copy()
    answers[:wrong] ^= 1
    return Trial(
        labels=LABELS,
        fp32=says(LABELS.tolist(), 0.9),
        int8=says(answers.tolist(), sure),
        fp32_seconds=[0.01] * 100,
        # A hiccup now and then is not what decides.
        int8_seconds=[1.0] * 20 + [milliseconds / 1000] * 80,
    )


def test_a_variant_that_answers_alike_in_half_the_time_has_nothing_against_it() -> None:
    found = trial(wrong=1).report()
    assert found["reason"] is None
    assert found["accuracy"] == {"fp32": 1.0, "int8": 0.99}
    assert (found["only_fp32_right"], found["only_int8_right"]) == (1, 0)
    assert found["agreement"] == 0.99
    assert found["moved"] == pytest.approx(0.008)
    assert found["p50_ms"] == pytest.approx({"fp32": 10, "int8": 5})
    assert found["speedup"] == pytest.approx(2)


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        (trial(wrong=5), "less accurate"),
        (trial(sure=0.8), "moves more than 5% of the probability"),
        (trial(milliseconds=9), "less than 1.2x as fast"),
    ],
)
def test_a_variant_that_is_worse_in_anything_is_dropped_for_it(
    measured: Trial, reason: str
) -> None:
    assert measured.report()["reason"] == reason
