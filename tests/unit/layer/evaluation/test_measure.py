"""A candidate is measured on the very records, through the very endpoint."""

import dataclasses
import hashlib
import json
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from droplens.aws.sagemaker_runtime import PREDICTION, EndpointMissing, predict
from droplens.domain.choices import BUILTIN, DROPLENS
from droplens.domain.errors import RetryLater, UserError
from droplens.domain.result import Response, UnexpectedResponse
from droplens.domain.run import RunKey
from droplens.evaluation.evaluation import Prediction
from droplens.evaluation.measure import Entry, Measured, OutOfTime, entries, measure, sample
from droplens.imaging.prepare import Preprocessing
from droplens.journey.promote import sender_preprocessing
from droplens.state.packed import read_packed
from tests.support.aws_account import Cloud
from tests.support.aws_fakes import FakeRuntime, refusal
from tests.support.builders import RUN, SIDE, pack, redness


def both(cloud: Cloud, ask: Any = redness, may_go_on: Any = lambda: True) -> Measured:
    dataset = read_packed(cloud.bucket, RUN)
    return measure(cloud.bucket, RUN, dataset, Preprocessing(SIDE), responding(ask), may_go_on)


def responding(ask: Any) -> Any:
    return lambda picture: Response(ask(picture), None)


NEWER = RunKey("cars", "20261124-120000-bbbbbb")


def measured(cloud: Cloud, ask: Any = redness, may_go_on: Any = lambda: True) -> list[Prediction]:
    return both(cloud, ask, may_go_on).validation


def parts(cloud: Cloud) -> list[str]:
    return cloud.keys(f"reports/cars/{RUN.run_id}/answers/")


def test_every_validation_picture_is_answered_and_known_by_name_and_bytes(cloud: Cloud) -> None:
    pack(cloud, validation=12, wrong=3)
    answers = measured(cloud)
    assert [answer.record for answer in answers] == list(range(12))
    assert [answer.truth for answer in answers] == [1, 0, 1, 1, 0, 1, 0, 1, 0, 1, 0, 1]
    assert answers[5].name == "red/0005.jpg"
    assert len({answer.sha256 for answer in answers}) == 12
    assert all(answer.seconds >= 0 and len(answer.probabilities) == 2 for answer in answers)


def test_what_training_saw_is_what_the_endpoint_is_sent(cloud: Cloud) -> None:
    pack(cloud, validation=4)
    sent: list[bytes] = []

    def ask(picture: bytes) -> list[float]:
        sent.append(picture)
        return redness(picture)

    answers = measured(cloud, ask)
    records = cloud.bucket.read(f"packed/cars/{RUN.run_id}/validation/validation.rec")[0]
    assert all(picture in records for picture in sent)
    digests = {hashlib.sha256(picture).hexdigest() for picture in sent}
    assert digests == {answer.sha256 for answer in answers}


