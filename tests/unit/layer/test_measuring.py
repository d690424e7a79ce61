"""A candidate is measured on the very records, through the very endpoint."""

import dataclasses
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError
from hypothesis import given
from hypothesis import strategies as st

from droplens.confidence import Z95_ONE_SIDED, wilson
from droplens.endpoint import EndpointMissing, probabilities
from droplens.errors import RetryLater, UserError
from droplens.measuring import (
    CONFIDENT_PRECISION,
    SAMPLE,
    Judged,
    confident_from,
    judged,
    measure,
    summarise,
)
from droplens.packed import read_packed
from droplens.pictures import Preprocessing
from droplens.promotion import sender_preprocessing
from droplens.result import UnexpectedAnswer
from tests.unit.layer.account import Cloud
from tests.unit.layer.fakes import FakeRuntime, refusal
from tests.unit.layer.made import RUN, SIDE, pack, redness

ANSWERS = st.lists(
    st.builds(
        Judged,
        st.booleans(),
        st.just(True),
        st.sampled_from([0.1 * n for n in range(11)]),
        st.floats(0, 1),
    ),
    min_size=1,
    max_size=60,
)


def answer(right: bool, probability: float, seconds: float = 0.01) -> Judged:
    return Judged(right, True, probability, seconds)


def test_an_answer_is_right_if_its_best_class_is_the_truth() -> None:
    said = judged([0.1, 0.7, 0.2], 1, 0.05)
    assert said == Judged(right=True, in_top5=True, probability=0.7, seconds=0.05)
    assert not judged([0.1, 0.7, 0.2], 2, 0).right


def test_a_tie_is_judged_in_class_order_as_results_are() -> None:
    assert judged([0.5, 0.5], 0, 0).right
    assert not judged([0.5, 0.5], 1, 0).right


def test_the_sixth_class_is_not_among_the_first_five() -> None:
    probabilities = [0.3, 0.2, 0.15, 0.13, 0.12, 0.1]
    assert judged(probabilities, 4, 0).in_top5
    assert not judged(probabilities, 5, 0).in_top5


def test_a_summary_gives_shares_and_latencies_in_milliseconds() -> None:
    answers = [answer(n < 3, 0.5, n / 1000) for n in range(5)]
    summary = summarise(answers, 40)
    assert (summary.pictures, summary.available) == (5, 40)
    assert summary.accuracy == 0.6
    assert summary.top5 == 1.0
    assert summary.latency_ms_p50 == 2.0
    assert summary.latency_ms_p95 == 3.8


def test_one_answer_alone_can_be_summarised() -> None:
    summary = summarise([answer(True, 0.5, 0.012)], 1)
    assert (summary.latency_ms_p50, summary.latency_ms_p95) == (12.0, 12.0)


def test_answers_are_confident_from_where_they_can_be_relied_on() -> None:
    right = [answer(True, 0.9)] * 60 + [answer(True, 0.8)] * 40
    assert confident_from([*right, *[answer(False, 0.7)] * 9]) == 0.8
    assert confident_from([*right, answer(False, 0.7)]) == 0.7


@pytest.mark.parametrize(("pictures", "threshold"), [(51, None), (52, 0.9)])
def test_on_too_few_pictures_no_answer_is_called_confident(
    pictures: int, threshold: float | None
) -> None:
    assert confident_from([answer(True, 0.9)] * pictures) == threshold


def test_where_the_surest_answers_are_wrong_none_is_confident() -> None:
    assert confident_from([answer(False, 0.99), answer(True, 0.9)]) is None


def test_equal_probabilities_are_confident_together_or_not_at_all() -> None:
    assert confident_from([answer(True, 0.9), answer(False, 0.9)]) is None


@given(ANSWERS)
def test_the_threshold_is_the_lowest_that_keeps_its_promise(answers: list[Judged]) -> None:
    def precise(threshold: float) -> bool:
        above = [a.right for a in answers if a.probability >= threshold]
        return wilson(sum(above), len(above), Z95_ONE_SIDED)[0] >= CONFIDENT_PRECISION

    found = confident_from(answers)
    good = [a.probability for a in answers if precise(a.probability)]
    assert found == (min(good) if good else None)


def measured(cloud: Cloud, ask: Any = redness, seed: str = "s", side: int = SIDE) -> Any:
    return measure(cloud.bucket, read_packed(cloud.bucket, RUN), Preprocessing(side), ask, seed)


