"""A candidate goes live if it is good enough, once, and whatever interrupts it is made good."""

import dataclasses
import itertools
import json
import zlib
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from droplens.aws.events import ENDPOINT, MODEL_PACKAGE
from droplens.aws.tags import tag_list
from droplens.domain.card import Measurement
from droplens.domain.errors import RetryLater
from droplens.domain.result import UnexpectedResponse
from droplens.domain.run import Run, RunKey, Stage, Status
from droplens.evaluation.measure import OutOfTime
from droplens.journey.failures import Failures
from droplens.journey.promote import too_inaccurate, worse_than_live
from droplens.runtime.telemetry import logger, metrics
from droplens.state import endpoints
from droplens.state.cards import Cards
from droplens.state.registry import Registry
from droplens.state.runs import Runs
from droplens.statistics.left_out import LeftOut
from tests.support.aws_account import BUCKET, Cloud
from tests.support.aws_fakes import FakeRuntime, refusal
from tests.support.builders import (
    NAME,
    RUN,
    artefact,
    card,
    go_live,
    pack,
    redness,
)
from tests.support.crashes import crash_in
from tests.support.promotion import (
    KINDS,
    SETTINGS,
    endpoint_of,
    follow_up,
    in_service,
    promote,
    promotion,
)

OLDER = RunKey("cars", "20261120-120000-aaaaaa")
NEWER = RunKey("cars", "20261124-120000-bbbbbb")


def known(cloud: Cloud, run: RunKey = RUN) -> Run:
    found = cloud.runs().get(run)
    assert found is not None
    return found


@pytest.fixture
def candidate(cloud: Cloud) -> Cloud:
    """An account in which the first model of "cars" is in service, and two pictures wait."""
    in_service(cloud, RUN)
    pack(cloud)
    cloud.put("input/cars/a.jpg", b"x")
    cloud.put("input/b.jpg", b"x")
    return cloud


def test_a_first_good_candidate_goes_live(candidate: Cloud, cards: Cards) -> None:
    assert promote(candidate) is Status.LIVE
    live = cards.live("cars")
    assert live is not None
    assert (live.run_id, live.endpoint, live.replaces) == (RUN.run_id, NAME, None)
    assert live.classes == ("blue", "red")
    assert live.measured.accuracy == 1.0
    assert live.preprocessing.crop is None
    assert cards.default_classifier() == "cars"
    assert sorted(candidate.queued()) == ["input/b.jpg", "input/cars/a.jpg"]
    run = known(candidate)
    assert run.status is Status.LIVE
    assert (run.record["accuracy"], run.record["waiting"]) == (1, 2)
    assert candidate.sagemaker.endpoints == {NAME}
    assert candidate.notices() == []


def test_the_run_s_record_has_the_report_s_key(candidate: Cloud) -> None:
    promote(candidate)
    assert known(candidate).record["report"] == f"reports/cars/{RUN.run_id}/index.html"


def test_the_accuracy_and_the_model_that_went_live_are_counted(candidate: Cloud) -> None:
    metrics.clear_metrics()
    pack(candidate, wrong=3)
    assert promote(candidate, minimum_accuracy=0.4) is Status.LIVE
    measured, live = metrics.metric_set["MeasuredAccuracy"], metrics.metric_set["RunLive"]
    assert (measured["Value"], measured["Unit"]) == ([75], "Percent")
    assert live["Value"] == [1]


def test_a_repeated_event_does_nothing(candidate: Cloud) -> None:
    runtime = FakeRuntime(redness)
    assert promote(candidate, runtime=runtime) is Status.LIVE
    asked = len(runtime.asked)
    for number in range(3):
        assert promote(candidate, owner=f"request-{number}", runtime=runtime) is None
    assert len(runtime.asked) == asked
    assert candidate.versions("models/cars/live.json") == 1


