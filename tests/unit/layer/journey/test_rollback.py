"""An earlier model comes back by one write, and whoever races it leaves every label true."""

import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import pytest
from botocore.exceptions import ClientError

from droplens.aws import sagemaker
from droplens.aws.events import ObjectCreated, model_switched
from droplens.classify.classify import Classification
from droplens.classify.routing import Router
from droplens.domain.errors import DroplensError, RetryLater, UserError
from droplens.domain.run import Run, RunKey, Status
from droplens.imaging.weighted_semaphore import WeightedSemaphore
from droplens.journey import deploy
from droplens.journey.rollback import Restoration, Rollback, RollbackRequest
from droplens.prediction.loaded_models import LoadedModels
from droplens.state import endpoints
from droplens.state.cards import CachedCards, Cards
from droplens.state.runs import Runs
from tests.support.aws_account import BUCKET, Cloud
from tests.support.aws_fakes import refusal
from tests.support.builders import HOSTING, IMAGE, card, go_live, jpeg, model_data
from tests.support.crashes import crash_in
from tests.support.promotion import retirement

FIRST, SECOND, THIRD = (RunKey("cars", f"2026112{day}-120000-1a2b3c") for day in (1, 2, 3))


def endpoint_of(run: RunKey) -> str:
    return f"droplens--{run.classifier}-{run.run_id}"


def was_promoted(cloud: Cloud, run: RunKey) -> None:
    """What a promotion of the run leaves behind."""
    runs = cloud.runs()
    runs.open(run, {"version": run.run_id})
    cloud.sagemaker.made["Endpoint"][endpoint_of(run)] = {}
    runs.note(run, endpoint=endpoint_of(run), image=IMAGE, model_data=model_data(run))
    live = go_live(Cards(cloud.bucket), card(run.run_id))
    runs.end(run, Status.LIVE, generation=live.generation)


def back(cloud: Cloud, run_id: str | None = None, keep_models: int = 0) -> Status:
    """Roll back as the function does; the invocations that follow are made when this returns."""
    invoked: list[Any] = []
    rollback = Rollback(cards=Cards(cloud.bucket), sagemaker=cloud.sagemaker, settings=HOSTING)
    request = RollbackRequest(classifier="cars", run_id=run_id, reclassify="none")
    try:
        _, status = rollback.roll_back(request, cloud.invocation(invoke=invoked.append))
        return status
    finally:
        for event in invoked:
            retirement(cloud, keep_models).follow_up(model_switched(event), cloud.invocation())


def completed(cloud: Cloud, run: Run, invoked: list[Any]) -> Status:
    """What the event of the restored run's endpoint does; the invocations to make are added."""
    restoration = Restoration(cards=Cards(cloud.bucket))
    return restoration.complete(run, "none", cloud.invocation(invoke=invoked.append))


def known(cloud: Cloud, run: RunKey) -> Run:
    found = cloud.runs().get(run)
    assert found is not None
    return found


def live(cloud: Cloud) -> Any:
    return Cards(cloud.bucket).live("cars")


@pytest.fixture
def promoted(cloud: Cloud) -> Cloud:
    """An account where three models went live in turn, the endpoints of all still serving."""
    for run in (FIRST, SECOND, THIRD):
        was_promoted(cloud, run)
    retirement(cloud, keep_models=5).settle("cars", cloud.runs())
    return cloud


def test_a_model_whose_endpoint_serves_is_back_at_once(promoted: Cloud) -> None:
    assert back(promoted, keep_models=5) is Status.LIVE
    card_now = live(promoted)
    assert (card_now.run_id, card_now.endpoint) == (SECOND.run_id, endpoint_of(SECOND))
    assert (card_now.replaces, card_now.generation) == (THIRD.run_id, 4)
    assert [known(promoted, run).status for run in (FIRST, SECOND, THIRD)] == [
        Status.REPLACED,
        Status.LIVE,
        Status.REPLACED,
    ]
    assert promoted.sagemaker.endpoints == set(map(endpoint_of, (FIRST, SECOND, THIRD)))