def test_a_good_candidate_on_real_records(cloud: Cloud) -> None:
    pack(cloud, validation=12)
    measurement, threshold = measured(cloud)
    assert (measurement.pictures, measurement.available) == (12, 12)
    assert (measurement.accuracy, measurement.top5) == (1.0, 1.0)
    assert measurement.latency_ms_p95 >= measurement.latency_ms_p50 >= 0
    assert threshold is None  # of twelve pictures nobody can say


def test_wrong_labels_are_counted_as_wrong_answers(cloud: Cloud) -> None:
    pack(cloud, validation=12, wrong=3)
    assert measured(cloud)[0].accuracy == 0.75


def test_what_training_saw_is_what_the_endpoint_is_sent(cloud: Cloud) -> None:
    pack(cloud, validation=4)
    sent: list[bytes] = []

    def ask(picture: bytes) -> list[float]:
        sent.append(picture)
        return redness(picture)

    measured(cloud, ask)
    records = cloud.bucket.read(f"packed/cars/{RUN.run_id}/validation/validation.rec")[0]
    assert len(sent) == 4
    assert all(picture in records for picture in sent)


def test_a_large_dataset_is_sampled_and_the_same_sample_comes_again(cloud: Cloud) -> None:
    pack(cloud, validation=SAMPLE + 20)

    def seen(seed: str) -> list[bytes]:
        pictures: list[bytes] = []

        def ask(picture: bytes) -> list[float]:
            pictures.append(picture)
            return redness(picture)

        measurement, _ = measured(cloud, ask, seed)
        assert (measurement.pictures, measurement.available) == (SAMPLE, SAMPLE + 20)
        return sorted(pictures)

    assert seen("one") == seen("one")


def test_without_validation_pictures_nothing_can_be_measured(cloud: Cloud) -> None:
    pack(cloud, validation=0)
    with pytest.raises(UserError, match="no validation pictures"):
        measured(cloud)


def test_an_endpoint_in_trouble_ends_the_measurement_not_the_run(cloud: Cloud) -> None:
    pack(cloud, validation=4)

    def ask(_: bytes) -> list[float]:
        raise RetryLater("endpoint.failed", "throttled")

    with pytest.raises(RetryLater):
        measured(cloud, ask)


@pytest.mark.parametrize(("trainer", "crop"), [("builtin", 224), ("droplens", None)])
def test_only_the_built_in_algorithm_needs_its_pictures_cropped(
    cloud: Cloud, trainer: str, crop: int | None
) -> None:
    pack(cloud)
    dataset = dataclasses.replace(read_packed(cloud.bucket, RUN), shorter_side=256)
    assert sender_preprocessing(dataset, trainer, 224) == Preprocessing(256, crop)


# --- the endpoint itself


def asked(runtime: Any, classes: int = 2) -> list[float]:
    return probabilities(runtime, "endpoint-1", b"jpeg", classes)


def test_an_endpoint_is_asked_for_json() -> None:
    assert asked(FakeRuntime(lambda _: [0.25, 0.75])) == [0.25, 0.75]


def test_an_answer_that_does_not_fit_names_its_endpoint() -> None:
    with pytest.raises(UnexpectedAnswer, match="endpoint-1: 3 probabilities for 2 classes"):
        asked(FakeRuntime(lambda _: [0.25, 0.25, 0.5]))


def test_an_endpoint_that_is_not_there_is_told_apart() -> None:
    with pytest.raises(EndpointMissing, match="endpoint-1"):
        asked(FakeRuntime(redness, gone={"endpoint-1"}))


@pytest.mark.parametrize(
    "error",
    [
        refusal("ThrottlingException", "InvokeEndpoint"),
        refusal("ModelError", "InvokeEndpoint"),
        refusal("ModelNotReadyException", "InvokeEndpoint"),
        refusal("ServiceUnavailable", "InvokeEndpoint"),
        ReadTimeoutError(endpoint_url="https://runtime"),
    ],
    ids=lambda error: str(error)[:60],
)
def test_every_other_trouble_is_tried_again_later(error: Exception) -> None:
    with pytest.raises(RetryLater) as trouble:
        asked(FakeRuntime(redness, error=error))
    assert not isinstance(trouble.value, EndpointMissing)
