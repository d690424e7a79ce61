"""Which predictions a person is to review, and which images are a model's random sample."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droplens.domain.review import NONE, Reason, Review, draw, live_accuracy, review_of
from tests.support.reviews import sampled_review

KEY = "input/cars/a.jpg"


def a_result(version: str | None = "v1", **prediction: Any) -> dict[str, Any]:
    told = {"label": "red", "probability": 0.7, "confident": True, "familiar": True}
    return {
        "image": {"key": KEY, "version_id": version},
        "classifier": "cars",
        "prediction": {**told, **prediction},
        "top": [
            {"label": "red", "probability": 0.7},
            {"label": "blue", "probability": 0.25},
            {"label": "green", "probability": 0.05},
        ],
        "model": {"run_id": "20261122-120000-1a2b3c"},
        "classified_at": "2026-11-22T12:00:00Z",
    }


def test_a_confident_prediction_needs_no_review() -> None:
    for share in (0.0, draw(KEY, "v1")):
        assert review_of(a_result(), "results/cars/a.jpg.json", share) is None


def test_a_spot_check_is_entered_with_the_share_of_all() -> None:
    share = draw(KEY, "v1") * 2
    found = review_of(a_result(), "results/cars/a.jpg.json", share)
    assert found == Review(
        classifier="cars",
        key=KEY,
        version="v1",
        model="20261122-120000-1a2b3c",
        reason=Reason.SPOT_CHECK,
        sampled=share,
        predicted="red",
        probability=0.7,
        result="results/cars/a.jpg.json",
        order=0.5,
        entered=datetime(2026, 11, 22, 12, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("prediction", "reason"),
    [
        ({"confident": False}, Reason.UNSURE),
        ({"confident": False, "familiar": None}, Reason.UNSURE),
        ({"confident": False, "familiar": False}, Reason.UNFAMILIAR),
    ],
)
def test_what_a_model_leaves_to_a_person_is_entered_always(
    prediction: dict[str, Any], reason: Reason
) -> None:
    found = review_of(a_result(**prediction), "r", 0.0)
    assert found is not None
    assert (found.reason, found.sampled, found.order) == (reason, None, 0.45)


def test_an_unsure_one_that_is_drawn_is_in_the_sample_and_at_its_place() -> None:
    share = draw(KEY, "v1") * 4
    found = review_of(a_result(confident=False), "r", share)
    assert found is not None
    assert (found.reason, found.sampled) == (Reason.UNSURE, share)
    assert found.order == 0.25


def test_the_order_has_as_many_digits_as_the_queue_tells_apart() -> None:
    result = a_result(confident=False)
    result["top"][0]["probability"] = 0.7000014
    found = review_of(result, "r", 0.0)
    assert found is not None
    assert found.order == 0.450001


def test_of_one_class_there_is_no_second_to_be_close_to() -> None:
    result = a_result(confident=False)
    del result["top"][1:]
    found = review_of(result, "r", 0.0)
    assert found is not None
    assert found.order == 1.0


def test_a_result_of_v1_does_not_tell_unfamiliar_ones() -> None:
    result = a_result(confident=False)
    del result["prediction"]["familiar"]
    found = review_of(result, "r", 0.0)
    assert found is not None
    assert found.reason is Reason.UNSURE


def test_an_image_from_before_the_bucket_had_versions_has_s3_s_own_name_for_that() -> None:
    found = review_of(a_result(None, confident=False), "r", 0.0)
    assert found is not None
    assert found.version == "null"


@given(key=st.text(), version=st.text())
def test_a_draw_is_a_share_and_always_the_same(key: str, version: str) -> None:
    assert 0 <= draw(key, version) < 1
    assert draw(key, version) == draw(key, version)


def test_draws_are_uniform_over_versions_and_keys() -> None:
    """Kolmogorov and Smirnov's distance of so many draws exceeds 1.95 / sqrt(n) once in 1,000."""
    for draws in (
        sorted(draw(KEY, f"v{number}") for number in range(5000)),
        sorted(draw(f"input/cars/{number}.jpg", "v") for number in range(5000)),
    ):
        distance = max(abs(value - place / 5000) for place, value in enumerate(draws))
        assert distance < 1.95 / math.sqrt(5000)


def test_images_that_nobody_has_reviewed_say_nothing_of_the_accuracy() -> None:
    waits = [sampled_review()] * 9
    assert live_accuracy(waits) is None
    found = live_accuracy([*waits, *[sampled_review(label="red")] * 3])
    assert found is not None
    assert (found.value, found.count) == (1.0, 3)


def test_none_of_the_classes_is_wrong_where_the_model_was_confident_and_else_does_not_count() -> (
    None
):
    right = [sampled_review(label="red")] * 4
    confident = sampled_review(label=NONE)
    found = live_accuracy([*right, confident])
    assert found is not None
    assert (found.value, found.count) == (0.8, 5)
    for reason in (Reason.UNSURE, Reason.UNFAMILIAR):
        found = live_accuracy([*right, sampled_review(reason=reason, label=NONE)])
        assert found is not None
        assert (found.value, found.count) == (1.0, 4)