def test_it_goes_one_further_back_each_time_and_forward_by_name(promoted: Cloud) -> None:
    for expected in (SECOND, FIRST):
        assert back(promoted, keep_models=5) is Status.LIVE
        assert live(promoted).run_id == expected.run_id
    with pytest.raises(UserError, match="no earlier model"):
        back(promoted)
    assert back(promoted, THIRD.run_id, keep_models=5) is Status.LIVE
    assert live(promoted).run_id == THIRD.run_id


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("image", "999999999999.dkr.ecr.us-east-1.amazonaws.com/droplens/trainer:1a2b3c"),
        ("model_data", f"s3://another-bucket/training/cars/{SECOND.run_id}/model.tar.gz"),
    ],
)
def test_no_endpoint_is_made_again_of_what_a_stranger_made(
    promoted: Cloud, fact: str, value: str
) -> None:
    promoted.sagemaker.made["Endpoint"].pop(endpoint_of(SECOND))
    promoted.runs().note(SECOND, **{fact: value})
    for _ in range(2):
        with pytest.raises(UserError) as caught:
            back(promoted)
        assert caught.value.code == f"origin.{fact}"
        assert value in caught.value.message
    assert live(promoted).run_id == THIRD.run_id
    assert known(promoted, SECOND).status is Status.REPLACED
    assert known(promoted, SECOND).record["endpoint"] == endpoint_of(SECOND)
    assert not promoted.sagemaker.made["Model"]


FOURTH, FIFTH = (RunKey("cars", f"2026112{day}-120000-1a2b3c") for day in (4, 5))


def test_it_goes_back_to_what_was_live_before_and_not_to_what_was_left(promoted: Cloud) -> None:
    """Two models, the second left for the first, then a third: the first was live before it."""
    assert back(promoted, FIRST.run_id, keep_models=5) is Status.LIVE
    was_promoted(promoted, FOURTH)
    was_promoted(promoted, FIFTH)
    for expected in (FOURTH, FIRST):
        assert back(promoted, keep_models=5) is Status.LIVE
        assert live(promoted).run_id == expected.run_id
    with pytest.raises(UserError, match=r"no earlier model .* RUN="):
        back(promoted)


def test_who_went_back_too_far_is_brought_forward_and_goes_back_from_there(promoted: Cloud) -> None:
    assert back(promoted, FIRST.run_id, keep_models=5) is Status.LIVE
    assert back(promoted, SECOND.run_id, keep_models=5) is Status.LIVE
    assert back(promoted, keep_models=5) is Status.LIVE
    assert live(promoted).run_id == FIRST.run_id


def test_a_run_that_is_gone_is_passed_over_on_the_way_back(promoted: Cloud) -> None:
    promoted.table.delete_item(Key=SECOND.as_key())
    assert back(promoted, keep_models=5) is Status.LIVE
    assert live(promoted).run_id == FIRST.run_id


def test_a_live_card_of_an_earlier_version_goes_back_to_what_it_replaced(promoted: Cloud) -> None:
    document = promoted.json("models/cars/live.json") | {"replaces": FIRST.run_id}
    del document["way_back"]
    promoted.put("models/cars/live.json", json.dumps(document).encode())
    assert back(promoted, keep_models=5) is Status.LIVE
    assert live(promoted).run_id == FIRST.run_id


def test_an_endpoint_that_was_removed_is_made_again_under_a_new_name(promoted: Cloud) -> None:
    retirement(promoted, keep_models=0).settle("cars", promoted.runs())
    assert promoted.sagemaker.endpoints == {endpoint_of(THIRD)}
    assert back(promoted) is Status.RESTORING
    assert live(promoted).run_id == THIRD.run_id
    again = f"{endpoint_of(SECOND)}-r3"
    assert promoted.sagemaker.endpoints == {endpoint_of(THIRD), again}
    run = known(promoted, SECOND)
    assert run.record["endpoint"] == again
    asked: list[Any] = []
    assert completed(promoted, run, asked) is Status.LIVE
    assert live(promoted).endpoint == again
    retirement(promoted).follow_up(model_switched(asked[0]), promoted.invocation())
    assert promoted.sagemaker.endpoints == {again}
    assert known(promoted, THIRD).status is Status.REPLACED


def test_whoever_went_live_while_the_endpoint_was_made_stays(promoted: Cloud) -> None:
    retirement(promoted, keep_models=0).settle("cars", promoted.runs())
    back(promoted)
    newer = RunKey("cars", "20261124-120000-1a2b3c")
    was_promoted(promoted, newer)
    run = known(promoted, SECOND)
    asked: list[Any] = []
    assert completed(promoted, run, asked) is Status.REPLACED
    assert live(promoted).run_id == newer.run_id
    retirement(promoted).follow_up(model_switched(asked[0]), promoted.invocation())
    assert promoted.sagemaker.endpoints == {endpoint_of(newer)}


def test_after_a_rollback_the_run_that_was_left_stays_away_but_a_newer_one_goes_live(
    promoted: Cloud,
) -> None:
    back(promoted)
    cards = Cards(promoted.bucket)
    assert cards.make_live(card(THIRD.run_id)).run_id == SECOND.run_id
    newer = card("20261124-120000-1a2b3c")
    assert cards.make_live(newer).run_id == newer.run_id
    assert cards.make_live(card(THIRD.run_id)).run_id == newer.run_id


