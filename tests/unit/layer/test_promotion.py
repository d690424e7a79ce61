"""A candidate goes live if it is good enough, once, and whatever interrupts it is made good."""

import dataclasses
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from droplens import hosting
from droplens.cards import Cards
from droplens.errors import RetryLater
from droplens.failures import Failures
from droplens.promotion import Promotion
from droplens.runs import Run, RunKey, Runs, Stage, Status
from droplens.settings import PromotionSettings
from tests.unit.layer.account import BUCKET, Cloud
from tests.unit.layer.fakes import FakeRuntime
from tests.unit.layer.made import NAME, RUN, card, crash_in, go_live, pack, redness

OLDER = RunKey("cars", "20261120-120000-aaaaaa")
NEWER = RunKey("cars", "20261124-120000-bbbbbb")
SETTINGS = PromotionSettings(
    bucket=BUCKET,
    runs_table="runs",
    stack="droplens",
    failure_topic="topic",
    picture_queue_url="",
    minimum_accuracy=0.7,
)


def endpoint_of(run: RunKey) -> str:
    return f"droplens-{run.classifier}-{run.run_id}"


def in_service(cloud: Cloud, run: RunKey) -> None:
    """What the earlier steps leave behind once the run's endpoint serves."""
    cloud.runs().open(run, {"version": run.run_id})
    cloud.runs().note(run, trainer="droplens", image_size=224, endpoint=endpoint_of(run))
    for made in cloud.sagemaker.made.values():
        made[endpoint_of(run)] = {}


def promotion(cloud: Cloud, runtime: FakeRuntime | None = None, **changes: Any) -> Promotion:
    tools: Any = runtime or FakeRuntime(redness)
    return Promotion(
        bucket=cloud.bucket,
        cards=Cards(cloud.bucket),
        sagemaker=cloud.sagemaker,
        runtime=tools,
        sqs=cloud.sqs,
        settings=dataclasses.replace(SETTINGS, picture_queue_url=cloud.picture_queue, **changes),
    )


def promote(
    cloud: Cloud, run: RunKey = RUN, owner: str = "request-1", **changes: Any
) -> Status | None:
    runs = cloud.runs(owner)
    tools = promotion(cloud, **changes)
    return tools.promote(endpoint_of(run), run, runs, cloud.failures(runs))


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
    assert (run.facts["accuracy"], run.facts["waiting"]) == (1, 2)
    assert candidate.sagemaker.endpoints == {NAME}
    assert candidate.notices() == []


def test_a_repeated_event_does_nothing(candidate: Cloud) -> None:
    runtime = FakeRuntime(redness)
    assert promote(candidate, runtime=runtime) is Status.LIVE
    asked = len(runtime.asked)
    for number in range(3):
        assert promote(candidate, owner=f"request-{number}", runtime=runtime) is None
    assert len(runtime.asked) == asked
    assert candidate.versions("models/cars/live.json") == 1


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
    assert float(run.facts["accuracy"]) == 0.5
    assert run.facts["error"]["code"] == "accuracy.too_low"
    [notice] = candidate.notices()
    assert notice["subject"] == "Droplens: cars refused at promote"
    assert "50.0% of 12 validation pictures" in notice["message"]
    assert "MinimumAccuracy asks for 70.0%" in notice["message"]


def test_exactly_the_minimum_is_good_enough(candidate: Cloud) -> None:
    pack(candidate, wrong=3)
    assert promote(candidate, minimum_accuracy=0.75) is Status.LIVE


def test_a_newer_model_replaces_and_removes_the_older_one(candidate: Cloud, cards: Cards) -> None:
    promote(candidate)
    in_service(candidate, NEWER)
    pack(candidate, NEWER)
    assert promote(candidate, NEWER) is Status.LIVE
    live = cards.live("cars")
    assert live is not None
    assert (live.run_id, live.replaces) == (NEWER.run_id, RUN.run_id)
    assert candidate.sagemaker.made.keys() == {"Model", "EndpointConfig", "Endpoint"}
    for made in candidate.sagemaker.made.values():
        assert set(made) == {endpoint_of(NEWER)}
    assert known(candidate).status is Status.REPLACED
    assert known(candidate).facts["replaced_by"] == NEWER.run_id
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


def test_a_run_that_a_newer_one_overtook_is_superseded(candidate: Cloud, cards: Cards) -> None:
    newer = go_live(cards, card(NEWER.run_id))
    assert promote(candidate) is Status.SUPERSEDED
    assert cards.live("cars") == newer
    assert candidate.sagemaker.endpoints == set()
    run = known(candidate)
    assert run.status is Status.SUPERSEDED
    assert run.facts["replaced_by"] == NEWER.run_id
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
    (Promotion, "_sweep", False),
    (Promotion, "_sweep", True),
    (hosting, "remove_endpoint", False),
    (hosting, "remove_endpoint", True),
    (Runs, "replace", False),
    (Runs, "replace", True),
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
    assert float(known(candidate, NEWER).facts["accuracy"]) == 1.0
    assert known(candidate).status is Status.REPLACED
    assert set(candidate.queued()) == {"input/b.jpg", "input/cars/a.jpg"}
    assert candidate.notices() == []


@pytest.mark.parametrize(
    ("where", "step", "after"),
    [
        (hosting, "remove_endpoint", False),
        (hosting, "remove_endpoint", True),
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


def test_one_who_crashed_after_its_switch_and_was_replaced_leaves_no_endpoint(
    candidate: Cloud, cards: Cards
) -> None:
    in_service(candidate, OLDER)
    pack(candidate, OLDER)
    assert promote(candidate, OLDER) is Status.LIVE
    with crash_in(Promotion, "_retire"):
        promote(candidate)
    in_service(candidate, NEWER)
    pack(candidate, NEWER)
    assert promote(candidate, NEWER, "request-2") is Status.LIVE
    assert candidate.sagemaker.endpoints == {endpoint_of(NEWER)}
    assert promote(candidate) is Status.SUPERSEDED
    assert candidate.sagemaker.endpoints == {endpoint_of(NEWER)}
    assert known(candidate, OLDER).status is Status.REPLACED
    assert known(candidate).status is Status.SUPERSEDED


def test_an_endpoint_in_trouble_is_measured_again_later(candidate: Cloud, cards: Cards) -> None:
    with pytest.raises(RetryLater):
        promote(candidate, runtime=FakeRuntime(redness, gone={NAME}))
    assert known(candidate).status is Status.MEASURING
    assert candidate.sagemaker.endpoints == {NAME}
    assert promote(candidate) is Status.LIVE


def test_an_endpoint_with_other_classes_never_goes_live(candidate: Cloud, cards: Cards) -> None:
    with pytest.raises(Exception, match="3 probabilities for 2 classes"):
        promote(candidate, runtime=FakeRuntime(lambda _: [0.2, 0.3, 0.5]))
    assert cards.live("cars") is None


def test_without_validation_pictures_the_run_fails_and_its_endpoint_goes(candidate: Cloud) -> None:
    pack(candidate, validation=0)
    assert promote(candidate) is Status.FAILED
    assert known(candidate).facts["error"]["code"] == "measure.no_validation"
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
