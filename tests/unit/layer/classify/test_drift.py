"""Predictions are counted so that drift can be told from chance."""

from typing import Any

import pytest
from aws_lambda_powertools.metrics import MetricUnit

from droplens.classify.drift import count_prediction, expected_share
from droplens.domain.card import Novelty
from droplens.runtime.telemetry import (
    SERVICE,
    count_of_classifier,
    flush_of_classifiers,
    metrics,
)
from tests.support.builders import card
from tests.support.cloudwatch import printed

pytestmark = pytest.mark.filterwarnings("ignore:No application metrics to publish")

TELLS = card(novelty=Novelty(limit=1.0, share=0.0, quantiles=(0.0, 1.0)))


@pytest.fixture(autouse=True)
def _fresh(capsys: pytest.CaptureFixture[str]) -> None:
    flush_of_classifiers()
    metrics.clear_metrics()
    capsys.readouterr()


def counted(capsys: pytest.CaptureFixture[str]) -> dict[str, list[float]]:
    """Every metric by its name, with its classifier where it has one."""
    flush_of_classifiers()
    metrics.flush_metrics()
    found = {}
    for (space, name, dimensions), values in printed(capsys.readouterr().out).items():
        own = dict(dimensions)
        assert (space, own.pop("service")) == ("Droplens", SERVICE)
        found["/".join([name, *own.values()])] = values
    return found


def prediction(familiar: bool | None, probability: float = 0.5) -> dict[str, Any]:
    return {"probability": probability, "familiar": familiar}


def test_unfamiliar_pictures_are_counted_beside_what_is_expected(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for familiar in (True, False, True):
        count_prediction(prediction(familiar), TELLS)
    expected = expected_share(0.0, TELLS.measured.pictures)
    assert counted(capsys) == {
        "PictureUnfamiliar": [0, 1, 0],
        "UnfamiliarExpected": [expected] * 3,
        "PredictionProbability/cars": [50] * 3,
    }


def test_a_model_that_cannot_tell_is_no_part_of_the_share(
    capsys: pytest.CaptureFixture[str],
) -> None:
    count_prediction(prediction(None, 0.25), TELLS)
    count_prediction(prediction(None, 0.75), card(classifier="cats"))
    assert counted(capsys) == {
        "PredictionProbability/cars": [25],
        "PredictionProbability/cats": [75],
    }


def test_a_flush_leaves_nothing_for_the_next_one(capsys: pytest.CaptureFixture[str]) -> None:
    count_of_classifier("cars", "PredictionProbability", 50.0, MetricUnit.Percent)
    assert counted(capsys) == {"PredictionProbability/cars": [50]}
    assert counted(capsys) == {}


@pytest.mark.parametrize(
    ("share", "pictures", "expected"),
    [(0.0, 60, 0.0432), (0.01, 400, 0.0221), (0.01, 4000, 0.0130), (1.0, 10, 1.0)],
)
def test_fewer_validation_pictures_leave_a_larger_share_to_be_expected(
    share: float, pictures: int, expected: float
) -> None:
    assert expected_share(share, pictures) == pytest.approx(expected, abs=1e-4)