@pytest.mark.parametrize(
    ("run_id", "why"),
    [("20260101-000000-000000", "no run"), ("20261109-120000-1a2b3c", "was never live")],
)
def test_a_run_that_was_never_live_cannot_come_back(promoted: Cloud, run_id: str, why: str) -> None:
    promoted.runs().open(RunKey("cars", "20261109-120000-1a2b3c"), {"version": "v"})
    with pytest.raises(UserError, match=why):
        back(promoted, run_id)


def test_without_a_live_model_there_is_nothing_to_go_back_from(cloud: Cloud) -> None:
    with pytest.raises(UserError, match="no live model"):
        back(cloud)


def test_the_live_model_is_where_one_is_already(promoted: Cloud) -> None:
    assert back(promoted, THIRD.run_id) is Status.LIVE
    assert live(promoted).generation == 3


def test_an_account_without_room_leaves_everything_as_it_was(promoted: Cloud) -> None:
    retirement(promoted, keep_models=0).settle("cars", promoted.runs())
    promoted.sagemaker.failing["CreateEndpoint"] = "ResourceLimitExceeded"
    with pytest.raises(UserError, match="quota"):
        back(promoted)
    assert known(promoted, SECOND).status is Status.REPLACED
    assert live(promoted).run_id == THIRD.run_id


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("where", "step"),
    [
        (Runs, "restore"),
        (deploy, "create_endpoint"),
        (Cards, "roll_back"),
        (Runs, "restored"),
    ],
)
def test_asked_again_it_goes_on_where_it_was_cut_off(
    promoted: Cloud, where: Any, step: str, after: bool
) -> None:
    retirement(promoted, keep_models=0).settle("cars", promoted.runs())
    with crash_in(where, step, after=after):
        for _ in range(2):
            back(promoted)
    for _ in range(2):
        back(promoted, SECOND.run_id)
    assert live(promoted).run_id == SECOND.run_id
    assert known(promoted, SECOND).status is Status.LIVE
    assert promoted.sagemaker.endpoints == {f"{endpoint_of(SECOND)}-r3"}


@pytest.mark.parametrize(
    "status", ["InService", "Updating", "SystemUpdating", "RollingBack", "UpdateRollbackFailed"]
)
def test_an_endpoint_that_sagemaker_is_at_work_on_serves(promoted: Cloud, status: str) -> None:
    """SageMaker keeps it in traffic, and a second one would leave the first without an owner."""
    promoted.sagemaker.statuses[endpoint_of(SECOND)] = status
    assert back(promoted, keep_models=5) is Status.LIVE
    assert live(promoted).endpoint == endpoint_of(SECOND)
    assert promoted.sagemaker.endpoints == set(map(endpoint_of, (FIRST, SECOND, THIRD)))


def test_an_endpoint_that_is_being_made_is_waited_for(promoted: Cloud) -> None:
    promoted.sagemaker.statuses[endpoint_of(SECOND)] = "Creating"
    for _ in range(2):
        assert back(promoted, SECOND.run_id, keep_models=5) is Status.RESTORING
    assert promoted.sagemaker.endpoints == set(map(endpoint_of, (FIRST, SECOND, THIRD)))
    run = known(promoted, SECOND)
    assert run.record["endpoint"] == endpoint_of(SECOND)
    assert completed(promoted, run, []) is Status.LIVE
    assert live(promoted).endpoint == endpoint_of(SECOND)


@pytest.mark.parametrize("status", ["Failed", "OutOfService", "Deleting"])
def test_an_endpoint_that_serves_no_more_is_made_again_and_removed(
    promoted: Cloud, status: str
) -> None:
    promoted.sagemaker.statuses[endpoint_of(SECOND)] = status
    assert back(promoted, SECOND.run_id, keep_models=5) is Status.RESTORING
    again = f"{endpoint_of(SECOND)}-r3"
    assert promoted.sagemaker.endpoints == {endpoint_of(FIRST), endpoint_of(THIRD), again}
    run = known(promoted, SECOND)
    assert run.record["endpoint"] == again
    assert not run.record.get("to_remove")


def test_an_old_endpoint_stays_on_record_where_a_rollback_is_cut_off(promoted: Cloud) -> None:
    promoted.sagemaker.statuses[endpoint_of(SECOND)] = "Failed"
    with crash_in(endpoints, "dispose"):
        back(promoted, SECOND.run_id, keep_models=5)
    assert known(promoted, SECOND).record["to_remove"] == {endpoint_of(SECOND)}
    assert promoted.runs().needing_attention() == [SECOND]


