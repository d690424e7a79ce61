"""The live accuracy is unbiased and its interval holds, whatever of the sample is reviewed."""

import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from droplens.statistics.intervals import Z95_TWO_SIDED, wilson, wilson_of_share
from droplens.statistics.live_accuracy import Sampled, live_accuracy

CONFIDENT, UNSURE = "confident", "unsure"
# Stratum: share of all images, accuracy.
MODEL = {CONFIDENT: (0.7, 0.97), UNSURE: (0.3, 0.6)}
ACCURACY = 0.7 * 0.97 + 0.3 * 0.6

Reviewed = Callable[[str, bool, random.Random], bool]


def drawn(rng: random.Random, count: int, reviewed: Reviewed, share: float = 0.01) -> list[Sampled]:
    """A random sample of the model's images, of which some are reviewed."""
    sample = []
    for _ in range(count):
        stratum = CONFIDENT if rng.random() < MODEL[CONFIDENT][0] else UNSURE
        correct = rng.random() < MODEL[stratum][1]
        known = correct if reviewed(stratum, correct, rng) else None
        sample.append(Sampled(share, stratum, known))
    return sample


def simulated(samples: Iterator[list[Sampled]]) -> tuple[float, float]:
    """The mean of the values, and the share of the intervals that contain the accuracy."""
    found = [one for sample in samples if (one := live_accuracy(sample)) is not None]
    mean = sum(one.value for one in found) / len(found)
    return mean, sum(one.lower <= ACCURACY <= one.upper for one in found) / len(found)


def everything(stratum: str, correct: bool, rng: random.Random) -> bool:
    return True


def confident_ones_rather(stratum: str, correct: bool, rng: random.Random) -> bool:
    return rng.random() < {CONFIDENT: 0.8, UNSURE: 0.3}[stratum]


def unsure_ones_rather(stratum: str, correct: bool, rng: random.Random) -> bool:
    return rng.random() < {CONFIDENT: 0.3, UNSURE: 0.9}[stratum]


@pytest.mark.parametrize("reviewed", [everything, confident_ones_rather, unsure_ones_rather])
@pytest.mark.parametrize("count", [60, 300])
def test_it_is_unbiased_whichever_kind_is_reviewed_more(count: int, reviewed: Reviewed) -> None:
    rng = random.Random(7)
    mean, covered = simulated(drawn(rng, count, reviewed) for _ in range(600))
    # A mean of 600 has a standard error of 0.0025 at most here, and a share of 0.95 one of 0.009.
    assert mean == pytest.approx(ACCURACY, abs=0.0075)
    assert covered > 0.92


def test_images_drawn_with_another_share_have_the_weight_of_what_they_stand_for() -> None:
    """The share was 0.05 while the model was better."""
    sample = [Sampled(0.05, CONFIDENT, True)] * 100 + [Sampled(0.01, CONFIDENT, False)] * 20
    found = live_accuracy(sample)
    assert found is not None
    assert found.value == pytest.approx(0.5)
    # 4,000^2 / (100 * 20^2 + 20 * 100^2) = 66.7 images of equal weight.
    low, high = wilson_of_share(0.5, 4000**2 / 240_000, Z95_TWO_SIDED)
    assert [found.lower, found.upper] == pytest.approx([low, high])
    assert found.count == 120


def test_of_one_weight_it_is_wilson_s_interval() -> None:
    sample = [Sampled(0.01, CONFIDENT, number < 83) for number in range(91)]
    low, high = wilson(83, 91)
    found = live_accuracy([*sample, Sampled(0.01, CONFIDENT, None)])
    assert found is not None
    assert found.value == pytest.approx(83 / 91)
    assert [found.lower, found.upper] == pytest.approx([low, high])
    assert found.count == 91


def effective_size(strata: list[list[Sampled]]) -> float:
    """The number of images that the module's docstring defines, by arrays of single images."""
    drawn = [np.array([1 / one.share for one in stratum]) for stratum in strata]
    totals = np.array([weights.sum() for weights in drawn])
    parts = totals / totals.sum()
    sizes, counted, accuracies = [], [], []
    for stratum in strata:
        known = [one for one in stratum if one.correct is not None]
        weights = np.array([1 / one.share for one in known])
        sizes.append(weights.sum() ** 2 / (weights**2).sum())
        counted.append(np.average([one.counted for one in known], weights=weights))
        own = [one for one in known if one.counted]
        accuracy = np.average(
            [bool(one.correct) for one in own], weights=[1 / one.share for one in own]
        )
        size = sizes[-1] * counted[-1]
        accuracies.append((size * accuracy + 1) / (size + 2))
    mean = np.average(accuracies, weights=totals * counted)
    variance = 0.0
    everything = np.concatenate(drawn)
    for part, size, share, accuracy in zip(parts, sizes, counted, accuracies, strict=True):
        # The residual of an image: correct, wrong, or not counted, with these probabilities.
        residuals = np.array([1 - mean, -mean, 0.0])
        chances = [share * accuracy, share * (1 - accuracy), 1 - share]
        center = np.average(residuals, weights=chances)
        variance += part**2 * np.average((residuals - center) ** 2, weights=chances) / size
        variance += part * center**2 * (everything**2).sum() / everything.sum() ** 2
    counts = float(parts @ counted)
    return float(mean * (1 - mean) * counts**2 / variance)


def test_the_interval_is_that_of_the_linearized_ratio() -> None:
    confident = [
        *[Sampled(0.05, CONFIDENT, True)] * 30,
        *[Sampled(0.02, CONFIDENT, True)] * 12,
        *[Sampled(0.02, CONFIDENT, False)] * 3,
        *[Sampled(0.05, CONFIDENT, None)] * 9,
    ]
    unsure = [
        *[Sampled(0.05, UNSURE, True)] * 5,
        *[Sampled(0.02, UNSURE, False)] * 7,
        *[Sampled(0.05, UNSURE, False, counted=False)] * 4,
        *[Sampled(0.02, UNSURE, None)] * 20,
    ]
    found = live_accuracy([*unsure, *confident])
    assert found is not None
    ends = wilson_of_share(found.value, effective_size([confident, unsure]), Z95_TWO_SIDED)
    assert [found.lower, found.upper] == pytest.approx(ends)


def test_without_a_review_nothing_is_known() -> None:
    assert live_accuracy([]) is None
    assert live_accuracy([Sampled(0.01, CONFIDENT, None)]) is None
    assert live_accuracy([Sampled(0.01, UNSURE, False, counted=False)]) is None


def test_what_does_not_count_takes_no_part_but_stands_for_its_like() -> None:
    """Half of the unsure images are of no class: the unknown unsure one half counts."""
    sample = [
        Sampled(0.01, CONFIDENT, True),
        Sampled(0.01, CONFIDENT, True),
        Sampled(0.01, UNSURE, False),
        Sampled(0.01, UNSURE, False, counted=False),
        Sampled(0.01, UNSURE, None),
        Sampled(0.01, UNSURE, None),
    ]
    found = live_accuracy(sample)
    assert found is not None
    assert found.value == pytest.approx(2 / 4)
    assert found.count == 3
