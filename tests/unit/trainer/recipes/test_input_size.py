"""The input's size: no larger than pays, no smaller than the pictures need, within its bound."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.trainer import drawn_records, lay_out
from trainer.data.features import Channel
from trainer.nets.convert import write_backbone
from trainer.recipes import input_size
from trainer.recipes.input_size import Choice, Trial, can_choose, choose, sample, search, shape

RECORDS = 200


class Predictions:
    """Log-likelihoods that rise with the logarithm of the area up to `enough` pixels."""

    def __init__(self, enough: float, gain: float, square: float = 0.0) -> None:
        self.enough, self.gain, self.square = enough, gain, square
        self.tried: list[tuple[int, int]] = []

    def __call__(self, size: tuple[int, int]) -> Trial:
        self.tried.append(size)
        height, width = size
        mean = self.gain * np.log(min(height * width, self.enough))
        mean += self.square * (height == width)
        noise = np.random.default_rng(height * width).normal(0, 0.01, RECORDS)
        return Trial(height, width, 0.5, mean + noise - noise.mean() - 10)


def chosen(attempt: Predictions, aspect: float = 1.0, time: float = 3.0) -> Choice:
    return search(attempt, aspect, time, RECORDS)


def test_the_largest_size_within_the_serving_time_is_taken_while_it_pays() -> None:
    attempt = Predictions(1e9, 0.1)
    choice = chosen(attempt)
    assert (choice.height, choice.width) == (384, 384)
    assert attempt.tried == [(224, 224), (160, 160), (288, 288), (384, 384)]
    assert [(t.height, t.width) for t in choice.trials] == attempt.tried
    again = chosen(Predictions(1e9, 0.1), time=2.0)
    assert (again.height, again.width) == (288, 288)
    assert chosen(Predictions(1e9, 0.1), time=1.0).width == 224
    assert chosen(Predictions(1e9, 0.1), time=10.0).width == 512


def test_a_smaller_size_is_taken_where_it_predicts_as_well() -> None:
    attempt = Predictions(96 * 96, 0.1)
    choice = chosen(attempt)
    assert choice.height == 96
    assert attempt.tried == [(224, 224), (160, 160), (96, 96)]
    assert chosen(Predictions(160 * 160, 0.1)).height == 160


def test_a_larger_size_whose_gain_may_be_chance_is_not_taken() -> None:
    # A gain of 1.5 standard errors, which are 0.01 * sqrt(2 / 200).
    attempt = Predictions(1e9, 0.0015 / np.log((288 / 224) ** 2))
    assert chosen(attempt).height == 224
    assert attempt.tried == [(224, 224), (160, 160), (288, 288)]


def test_another_shape_of_the_chosen_area_is_taken_where_it_predicts_better() -> None:
    attempt = Predictions(1e9, 0.1, square=-0.01)
    choice = chosen(attempt, aspect=1.96)
    assert (choice.height, choice.width) == (320, 448)
    assert attempt.tried == [(224, 224), (160, 160), (288, 288), (384, 384), (320, 448)]
    upright = chosen(Predictions(1e9, 0.1, square=-0.01), aspect=1 / 1.96)
    assert (upright.height, upright.width) == (448, 320)
    small = chosen(Predictions(96 * 96, 0.1, square=-0.01), aspect=1.96)
    assert (small.height, small.width) == (80, 112)
    squares = Predictions(1e9, 0.1, square=0.01)
    assert chosen(squares, aspect=1.96).width == 384
    assert squares.tried[-1] == (320, 448)
    assert chosen(Predictions(1e9, 0.1, square=-0.0015), aspect=1.96).width == 384
    nearly_square = Predictions(1e9, 0.1)
    chosen(nearly_square, aspect=1.2)
    assert all(height == width for height, width in nearly_square.tried)


@pytest.mark.parametrize("aspect", [0.3, 0.6, 0.9, 1.0, 1.33, 1.78, 9.0])
@pytest.mark.parametrize("side", [96, 160, 224, 288, 384])
def test_shapes_have_nearly_the_area_of_a_square_and_never_more_than_is_allowed(
    side: int, aspect: float
) -> None:
    height, width = shape(side, aspect, 3 * 224**2)
    assert height * width <= 3 * 224**2
    assert height * width == pytest.approx(side**2, rel=0.16)
    assert width / height == pytest.approx(min(max(aspect, 0.5), 2.0), rel=0.2)


def test_a_better_trial_is_better_by_standard_errors_of_the_paired_gains() -> None:
    rng = np.random.default_rng(0)
    before = rng.normal(-2, 1, 400)
    gains = rng.normal(0, 0.2, 400)
    gains -= gains.mean()
    error = gains.std(ddof=1) / 20
    first = Trial(1, 1, 0.5, before)
    better = Trial(1, 1, 0.5, before + gains + 2 * error)
    assert better.is_better_than(first, 1.9)
    assert not better.is_better_than(first, 2.1)
    assert not first.is_better_than(first, 1)
    assert first.loss == pytest.approx(-before.mean())


def test_a_sample_has_enough_records_of_its_classes() -> None:
    rng = np.random.default_rng(3)
    for classes, records, count in ((10, 300, 300), (10, 8000, 1500), (5000, 40000, 1500)):
        labels = np.arange(records) % classes
        found = sample(labels, rng)
        assert len(found) == count
        assert (np.diff(found) > 0).all()
        assert can_choose(labels[found])
    assert len(sample(np.arange(3000) % 10, rng)) == 750


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.arange(100) % 50, True),
        (np.arange(98) % 49, False),
        (np.zeros(500, np.int64), False),
        (np.arange(500), False),
    ],
)
def test_sizes_are_compared_where_a_hundred_records_can_be_left_out(
    labels: np.ndarray, expected: bool
) -> None:
    assert can_choose(labels) is expected


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("weights"))


def test_drawings_of_74_pixels_need_no_large_input(
    tmp_path: Path, backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(tmp_path, drawn_records(10), drawn_records(1))
    training = Channel.open("train", tmp_path / "input/data/train", 3)

    def chosen_size() -> Choice:
        return choose(
            backbone, training, aspect_ratio=1.96, max_serving_time=3.0, batch_size=8, seed=0
        )

    few = chosen_size()
    assert few == Choice(224, 224, 0, ())
    monkeypatch.setattr(input_size, "LEAST_LEFT_OUT", 20)
    choice = chosen_size()
    assert choice.records == 30
    assert choice.height * choice.width <= 3 * 224**2
    assert {(t.height, t.width) for t in choice.trials} == {
        (224, 224),
        (160, 160),
        (96, 96),
        (80, 112),
    }
    assert all(len(t.likelihoods) == 30 for t in choice.trials)
    report = choice.report()
    assert report["tried"][0]["loss"] == pytest.approx(choice.trials[0].loss)
    assert (report["height"], report["width"]) == (choice.height, choice.width)
