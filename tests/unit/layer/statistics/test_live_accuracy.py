"""The live accuracy is unbiased and its interval holds, whatever of the sample is reviewed."""

import random
from collections.abc import Callable, Iterator

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