def test_the_log_tells_what_became_of_a_run(
    candidate: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    promote(candidate, approval="manual")
    assert "model waits for approval" in caplog.messages
    decide(candidate, "Approved")
    promote(candidate, owner="request-2", approval="manual")
    assert "model is live" in caplog.messages
    promote(candidate, owner="request-3")
    assert "stage is done, or claimed by another invocation" in caplog.messages


def test_a_candidate_that_is_not_good_enough_is_refused_and_removed(
    candidate: Cloud, cards: Cards
) -> None:
    pack(candidate, wrong=6)
    assert promote(candidate) is Status.REFUSED
    assert cards.live("cars") is None
    assert cards.default_classifier() is None
    assert candidate.sagemaker.endpoints == set()
    assert candidate.queued() == []
    run = known(candidate)
    assert run.status is Status.REFUSED
    assert float(run.record["accuracy"]) == 0.5
    assert run.record["error"]["code"] == "accuracy.too_low"
    [notice] = candidate.notices()
    assert notice["subject"] == "Droplens: cars refused at promote"
    # Newcombe's table of Wilson's intervals has 25.4 to 74.6 for 6 of 12.
    assert "validation accuracy 50.0 % (6 of 12; 25.4 to 74.6)" in notice["message"]
    assert "MinimumAccuracy asks for 70 %" in notice["message"]


def test_the_accuracy_as_counted_decides_where_no_confidence_is_asked_for(
    candidate: Cloud,
) -> None:
    pack(candidate, wrong=3)
    assert promote(candidate, minimum_accuracy=0.75, accuracy_confidence=0.0) is Status.LIVE


def test_three_of_three_pictures_are_no_evidence(candidate: Cloud, cards: Cards) -> None:
    # 3 / (3 + 1.96^2) = 43.9 %, and 4 / (4 + 1.96^2) is the first above one half.
    pack(candidate, validation=3)
    assert promote(candidate, minimum_accuracy=0.5) is Status.REFUSED
    assert cards.live("cars") is None
    error = known(candidate).record["error"]
    assert error["code"] == "accuracy.too_low"
    assert "validation accuracy 100.0 % (3 of 3; 43.9 to 100.0)" in error["message"]
    assert "lower end of the 95 % interval, which is 43.9 %" in error["message"]
    assert "4 or more if all of them are right" in error["message"]
    evaluation = candidate.json(f"reports/cars/{RUN.run_id}/evaluation.json")
    assert evaluation["gate"] == {
        "minimum_accuracy": 0.5,
        "accuracy_confidence": 0.95,
        "lower_end": pytest.approx(0.438503, abs=1e-6),
    }


def test_the_evaluation_has_the_lower_end_to_six_digits(candidate: Cloud) -> None:
    pack(candidate, validation=4)
    promote(candidate, minimum_accuracy=0.5)
    # 4 / (4 + 1.959964^2) = 0.51010916
    assert evaluated(candidate)["gate"]["lower_end"] == 0.510109


@pytest.mark.parametrize(
    ("right", "pictures", "minimum", "confidence", "passes"),
    [
        # Lower ends by hand, n / (n + z^2) where all are right: 43.9 % of 3, 51.0 % of 4.
        (3, 3, 0.5, 0.95, False),
        (4, 4, 0.5, 0.95, True),
        # 83.9 % of 20.
        (20, 20, 0.83, 0.95, True),
        (20, 20, 0.85, 0.95, False),
        # Newcombe 1998, method 3: 81 of 263 have 25.53 % to 36.62 %, 15 of 148 6.24 % to 16.05 %.
        (81, 263, 0.255, 0.95, True),
        (81, 263, 0.256, 0.95, False),
        (15, 148, 0.0623, 0.95, True),
        (15, 148, 0.0626, 0.95, False),
        # A less wide interval, z = 1.645: 20 / (20 + 2.706) = 88.1 %.
        (20, 20, 0.88, 0.9, True),
        (20, 20, 0.885, 0.9, False),
        # None: as counted, also where the share is no round number of any base.
        (2, 3, 2 / 3, 0.0, True),
        (1, 2, 0.51, 0.0, False),
        (0, 5, 0.0, 0.95, True),
        (5, 5, 1.0, 0.0, True),
        (4000, 4000, 1.0, 0.95, False),
    ],
)
def test_the_lower_end_of_the_accuracy_s_interval_decides(
    right: int, pictures: int, minimum: float, confidence: float, passes: bool
) -> None:
    measured = Measurement(
        pictures=pictures,
        available=pictures,
        accuracy=right / pictures,
        top5=1.0,
        latency_ms_p50=5,
        latency_ms_p95=9,
    )
    assert (too_inaccurate(measured, minimum, confidence) is None) is passes


def test_a_minimum_that_no_number_of_pictures_shows_says_so() -> None:
    all_right = dataclasses.replace(card().measured, accuracy=1.0)
    problem = too_inaccurate(all_right, 1.0, 0.95)
    assert problem is not None
    assert "No number of pictures shows 100 %" in problem


def test_a_newer_model_replaces_and_removes_the_older_one(candidate: Cloud, cards: Cards) -> None:
    promote(candidate)
    in_service(candidate, NEWER)
    pack(candidate, NEWER)
    assert promote(candidate, NEWER) is Status.LIVE
    live = cards.live("cars")
    assert live is not None
    assert (live.run_id, live.replaces) == (NEWER.run_id, RUN.run_id)
    for kind in KINDS:
        assert set(candidate.sagemaker.made[kind]) == {endpoint_of(NEWER)}
    assert known(candidate).status is Status.REPLACED
    assert known(candidate).record["replaced_by"] == NEWER.run_id
    assert cards.of_run("cars", RUN.run_id) is not None


def test_a_refused_newer_model_leaves_the_live_one_alone(candidate: Cloud, cards: Cards) -> None:
    promote(candidate)
    in_service(candidate, NEWER)
    pack(candidate, NEWER, wrong=12)
    assert promote(candidate, NEWER) is Status.REFUSED
    live = cards.live("cars")
    assert live is not None
    assert live.run_id == RUN.run_id
    assert candidate.sagemaker.endpoints == {NAME}
    assert known(candidate).status is Status.LIVE


def test_a_run_that_a_newer_one_overtook_is_superseded(
    candidate: Cloud, cards: Cards, caplog: pytest.LogCaptureFixture
) -> None:
    newer = go_live(cards, card(NEWER.run_id))
    assert promote(candidate) is Status.SUPERSEDED
    assert cards.live("cars") == newer
    assert candidate.sagemaker.endpoints == set()
    run = known(candidate)
    assert run.status is Status.SUPERSEDED
    assert run.record["replaced_by"] == NEWER.run_id
    assert run.record["accuracy"] == 1
    assert "run is superseded by a newer one" in caplog.messages
    assert candidate.notices() == []


def test_pictures_of_another_known_classifier_are_not_swept(candidate: Cloud) -> None:
    candidate.runs().open(RunKey("birds", OLDER.run_id), {"version": "v"})
    candidate.put("input/birds/c.jpg", b"x")
    promote(candidate)
    assert "input/birds/c.jpg" not in candidate.queued()


STEPS: list[tuple[Any, str, bool]] = [
    (Cards, "keep", False),
    (Cards, "keep", True),
    (Cards, "make_live", False),
    (Cards, "make_live", True),
    (Cards, "make_default_if_first", True),
    (Registry, "register", False),
    (Registry, "register", True),
    (Runs, "end", False),
    (Runs, "end", True),
]


@pytest.mark.parametrize(
    ("where", "step", "after"), STEPS, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_a_retry_completes_what_a_crash_cut_off(
    candidate: Cloud, cards: Cards, where: Any, step: str, after: bool
) -> None:
    promote(candidate)
    candidate.queued()
    in_service(candidate, NEWER)
    pack(candidate, NEWER)
    with crash_in(where, step, after=after):
        promote(candidate, NEWER)
    promote(candidate, NEWER)
    live = cards.live("cars")
    assert live is not None
    assert (live.run_id, live.replaces) == (NEWER.run_id, RUN.run_id)
    assert candidate.sagemaker.endpoints == {endpoint_of(NEWER)}
    assert known(candidate, NEWER).status is Status.LIVE
    assert float(known(candidate, NEWER).record["accuracy"]) == 1.0
    assert known(candidate).status is Status.REPLACED
    assert set(candidate.queued()) == {"input/b.jpg", "input/cars/a.jpg"}
    assert candidate.notices() == []


@pytest.mark.parametrize(
    ("where", "step", "after"),
    [
        (endpoints, "remove_endpoint", False),
        (endpoints, "remove_endpoint", True),
        (Runs, "end", False),
        (Runs, "end", True),
        (Failures, "publish", False),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_refusal_that_was_cut_off_is_completed_and_told_once(
    candidate: Cloud, where: Any, step: str, after: bool
) -> None:
    pack(candidate, wrong=12)
    with crash_in(where, step, after=after):
        promote(candidate)
    for _ in range(2):
        promote(candidate)
    assert known(candidate).status is Status.REFUSED
    assert candidate.sagemaker.endpoints == set()
    assert len(candidate.notices()) == 1


def test_a_retry_does_not_measure_a_second_time(candidate: Cloud) -> None:
    runtime = FakeRuntime(redness)
    with crash_in(Cards, "make_live"):
        promote(candidate, runtime=runtime)
    asked = len(runtime.asked)
    promote(candidate, runtime=runtime)
    assert len(runtime.asked) == asked


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("where", "step"), [(endpoints, "remove_endpoint"), (Runs, "replace"), (Runs, "retire")]
)
def test_what_follows_a_switch_is_completed_by_a_retry(
    candidate: Cloud, where: Any, step: str, after: bool
) -> None:
    promote(candidate)
    in_service(candidate, NEWER)
    pack(candidate, NEWER)
    asked = list[Any]()
    promotion(candidate).promote(NEWER, candidate.invocation(invoke=asked.append))
    [event] = asked
    with crash_in(where, step, after=after):
        follow_up(candidate, event)
    follow_up(candidate, event)
    assert candidate.sagemaker.endpoints == {endpoint_of(NEWER)}
    assert known(candidate).status is Status.REPLACED
    assert known(candidate).record["endpoint_removed"] is True
    assert known(candidate, NEWER).status is Status.LIVE


def test_one_who_was_replaced_before_it_was_on_record_as_live_is_put_right(
    candidate: Cloud, cards: Cards
) -> None:
    in_service(candidate, NEWER)
    pack(candidate, NEWER)
    with crash_in(Runs, "end"):
        promote(candidate)
    assert promote(candidate, NEWER, "request-2") is Status.LIVE
    assert promote(candidate) is Status.SUPERSEDED
    assert candidate.sagemaker.endpoints == {endpoint_of(NEWER)}
    live = cards.live("cars")
    assert live is not None
    assert live.run_id == NEWER.run_id


def test_a_model_that_is_kept_goes_on_serving(candidate: Cloud) -> None:
    for run in (OLDER, RUN, NEWER):
        in_service(candidate, run)
        pack(candidate, run)
        assert promote(candidate, run, keep_models=1) is Status.LIVE
        candidate.clock.turn(60)
    assert candidate.sagemaker.endpoints == {endpoint_of(RUN), endpoint_of(NEWER)}
    assert [known(candidate, run).status for run in (OLDER, RUN)] == [Status.REPLACED] * 2


def test_a_measurement_that_ran_out_of_time_is_gone_on_with(
    candidate: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("droplens.evaluation.measure.PART", 5)
    runtime = FakeRuntime(redness)
    tools = promotion(candidate, runtime)
    for number in range(2):
        hurried = candidate.invocation(f"request-{number}", seconds=60)
        with pytest.raises(OutOfTime):
            tools.promote(RUN, hurried)
        assert len(runtime.asked) == 5 * (number + 1)
    assert promote(candidate, owner="request-3", runtime=runtime) is Status.LIVE
    assert len([accept for accept in runtime.accepted if "explain" not in accept]) == 12


def test_what_there_is_no_time_for_is_left_to_the_next_invocation_and_counted(
    candidate: Cloud, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("droplens.evaluation.measure.PART", 5)
    tools = promotion(candidate, FakeRuntime(redness))
    tags = {tag["Key"]: tag["Value"] for tag in tag_list(RUN)}
    detail = {
        "EndpointName": NAME,
        "EndpointArn": "arn",
        "EndpointStatus": "IN_SERVICE",
        "Tags": tags,
    }
    event: Any = {"source": "aws.sagemaker", "detail-type": ENDPOINT, "detail": detail}
    for turn in (1, 2):
        asked: list[Any] = []
        hurried = candidate.invocation(f"request-{turn}", asked.append, 60)
        assert tools.start(event, hurried) == (RUN, Status.MEASURING)
        assert caplog.messages[-1] == "out of time: continued in another invocation"
        [event] = asked
        assert (event["detail"], event["turn"]) == (detail, turn)


def in_service_event(run: RunKey = RUN, name: str = NAME) -> dict[str, Any]:
    """What SageMaker tells of an endpoint that serves."""
    detail = {
        "EndpointName": name,
        "EndpointArn": "arn",
        "EndpointStatus": "IN_SERVICE",
        "Tags": {tag["Key"]: tag["Value"] for tag in tag_list(run)},
    }
    return {"source": "aws.sagemaker", "detail-type": ENDPOINT, "detail": detail}


def taken_up(cloud: Cloud, event: Any) -> tuple[RunKey | None, Status | None]:
    asked = list[Any]()
    return promotion(cloud).start(event, cloud.invocation(invoke=asked.append))


def test_log_lines_name_the_event_s_run(candidate: Cloud) -> None:
    logger.set_correlation_id("another")
    taken_up(candidate, in_service_event())
    assert logger.get_correlation_id() == RUN.run_id


def test_an_event_s_run_is_promoted(candidate: Cloud) -> None:
    assert taken_up(candidate, in_service_event()) == (RUN, Status.LIVE)


def test_an_event_of_nobody_s_endpoint_is_let_be(cloud: Cloud) -> None:
    event = in_service_event()
    event["detail"]["Tags"] = {}
    assert taken_up(cloud, event) == (None, None)


@pytest.mark.parametrize(
    ("status", "facts"),
    [
        (Status.FAILED, {}),
        (Status.REFUSED, {}),
        (Status.SUPERSEDED, {}),
        (Status.REPLACED, {"retired": True}),
    ],
)
def test_an_endpoint_that_serves_after_its_run_has_ended_is_removed(
    candidate: Cloud, status: Status, facts: dict[str, Any]
) -> None:
    """It was in the making when nobody needed it any more, and could not be stopped."""
    candidate.runs().end(RUN, status, **facts)
    assert taken_up(candidate, in_service_event()) == (RUN, status)
    assert candidate.sagemaker.endpoints == set()
    assert "to_remove" not in known(candidate).record


@pytest.mark.parametrize(
    ("status", "facts"),
    [(Status.LIVE, {}), (Status.REPLACED, {}), (Status.REPLACED, {"retired": False})],
)
def test_an_endpoint_that_may_still_be_needed_stays(
    candidate: Cloud, status: Status, facts: dict[str, Any]
) -> None:
    candidate.runs().end(RUN, status, **facts)
    taken_up(candidate, in_service_event())
    assert candidate.sagemaker.endpoints == {NAME}


@pytest.mark.parametrize("listed", [True, False])
def test_an_endpoint_of_an_earlier_try_is_removed_and_the_run_goes_on(
    candidate: Cloud, listed: bool
) -> None:
    other = NAME + "-1"
    for kind in KINDS:
        candidate.sagemaker.made[kind][other] = {}
    if listed:
        candidate.runs().to_be_removed(RUN, other)
    assert taken_up(candidate, in_service_event(name=other)) == (RUN, Status.PACKING)
    assert candidate.sagemaker.endpoints == {NAME}
    assert taken_up(candidate, in_service_event()) == (RUN, Status.LIVE)


def test_the_run_s_own_endpoint_goes_too_once_it_is_on_the_list(candidate: Cloud) -> None:
    candidate.runs().to_be_removed(RUN, NAME)
    assert taken_up(candidate, in_service_event()) == (RUN, Status.PACKING)
    assert candidate.sagemaker.endpoints == set()


def test_a_decision_on_a_model_package_takes_up_the_run_that_waits(candidate: Cloud) -> None:
    promote(candidate, approval="manual")
    decide(candidate, "Approved")
    [arn] = candidate.sagemaker.packages
    event = {
        "source": "aws.sagemaker",
        "detail-type": MODEL_PACKAGE,
        "detail": {"ModelPackageArn": arn, "ModelApprovalStatus": "Approved"},
    }
    assert taken_up(candidate, event) == (RUN, Status.LIVE)


def test_an_endpoint_in_trouble_is_measured_again_later(candidate: Cloud, cards: Cards) -> None:
    with pytest.raises(RetryLater):
        promote(candidate, runtime=FakeRuntime(redness, gone={NAME}))
    assert known(candidate).status is Status.MEASURING
    assert candidate.sagemaker.endpoints == {NAME}
    assert promote(candidate) is Status.LIVE


def test_a_serverless_endpoint_that_is_not_ready_yet_is_waited_for(
    candidate: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("droplens.aws.sagemaker_runtime.time.sleep", waited.append)
    runtime = FakeRuntime(redness)
    not_ready = refusal("ModelNotReadyException", "InvokeEndpoint")
    real, calls = runtime.invoke_endpoint, itertools.count()

    def invoke(**request: Any) -> Any:
        runtime.error = not_ready if next(calls) < 3 else None
        return real(**request)

    monkeypatch.setattr(runtime, "invoke_endpoint", invoke, raising=False)
    assert promote(candidate, runtime=runtime) is Status.LIVE
    assert len(waited) == 3


def test_an_endpoint_with_other_classes_never_goes_live(candidate: Cloud, cards: Cards) -> None:
    with pytest.raises(UnexpectedResponse, match="3 probabilities for 2 classes"):
        promote(candidate, runtime=FakeRuntime(lambda _: [0.2, 0.3, 0.5]))
    assert cards.live("cars") is None


def test_without_validation_pictures_the_run_fails_and_its_endpoint_goes(candidate: Cloud) -> None:
    pack(candidate, validation=0)
    assert promote(candidate) is Status.FAILED
    assert known(candidate).record["error"]["code"] == "measure.no_validation"
    assert candidate.sagemaker.endpoints == set()
    assert len(candidate.notices()) == 1


def test_an_endpoint_of_no_known_run_is_left_alone(cloud: Cloud) -> None:
    cloud.sagemaker.made["Endpoint"][NAME] = {}
    assert promote(cloud) is None
    assert cloud.sagemaker.endpoints == {NAME}


def test_a_run_that_has_ended_is_not_promoted(candidate: Cloud, cards: Cards) -> None:
    candidate.runs().end(RUN, Status.FAILED)
    assert promote(candidate) is None
    assert cards.live("cars") is None


def test_a_built_in_model_is_sent_the_square_that_it_was_trained_on(
    candidate: Cloud, cards: Cards
) -> None:
    candidate.runs().note(RUN, trainer="builtin", image_size=48)
    sizes = []

    def model(picture: bytes) -> list[float]:
        with Image.open(BytesIO(picture)) as image:
            sizes.append(image.size)
        return redness(picture)

    assert promote(candidate, runtime=FakeRuntime(model)) is Status.LIVE
    assert set(sizes) == {(48, 48)}
    live = cards.live("cars")
    assert live is not None
    assert live.preprocessing.crop == 48


def test_the_stage_is_held_while_it_is_measured(candidate: Cloud) -> None:
    assert candidate.runs("request-1").claim(RUN, Stage.PROMOTE)
    assert promote(candidate, owner="request-2") is None


# --- the gate


def flawed(every: int) -> Any:
    """A model that is wrong about every so many pictures, always the same ones."""

    def answer(picture: bytes) -> list[float]:
        return redness(picture)[:: -1 if zlib.crc32(picture) % every == 0 else 1]

    return answer


def promote_both(
    cloud: Cloud, first: Any, second: Any, validation: int = 60, **second_pack: Any
) -> Status | None:
    pack(cloud, validation=validation)
    assert promote(cloud, runtime=FakeRuntime(first), minimum_accuracy=0.0) is Status.LIVE
    in_service(cloud, NEWER)
    pack(cloud, NEWER, **{"validation": validation, **second_pack})
    return promote(cloud, NEWER, runtime=FakeRuntime(second), minimum_accuracy=0.0)


def test_a_candidate_that_is_worse_on_the_same_pictures_is_refused(
    candidate: Cloud, cards: Cards
) -> None:
    assert promote_both(candidate, redness, flawed(3)) is Status.REFUSED
    live = cards.live("cars")
    assert live is not None
    assert live.run_id == RUN.run_id
    assert candidate.sagemaker.endpoints == {NAME}
    run = known(candidate, NEWER)
    assert run.record["error"]["code"] == "accuracy.worse_than_live"
    [notice] = candidate.notices()
    assert "validation pictures that both were measured on" in notice["message"]
    evaluation = candidate.json(f"reports/cars/{NEWER.run_id}/evaluation.json")
    assert evaluation["decision"]["code"] == "accuracy.worse_than_live"
    assert evaluation["comparison"]["method"] == "paired"


def test_a_difference_that_chance_explains_refuses_nobody(candidate: Cloud) -> None:
    assert promote_both(candidate, redness, flawed(40)) is Status.LIVE
    comparison = candidate.json(f"models/cars/{NEWER.run_id}/card.json")["comparison"]
    assert comparison["only_before"] in range(1, 5)
    assert not comparison["worse"]


def test_a_better_candidate_goes_live(candidate: Cloud) -> None:
    assert promote_both(candidate, flawed(3), redness) is Status.LIVE


def test_models_of_other_pictures_are_compared_by_their_shares(candidate: Cloud) -> None:
    assert promote_both(candidate, redness, flawed(2), first_colour=100) is Status.REFUSED
    comparison = candidate.json(f"models/cars/{NEWER.run_id}/card.json")["comparison"]
    assert (comparison["method"], comparison["pictures"]) == ("unpaired", 0)
    assert comparison["difference"]["high"] < 0


def test_a_model_of_no_common_class_is_not_measured_by_the_live_one(candidate: Cloud) -> None:
    classes = ("bleu", "rouge")
    assert promote_both(candidate, redness, flawed(2), classes=classes) is Status.LIVE


def measured_only(cloud: Cloud, run: RunKey, answer: Any) -> None:
    """Measure the run's model as a promotion does, which is cut off before it goes live."""
    in_service(cloud, run)
    pack(cloud, run, validation=60)
    with crash_in(Cards, "make_live"):
        promote(cloud, run, runtime=FakeRuntime(answer), minimum_accuracy=0.0)


def test_it_is_compared_with_the_model_that_it_would_replace(
    candidate: Cloud, cards: Cards
) -> None:
    """Better than the model that was live when it was measured, worse than the one that is now."""
    measured_only(candidate, OLDER, flawed(3))
    assert promote(candidate, OLDER, minimum_accuracy=0.0) is Status.LIVE
    measured_only(candidate, NEWER, flawed(4))
    measured_only(candidate, RUN, redness)
    assert promote(candidate, minimum_accuracy=0.0) is Status.LIVE
    runtime = FakeRuntime(redness)
    assert promote(candidate, NEWER, runtime=runtime, minimum_accuracy=0.0) is Status.REFUSED
    assert runtime.asked == []
    live = cards.live("cars")
    assert live is not None
    assert (live.run_id, live.measured.accuracy) == (RUN.run_id, 1.0)
    assert known(candidate, NEWER).record["error"]["code"] == "accuracy.worse_than_live"
    assert f"the live model {RUN.run_id}" in known(candidate, NEWER).record["error"]["message"]
    assert candidate.sagemaker.endpoints == {endpoint_of(RUN)}


@pytest.mark.parametrize("approval", ["automatic", "manual"])
def test_whoever_goes_live_between_judgement_and_switch_is_the_one_compared_with(
    candidate: Cloud, cards: Cards, approval: str
) -> None:
    measured_only(candidate, OLDER, flawed(3))
    assert promote(candidate, OLDER, minimum_accuracy=0.0) is Status.LIVE
    measured_only(candidate, RUN, redness)
    in_service(candidate, NEWER)
    pack(candidate, NEWER, validation=60)
    if approval == "manual":
        runtime = FakeRuntime(flawed(4))
        promote(candidate, NEWER, runtime=runtime, minimum_accuracy=0.0, approval=approval)
        package = known(candidate, NEWER).record["model_package"]
        candidate.sagemaker.packages[package]["ModelApprovalStatus"] = "Approved"
    s3: Any = candidate.bucket.client
    write = s3.put_object

    def overtaken(**request: Any) -> Any:
        if request["Key"] == "models/cars/live.json":
            s3.put_object = write
            assert promote(candidate, owner="request-2", minimum_accuracy=0.0) is Status.LIVE
        return write(**request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3, "put_object", overtaken)
        runtime = FakeRuntime(flawed(4))
        options = {"runtime": runtime, "minimum_accuracy": 0.0, "approval": approval}
        assert promote(candidate, NEWER, "request-3", **options) is Status.REFUSED
    live = cards.live("cars")
    assert live is not None
    assert live.run_id == RUN.run_id


def test_the_live_card_tells_of_the_model_that_it_replaced(candidate: Cloud, cards: Cards) -> None:
    measured_only(candidate, OLDER, flawed(3))
    measured_only(candidate, NEWER, redness)
    for run in (OLDER, NEWER):
        assert promote(candidate, run, minimum_accuracy=0.0) is Status.LIVE
    live = cards.live("cars")
    assert live is not None
    assert live.comparison is not None
    assert live.comparison["run_id"] == live.replaces == OLDER.run_id
    assert live.comparison["method"] == "paired"


def test_without_its_evaluation_a_candidate_is_compared_by_what_its_card_tells(
    candidate: Cloud, cards: Cards
) -> None:
    measured_only(candidate, NEWER, flawed(2))
    measured_only(candidate, OLDER, redness)
    assert promote(candidate, OLDER, minimum_accuracy=0.0) is Status.LIVE
    evaluation = f"reports/cars/{NEWER.run_id}/evaluation.json"
    candidate.s3.delete_object(Bucket=BUCKET, Key=evaluation)
    assert promote(candidate, NEWER, minimum_accuracy=0.0) is Status.REFUSED
    live = cards.live("cars")
    assert live is not None
    assert live.run_id == OLDER.run_id


def test_a_live_model_is_not_judged_again_by_a_retry(candidate: Cloud, cards: Cards) -> None:
    """It would lose its endpoint where MinimumAccuracy has been raised since."""
    pack(candidate, wrong=3)
    with crash_in(Runs, "end"):
        promote(candidate, minimum_accuracy=0.4)
    assert promote(candidate, minimum_accuracy=0.9) is Status.LIVE
    assert candidate.sagemaker.endpoints == {NAME}


@pytest.mark.parametrize(("model", "status"), [(flawed(2), "refused"), (redness, "live")])
@pytest.mark.parametrize("first_colour", [0, 100], ids=["the same pictures", "others"])
def test_of_a_changed_class_list_the_common_classes_decide(
    candidate: Cloud, first_colour: int, model: Any, status: str
) -> None:
    ended = promote_both(
        candidate, redness, model, classes=("blue", "rouge"), first_colour=first_colour
    )
    assert ended == status
    comparison = candidate.json(f"models/cars/{NEWER.run_id}/card.json")["comparison"]
    assert (comparison["classes"], comparison["same_task"]) == (1, False)
    if first_colour:
        assert (comparison["method"], comparison["pictures_after"]) == ("unpaired", 30)
    else:  # of 30 blue pictures, some are the same JPEG
        assert comparison["method"] == "paired"
        assert 20 < comparison["pictures"] <= 30
    if ended is Status.REFUSED:
        error = known(candidate, NEWER).record["error"]
        assert error["code"] == "accuracy.worse_than_live"
        assert "on the one class that both know" in error["message"]


def test_a_comparison_of_other_classes_by_an_earlier_version_decides_nothing() -> None:
    found = {
        "run_id": "r",
        "same_task": False,
        "worse": True,
        "method": "unpaired",
        "difference": {"value": -0.2, "low": -0.3, "high": -0.1},
    }
    assert worse_than_live(found) is None
    assert worse_than_live({**found, "same_task": True}) == (
        "worse than the live model r: its accuracy differs by -20.0 points (-30.0 to -10.0), each "
        "model measured on validation pictures of its own"
    )


PAIRED = {
    "run_id": "r",
    "same_task": True,
    "worse": True,
    "method": "paired",
    "pictures": 1234,
    "right_after": 1100,
    "right_before": 1200,
    "p_value": 0.02,
}


def test_a_worse_candidate_is_told_by_how_much_and_how_rarely_by_chance() -> None:
    told = (
        "worse than the live model r{}: of 1,234 validation pictures that both were measured on, "
        "1,100 of its predictions are correct and 1,200 of the live model's; a model as good would "
        "do so badly once in {} times"
    )
    assert worse_than_live(PAIRED) == told.format("", "50")
    assert worse_than_live({**PAIRED, "p_value": 0.0}) == told.format("", "1,000,000")
    for classes, common in ((1, "one class"), (2, "2 classes"), (1500, "1,500 classes")):
        of_others = {**PAIRED, "same_task": False, "classes": classes}
        assert worse_than_live(of_others) == told.format(f" on the {common} that both know", "50")


def test_a_candidate_that_is_not_worse_is_not_refused() -> None:
    assert worse_than_live(None) is None
    assert worse_than_live({**PAIRED, "worse": False}) is None
    assert worse_than_live({**PAIRED, "same_task": False, "classes": 0}) is None


def test_unpaired_evidence_names_both_numbers_of_pictures() -> None:
    found = {
        **PAIRED,
        "method": "unpaired",
        "difference": {"value": -0.123, "low": -0.2, "high": -0.05},
        "pictures_before": 2000,
        "pictures_after": 1000,
    }
    assert worse_than_live(found) == (
        "worse than the live model r: its accuracy differs by -12.3 points (-20.0 to -5.0), each "
        "model measured on validation pictures of its own, 1,000 and the live one 2,000"
    )


@pytest.mark.parametrize(
    ("accuracy", "minimum", "confidence", "words"),
    [
        (0.9, 0.95, 0.95, "MinimumAccuracy asks for 95 %"),
        (0.9, 0.95, 0.0, "MinimumAccuracy asks for 95 %"),
        # 9 of 10 have 59.6 % as their lower end; all of 15 would have 15 / 18.84 = 79.6 %.
        (0.9, 0.8, 0.95, "lower end of the 95 % interval, which is 59.6 %"),
        (0.9, 0.8, 0.95, "validation pictures to show that, 16 or more"),
        (0.9, 0.9, 0.95, "validation pictures to show that, 35 or more"),
    ],
)
def test_a_candidate_that_is_too_inaccurate_is_told_what_it_takes(
    accuracy: float, minimum: float, confidence: float, words: str
) -> None:
    problem = too_inaccurate(
        dataclasses.replace(card().measured, accuracy=accuracy), minimum, confidence
    )
    assert problem is not None
    assert problem.startswith("validation accuracy 90.0 % (9 of 10; 59.6 to 98.2)")
    assert words in problem
    assert ("It takes more" in problem) is (accuracy >= minimum)


def trained(cloud: Cloud, *files: tuple[str, bytes]) -> None:
    model = known(cloud).record["model_data"].removeprefix(f"s3://{BUCKET}/")
    cloud.put(model, artefact(*files))


def test_the_size_that_training_chose_is_in_evaluation_run_and_card(
    candidate: Cloud, cards: Cards
) -> None:
    size = {"height": 288, "width": 496}
    training = {"input_size": {**size, "records": 1500, "tried": []}}
    trained(candidate, ("training.json", json.dumps(training).encode()))
    assert promote(candidate) is Status.LIVE
    assert candidate.json(f"reports/cars/{RUN.run_id}/evaluation.json")["input_size"] == size
    assert known(candidate).record["input_size"] == size
    live = cards.live("cars")
    assert live is not None
    assert live.input_size == size


def test_what_training_left_out_stands_beside_what_was_measured(candidate: Cloud) -> None:
    training = {"cross_validation": {"left_out": 20, "accuracy": 0.95}}
    trained(candidate, ("training.json", json.dumps(training).encode()))
    assert promote(candidate) is Status.LIVE
    evaluation = candidate.json(f"reports/cars/{RUN.run_id}/evaluation.json")
    assert (evaluation["cross_validation"]["right"], evaluation["pictures"]) == (19, 12)


def test_a_card_without_a_threshold_has_the_reason(candidate: Cloud, cards: Cards) -> None:
    promote(candidate)
    live = cards.live("cars")
    assert live is not None
    assert live.confident_from is None
    assert live.unconfident_because is not None
    assert live.unconfident_because.startswith("too few validation pictures: 12, and it takes 59")


def test_what_training_left_out_is_evidence_for_what_is_confident(
    candidate: Cloud, cards: Cards
) -> None:
    pack(candidate, validation=24)
    # Of the second class, five in a hundred are wrong, and two expected.
    left_out = LeftOut.of([0.98] * 200, [0, 1] * 100, [n % 40 != 1 for n in range(200)], 2)
    training = {"left_out_confidence": left_out.to_dict()}
    trained(candidate, ("training.json", json.dumps(training).encode()))
    assert promote(candidate) is Status.LIVE
    live = cards.live("cars")
    assert live is not None
    assert live.confident_from is not None
    assert live.unconfident_because is None
    assert live.confident_by_class == {live.classes[1]: round(0.5 / 0.9722, 6)}
    assert live.is_confident("red", 0.95)
    evaluation = candidate.json(f"reports/cars/{RUN.run_id}/evaluation.json")
    assert evaluation["confident"]["left_out"] == 200


def novel(picture: bytes) -> dict[str, Any]:
    """The response of a model that computes how novel a picture is."""
    return {"probabilities": redness(picture), "novelty": len(picture) / 1000}


def test_the_card_tells_what_is_unfamiliar_and_what_an_image_may_be(
    candidate: Cloud, cards: Cards
) -> None:
    pack(candidate, validation=120)
    assert promote(candidate, runtime=FakeRuntime(novel)) is Status.LIVE
    live = cards.live("cars")
    assert live is not None
    assert live.novelty is not None
    assert live.candidates is not None
    assert live.is_familiar(live.novelty.limit) is True
    assert live.is_familiar(10 * live.novelty.limit) is False
    assert live.candidates.apply([0.001, 0.999]) == [1]
    evaluation = candidate.json(f"reports/cars/{RUN.run_id}/evaluation.json")
    assert evaluation["familiarity"]["limit"] == live.novelty.limit
    assert evaluation["familiarity"]["requested"] == SETTINGS.unfamiliar_share
    assert evaluation["candidates"]["precision"] == SETTINGS.candidate_precision


def test_a_model_without_novelty_and_with_few_pictures_says_that_it_cannot_tell(
    candidate: Cloud, cards: Cards
) -> None:
    promote(candidate)
    live = cards.live("cars")
    assert live is not None
    assert (live.novelty, live.candidates, live.confident_by_class) == (None, None, None)
    evaluation = candidate.json(f"reports/cars/{RUN.run_id}/evaluation.json")
    assert evaluation["familiarity"]["reason"] is not None
    assert evaluation["candidates"]["reason"] is not None
    assert evaluation["suspects"] is None


def test_suspects_are_named_beside_the_dataset(candidate: Cloud) -> None:
    """Of the three, the last has another label than the training list says."""
    lines = [
        {"record": 3, "label": 1, "likely": 0, "probability": 0.01, "likely_probability": 0.98},
        {"record": 6, "label": 0, "likely": 1, "probability": 0.25, "likely_probability": 0.75},
        {"record": 7, "label": 0, "likely": 1, "probability": 0.25, "likely_probability": 0.75},
    ]
    body = "\n".join(map(json.dumps, lines)).encode()
    trained(candidate, ("training.json", b"{}"), ("suspects.jsonl", body))
    assert promote(candidate) is Status.LIVE
    stored = candidate.bucket.read(f"packed/cars/{RUN.run_id}/suspects.jsonl")[0]
    first, second = map(json.loads, stored.splitlines())
    assert first == {
        "channel": "train",
        "record": 3,
        "name": "red/0003.jpg",
        "label": "red",
        "likely": "blue",
        "probability": 0.01,
        "likely_probability": 0.98,
    }
    assert (second["record"], second["name"]) == (6, "blue/0006.jpg")
    evaluation = candidate.json(f"reports/cars/{RUN.run_id}/evaluation.json")
    assert evaluation["suspects"] == {"suspects": 2, "training": 20}


# --- a person decides


def decide(cloud: Cloud, status: str, words: str = "") -> None:
    [package] = cloud.sagemaker.packages.values()
    package.update(ModelApprovalStatus=status, ApprovalDescription=words)


def test_every_promoted_model_is_registered_with_evidence_and_origin(candidate: Cloud) -> None:
    promote(candidate)
    [(arn, package)] = candidate.sagemaker.packages.items()
    assert arn.endswith(":model-package/droplens--cars/1")
    assert known(candidate).record["model_package"] == arn
    assert package["ModelApprovalStatus"] == "Approved"
    assert package["MetadataProperties"] == {
        "CommitId": SETTINGS.code_version,
        "GeneratedBy": NAME,
    }
    properties = package["CustomerMetadataProperties"]
    assert (
        properties["dataset-digest"]
        == candidate.json(f"packed/cars/{RUN.run_id}/dataset.json")["digest"]
    )
    assert (properties["droplens:run"], properties["accuracy"]) == (RUN.run_id, "1.0")
    statistics = package["ModelMetrics"]["ModelQuality"]["Statistics"]
    assert statistics["S3Uri"] == f"s3://{BUCKET}/reports/cars/{RUN.run_id}/evaluation.json"


def test_a_refused_model_is_not_registered(candidate: Cloud) -> None:
    pack(candidate, wrong=12)
    promote(candidate)
    assert candidate.sagemaker.packages == {}


def test_a_candidate_waits_for_a_person_and_says_so_once(candidate: Cloud, cards: Cards) -> None:
    for number in range(3):
        assert promote(candidate, owner=f"r{number}", approval="manual") is Status.AWAITING
    assert known(candidate).status is Status.AWAITING
    assert cards.live("cars") is None
    assert candidate.sagemaker.endpoints == {NAME}
    [notice] = candidate.notices()
    assert "--model-approval-status Approved" in notice["message"]
    [package] = candidate.sagemaker.packages.values()
    assert package["ModelApprovalStatus"] == "PendingManualApproval"


def test_an_approved_candidate_goes_live(candidate: Cloud, cards: Cards) -> None:
    promote(candidate, approval="manual")
    decide(candidate, "Approved")
    assert promote(candidate, owner="request-2", approval="manual") is Status.LIVE
    assert cards.live("cars") is not None


def test_a_candidate_goes_live_once_approval_is_no_longer_manual(
    candidate: Cloud, cards: Cards
) -> None:
    assert promote(candidate, approval="manual") is Status.AWAITING
    assert promote(candidate, owner="request-2", approval="automatic") is Status.LIVE
    assert cards.live("cars") is not None


def test_a_rejected_candidate_is_refused_in_the_person_s_words(candidate: Cloud) -> None:
    promote(candidate, approval="manual")
    candidate.notices()
    decide(candidate, "Rejected", "the vans look wrong")
    assert promote(candidate, owner="request-2", approval="manual") is Status.REFUSED
    assert known(candidate).record["error"]["message"] == "the vans look wrong"
    assert candidate.sagemaker.endpoints == set()
    [notice] = candidate.notices()
    assert "the vans look wrong" in notice["message"]


def test_an_approval_that_comes_before_the_stage_is_free_is_not_lost(candidate: Cloud) -> None:
    with pytest.MonkeyPatch.context() as patch:
        wait = Runs.wait

        def approved_meanwhile(runs: Runs, key: RunKey) -> None:
            decide(candidate, "Approved")
            wait(runs, key)

        patch.setattr(Runs, "wait", approved_meanwhile)
        assert promote(candidate, approval="manual") is Status.LIVE


def test_who_waits_while_a_newer_model_goes_live_is_superseded(candidate: Cloud) -> None:
    promote(candidate, approval="manual")
    in_service(candidate, NEWER)
    pack(candidate, NEWER)
    assert promote(candidate, NEWER, "request-2") is Status.LIVE
    assert known(candidate).status is Status.SUPERSEDED
    assert candidate.sagemaker.endpoints == {endpoint_of(NEWER)}


def evaluated(cloud: Cloud) -> dict[str, Any]:
    return dict(cloud.json(f"reports/cars/{RUN.run_id}/evaluation.json"))


def test_test_pictures_are_measured_and_reported_and_decide_nothing(cloud: Cloud) -> None:
    """A quarter of them is labelled wrongly: 15 of 20 are correct, where validation has all."""
    in_service(cloud, RUN)
    pack(cloud, validation=60, test=20)
    assert promote(cloud, minimum_accuracy=0.9) is Status.LIVE
    found = evaluated(cloud)
    assert (found["test"]["right"], found["test"]["pictures"]) == (15, 20)
    assert (found["pictures"], found["accuracy"]["value"]) == (60, 1.0)
    assert {answer["record"] for answer in found["answers"]} == set(range(60))
    assert sum(one["pictures"] for one in found["classes"]) == 60
    page = cloud.bucket.read(f"reports/cars/{RUN.run_id}/index.html")[0].decode()
    assert "Test accuracy 75.0\N{NO-BREAK SPACE}% (15 of 20; 53.1 to 88.8)" in page
    live = Cards(cloud.bucket).live("cars")
    assert live is not None

    # The same model, and the same dataset without a test split.
    pack(cloud, NEWER, validation=60)
    in_service(cloud, NEWER)
    assert promote(cloud, NEWER, minimum_accuracy=0.9) is Status.LIVE
    other = Cards(cloud.bucket).live("cars")
    assert other is not None
    assert (live.calibration, live.confident_from) == (other.calibration, other.confident_from)
    assert live.measured.accuracy == other.measured.accuracy
    newer = cloud.json(f"reports/cars/{NEWER.run_id}/evaluation.json")
    assert newer["test"] is None
    assert newer["confusion"] == found["confusion"]
    assert newer["calibration"] == found["calibration"]


def test_a_model_that_validation_refuses_is_not_saved_by_its_test_accuracy(cloud: Cloud) -> None:
    in_service(cloud, RUN)
    pack(cloud, validation=20, wrong=18, test=20)
    assert promote(cloud) is Status.REFUSED
    found = evaluated(cloud)
    assert found["test"]["right"] == 15
    assert found["decision"]["code"] == "accuracy.too_low"


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("image", "999999999999.dkr.ecr.us-east-1.amazonaws.com/droplens/trainer:1"),
        ("model_data", f"s3://another-bucket/training/cars/{RUN.run_id}/model.tar.gz"),
    ],
)
def test_a_model_that_a_stranger_made_is_neither_measured_nor_registered(
    candidate: Cloud, cards: Cards, fact: str, value: str
) -> None:
    candidate.runs().note(RUN, **{fact: value})
    assert promote(candidate) is Status.FAILED
    assert known(candidate).record["error"]["code"] == f"origin.{fact}"
    assert cards.live("cars") is None
    assert not candidate.sagemaker.packages
    assert candidate.sagemaker.endpoints == set()


def test_a_measured_model_whose_image_is_another_by_then_is_refused(
    candidate: Cloud, cards: Cards
) -> None:
    with crash_in(candidate.sagemaker, "create_model_package_group"):
        promote(candidate)
    candidate.runs().note(RUN, image="docker.io/library/python:3.13")
    assert promote(candidate) is Status.REFUSED
    assert known(candidate).record["error"]["code"] == "origin.image"
    assert cards.live("cars") is None
    assert not candidate.sagemaker.packages
    assert candidate.sagemaker.endpoints == set()