def test_who_retires_an_endpoint_says_nothing_of_the_one_made_since(promoted: Cloud) -> None:
    """A rollback makes an endpoint while a slow settlement removes the one that was retired."""
    remove = sagemaker.remove_endpoint

    def rolled_back_meanwhile(sagemaker: Any, name: str) -> bool:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(endpoints, "remove_endpoint", remove)
            assert back(promoted, SECOND.run_id) is Status.RESTORING
        return remove(sagemaker, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(endpoints, "remove_endpoint", rolled_back_meanwhile)
        retirement(promoted, keep_models=1).settle("cars", promoted.runs())
    known_now = known(promoted, SECOND)
    assert known_now.status in (Status.RESTORING, Status.REPLACED)
    assert not known_now.record["endpoint_removed"]


# --- all at once

# Two models that name the same two classes in opposite orders.
ORDERS = {FIRST.run_id: ("blue", "red"), SECOND.run_id: ("red", "blue")}


class Endpoints:
    """Answers as the model behind each endpoint does, if the endpoint is there."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.asked: set[str] = set()

    def invoke_endpoint(self, **request: Any) -> dict[str, Any]:
        name = request["EndpointName"]
        if name not in self.cloud.sagemaker.endpoints:
            raise refusal("ValidationError", "InvokeEndpoint", "Endpoint not found")
        self.asked.add(name)
        [order] = [order for run, order in ORDERS.items() if run in name]
        share = {"red": 0.9, "blue": 0.1}
        answer = json.dumps([share[label] for label in order]).encode()
        return {"Body": BytesIO(answer)}


def test_while_models_change_every_label_is_that_of_the_model_that_answered(
    cloud: Cloud,
) -> None:
    """Two models whose class orders differ are switched to and fro, by rollbacks in both
    directions and promotions, their endpoints removed and made again, while red pictures come."""
    cards = Cards(cloud.bucket)
    for run in (FIRST, SECOND):
        was_promoted(cloud, run)
        key = f"models/cars/{run.run_id}/card.json"
        cloud.put(key, card(run.run_id, classes=ORDERS[run.run_id]).to_json())
    cloud.put("models/cars/live.json", card(FIRST.run_id, classes=ORDERS[FIRST.run_id]).to_json())
    cloud.runs().note(SECOND, status=Status.REPLACED.value)
    endpoints, over = Endpoints(cloud), threading.Event()
    troubles: list[BaseException] = []

    def hammer(work: Any) -> None:
        while not over.is_set():
            try:
                work()
            except (DroplensError, ClientError) as trouble:
                troubles.append(trouble)

    choose = random.Random(11)

    def roll() -> None:
        back(cloud, choose.choice((FIRST, SECOND)).run_id)

    def promote() -> None:
        own = cards.of_run("cars", SECOND.run_id)
        assert own is not None
        cards.make_live(own)
        retirement(cloud).settle("cars", cloud.runs())

    results: list[Any] = []

    def classify(worker: int) -> None:
        classification = Classification(
            bucket=cloud.bucket,
            cards=CachedCards(Cards(cloud.bucket), seconds=0.05),
            router=Router(lambda _: True, lambda: "cars"),
            is_stranded=lambda _: False,
            runtime=endpoints,  # type: ignore[arg-type]
            decoding=WeightedSemaphore(10**8),
            endpoint_calls=WeightedSemaphore(10),
            models=LoadedModels(cloud.bucket),
        )
        for number in range(60):
            key = f"input/cars/{worker}-{number}.jpg"
            etag = cloud.put(key, jpeg())["ETag"].strip('"')
            dropped = ObjectCreated(BUCKET, key, etag, None, 1)
            for _ in range(50):
                try:
                    results.append(classification.classify(dropped))
                    break
                except RetryLater as trouble:
                    troubles.append(trouble)
            else:
                pytest.fail(f"{key} was never answered")

    with ThreadPoolExecutor(6) as pool:
        changing = [pool.submit(hammer, work) for work in (roll, roll, promote)]
        answering = [pool.submit(classify, worker) for worker in range(3)]
        for future in answering:
            future.result()
        over.set()
        for future in changing:
            future.result()

    assert len(results) == 180
    models = {event["model"]["run_id"] for event in results}
    assert models == {FIRST.run_id, SECOND.run_id}
    for key in cloud.keys("results/"):
        result = cloud.json(key)
        assert (result["prediction"]["label"], result["prediction"]["probability"]) == ("red", 0.9)
        assert result["model"]["run_id"] in result["model"]["endpoint"]
    # Whatever happened in between, the model that is live in the end serves.
    for _ in range(3):
        back(cloud, live(cloud).run_id)
    assert live(cloud).endpoint in cloud.sagemaker.endpoints
    assert all(isinstance(trouble, DroplensError) for trouble in troubles)