def test_answers_are_kept_as_they_come_and_never_asked_for_again(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("droplens.evaluation.measure.PART", 5)
    pack(cloud, validation=12)
    asked: list[bytes] = []

    def ask(picture: bytes) -> list[float]:
        asked.append(picture)
        return redness(picture)

    for attempt in (1, 2):
        with pytest.raises(OutOfTime):
            measured(cloud, ask, lambda: False)
        assert len(parts(cloud)) == attempt
    answers = measured(cloud, ask, lambda: False)
    assert len(asked) == len(answers) == 12
    assert measured(cloud, pytest.fail) == answers


def test_the_novelty_is_kept_with_the_answers(cloud: Cloud) -> None:
    pack(cloud, validation=3)
    dataset, novelties = read_packed(cloud.bucket, RUN), iter((0.125, None, 1e-9))

    def respond(picture: bytes) -> Response:
        return Response(redness(picture), next(novelties))

    def again(respond: Any) -> list[float | None]:
        found = measure(cloud.bucket, RUN, dataset, Preprocessing(SIDE), respond, lambda: True)
        return sorted((answer.novelty for answer in found.validation), key=str)

    assert again(respond) == again(pytest.fail) == [0.125, 1e-9, None]


def test_answers_of_an_earlier_version_have_no_novelty(cloud: Cloud) -> None:
    pack(cloud, validation=2)
    before = measured(cloud)
    [part] = parts(cloud)
    lines = [json.loads(line) for line in cloud.bucket.read(part)[0].splitlines()]
    for line in lines:
        del line["novelty"]
    cloud.put(part, "\n".join(map(json.dumps, lines)).encode())
    assert measured(cloud, pytest.fail) == before


def test_test_records_are_answered_apart_from_the_validation_records(cloud: Cloud) -> None:
    pack(cloud, validation=6)
    alone = both(cloud)
    assert alone.test == []
    pack(cloud, NEWER, validation=6, test=8)
    dataset = read_packed(cloud.bucket, NEWER)
    found = measure(
        cloud.bucket, NEWER, dataset, Preprocessing(SIDE), responding(redness), lambda: True
    )
    assert [answer.sha256 for answer in found.validation] == [a.sha256 for a in alone.validation]
    assert [answer.record for answer in found.test] == list(range(8))
    assert [answer.truth for answer in found.test] == [0, 1, 0, 0, 0, 1, 0, 0]
    assert cloud.keys(f"reports/cars/{NEWER.run_id}/answers/") == [
        f"reports/cars/{NEWER.run_id}/answers/0000.jsonl",
        f"reports/cars/{NEWER.run_id}/answers/test-0000.jsonl",
    ]


def test_an_invocation_without_time_answers_one_part_of_both_channels_together(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three parts of validation records and two of test records: five invocations, and no more."""
    monkeypatch.setattr("droplens.evaluation.measure.PART", 5)
    pack(cloud, validation=12, test=8)
    asked: list[bytes] = []

    def ask(picture: bytes) -> list[float]:
        asked.append(picture)
        return redness(picture)

    for attempt in range(1, 5):
        with pytest.raises(OutOfTime):
            both(cloud, ask, lambda: False)
        assert len(parts(cloud)) == attempt
    found = both(cloud, ask, lambda: False)
    assert (len(found.validation), len(found.test)) == (12, 8)
    assert len(asked) == 20
    assert both(cloud, pytest.fail) == found


def test_two_who_measure_at_once_go_on_with_the_same_answers(cloud: Cloud) -> None:
    pack(cloud, validation=4)
    faster: list[Prediction] = []

    def ask(picture: bytes) -> list[float]:
        if not faster:
            faster.append(None)  # type: ignore[arg-type]
            faster[:] = measured(cloud)
        return [0.5, 0.5]

    assert measured(cloud, ask) == faster
    assert measured(cloud, pytest.fail) == faster


def test_a_large_dataset_is_sampled_by_class_and_name() -> None:
    def records(names: range, rare: int) -> list[Entry]:
        common = [Entry(n, 0, f"common/{n}", 0, 1) for n in names]
        return common + [Entry(-n, 1, f"rare/{n}", 0, 1) for n in range(1, rare + 1)]

    chosen = sample(records(range(9000), 3), 900)
    assert sum(entry.label == 0 for entry in chosen) == round(9000 * 900 / 9003)
    assert sum(entry.label == 1 for entry in chosen) == 1
    other = sample(records(range(300, 9300), 3), 900)
    shared = {entry.name for entry in chosen} & {entry.name for entry in other}
    assert len(shared) > 800
    assert sample(records(range(10), 2), 12) == records(range(10), 2)


def test_a_name_may_hold_whatever_separates_lines_elsewhere(cloud: Cloud) -> None:
    pack(cloud, validation=2)
    listing = "0\t0.000000\tblue/a\u2028b\x0c.jpg\n1\t1.000000\tred/c.jpg\n"
    cloud.put(f"packed/cars/{RUN.run_id}/validation/validation.lst", listing.encode())
    names = [entry.name for entry in entries(cloud.bucket, read_packed(cloud.bucket, RUN))]
    assert names == ["blue/a\u2028b\x0c.jpg", "red/c.jpg"]
    assert [answer.name for answer in measured(cloud)] == names


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
    assert parts(cloud) == []


@pytest.mark.parametrize(("trainer", "crop"), [("builtin", 224), ("droplens", None)])
def test_only_the_built_in_algorithm_needs_its_pictures_cropped(
    cloud: Cloud, trainer: str, crop: int | None
) -> None:
    pack(cloud)
    dataset = dataclasses.replace(read_packed(cloud.bucket, RUN), shorter_side=256)
    assert sender_preprocessing(dataset, trainer, 224) == Preprocessing(256, crop)


# --- the endpoint itself


def asked(runtime: Any, classes: int = 2, trainer: str = DROPLENS) -> Response:
    return predict(runtime, "endpoint-1", b"jpeg", classes, trainer)


def test_an_endpoint_is_asked_for_the_novelty_too() -> None:
    runtime = FakeRuntime(lambda _: {"probabilities": [0.25, 0.75], "novelty": 1.5})
    assert asked(runtime) == Response([0.25, 0.75], 1.5)
    assert runtime.accepted == [PREDICTION]


def test_a_container_image_of_an_earlier_version_returns_a_list() -> None:
    assert asked(FakeRuntime(lambda _: [0.25, 0.75])) == Response([0.25, 0.75], None)


def test_the_built_in_algorithm_is_asked_for_json_only() -> None:
    runtime = FakeRuntime(lambda _: [0.25, 0.75])
    assert asked(runtime, trainer=BUILTIN) == Response([0.25, 0.75], None)
    assert runtime.accepted == ["application/json"]


def test_an_answer_that_does_not_fit_names_its_endpoint() -> None:
    with pytest.raises(UnexpectedResponse, match="endpoint-1: 3 probabilities for 2 classes"):
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
