"""The live accuracy is published for those who look, and beside what the evaluation promised."""

from collections.abc import Iterator

import numpy as np
import pytest

from droplens.domain.card import Measurement, ModelCard
from droplens.domain.review import Reason, SampledReview
from droplens.journey.live_accuracy import ALARM_Z, FEWEST_REVIEWS, LiveAccuracies, shortfall
from droplens.runtime.telemetry import flush_of_classifiers, metrics
from droplens.state.cards import Cards
from droplens.statistics.intervals import wilson, wilson_of_share
from tests.support.aws_account import Cloud
from tests.support.builders import card, go_live
from tests.support.cloudwatch import printed
from tests.support.reviews import review, sampled_review


def measured(accuracy: float, pictures: int) -> ModelCard:
    return card(
        measured=Measurement(
            pictures=pictures,
            available=pictures,
            accuracy=accuracy,
            top5=1.0,
            latency_ms_p50=5,
            latency_ms_p95=9,
        )
    )


def sample(right: int, wrong: int) -> list[SampledReview]:
    """Spot checks of a model that said "red", all reviewed."""
    labels = ["red"] * right + ["blue"] * wrong
    return [sampled_review(label=label) for label in labels]


def test_nothing_is_missing_where_the_intervals_overlap() -> None:
    assert shortfall(sample(90, 10), measured(0.9, 500)) == 0
    assert shortfall(sample(80, 20), measured(0.9, 500)) == 0


def test_what_is_missing_is_the_distance_of_the_intervals() -> None:
    upper = wilson_of_share(0.5, 100, ALARM_Z)[1]
    assert shortfall(sample(50, 50), measured(0.9, 500)) == pytest.approx(
        wilson(450, 500)[0] - upper
    )


def test_without_a_review_nothing_is_missing() -> None:
    assert shortfall([sampled_review()] * 30, measured(0.9, 500)) == 0


@pytest.mark.parametrize(("accuracy", "pictures"), [(0.7, 100), (0.9, 2000), (0.97, 500)])
def test_a_model_as_good_as_promised_is_seldom_said_to_be_worse_however_often_one_looks(
    accuracy: float, pictures: int
) -> None:
    """After each of 300 reviews, for every outcome of the validation; of a worse one it is said."""
    rng = np.random.default_rng(5)
    looks = np.arange(FEWEST_REVIEWS, 301)
    uppers = np.ones((len(looks), 301))
    for row, count in enumerate(range(FEWEST_REVIEWS, 301)):
        ends = [wilson_of_share(k / count, count, ALARM_Z)[1] for k in range(count + 1)]
        uppers[row, : count + 1] = ends
    promised = [wilson(int(k), pictures)[0] for k in rng.binomial(pictures, accuracy, 2000)]

    def raised(true: float) -> float:
        right = np.cumsum(rng.random((2000, 300)) < true, axis=1)[:, FEWEST_REVIEWS - 1 :]
        return float((uppers[np.arange(len(looks)), right].min(axis=1) < promised).mean())

    assert raised(accuracy) < 0.015
    assert raised(accuracy - 0.2) > 0.7


@pytest.fixture
def live(cloud: Cloud, cards: Cards) -> Iterator[Cloud]:
    metrics.clear_metrics()
    flush_of_classifiers()  # of tests that ran before in this process
    go_live(cards, measured(0.9, 500))
    yield cloud
    metrics.clear_metrics()


def decided(cloud: Cloud, count: int, label: str) -> None:
    """Spot checks that are reviewed with this label, the model having said "red"."""
    for number in range(count):
        key = f"input/cars/{label}{number}.jpg"
        version = cloud.put(key, b"image")["VersionId"]
        entered = review(key=key, version=version, reason=Reason.SPOT_CHECK, sampled=0.01)
        cloud.reviews().enter(entered)
        cloud.reviews().decide(entered, label, "ann")


def published(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> dict[str, list[float]]:
    LiveAccuracies(cards=Cards(cloud.bucket), reviews=cloud.reviews()).publish()
    flush_of_classifiers()
    metrics.flush_metrics()
    return {name: values for (_, name, _), values in printed(capsys.readouterr().out).items()}


def test_both_are_published_once_enough_are_reviewed(
    live: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    decided(live, FEWEST_REVIEWS - 1, "red")
    assert published(live, capsys) == {}
    decided(live, 1, "blue")
    assert published(live, capsys) == {
        "LiveAccuracy": [pytest.approx(95.0)],
        "LiveAccuracyShortfall": [0.0],
    }
