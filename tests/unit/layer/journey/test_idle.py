"""An idle endpoint goes and comes again, and no picture notices but by the minutes it waits."""

from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from droplens.aws.eventbridge import EventPublisher
from droplens.aws.events import ENDPOINT as ENDPOINT_CHANGED
from droplens.aws.sagemaker import remove_endpoint
from droplens.aws.sagemaker_runtime import EndpointMissing
from droplens.aws.tags import tag_list, tag_map
from droplens.classify.classify import Classification
from droplens.classify.routing import Router
from droplens.domain import naming
from droplens.domain.run import Status
from droplens.imaging.weighted_semaphore import WeightedSemaphore
from droplens.journey import deploy
from droplens.journey.deploy import Artefact
from droplens.journey.idle import IdleEndpoints
from droplens.prediction.loaded_models import LoadedModels
from droplens.state.cards import CachedCards, Cards
from tests.support.aws_account import BUCKET, Cloud
from tests.support.aws_fakes import FakeRuntime, check_request, refusal
from tests.support.builders import HOSTING, RUN, card, go_live, jpeg, redness
from tests.support.classification import dropped
from tests.support.promotion import promotion

NOW = datetime.now(UTC).replace(microsecond=0)
HOURS = 6
NEWER = "20261124-120000-bbbbbb"
ENDPOINT = card().endpoint


def host(cloud: Cloud, trainer: str = "builtin", hours_ago: float = 48) -> None:
    """The endpoint of RUN, in service for so long; the built-in algorithm's is realtime."""
    artefact = Artefact("image:1", f"s3://{BUCKET}/model.tar.gz", trainer)
    deploy.create_endpoint(cloud.sagemaker, ENDPOINT, artefact, RUN, HOSTING)
    made = cloud.sagemaker.made["Endpoint"][ENDPOINT]
    made["LastModifiedTime"] = NOW - timedelta(hours=hours_ago)


@pytest.fixture
def live(cloud: Cloud) -> Cloud:
    """An account where "cars" is live on an instance, and a picture was answered."""
    cloud.runs().open(RUN, {"version": "v"})
    cloud.runs().end(RUN, Status.LIVE)
    go_live(Cards(cloud.bucket), card())
    Cards(cloud.bucket).make_default_if_first("cars")
    host(cloud)
    return cloud


def asked(endpoint: str, hours_ago: float) -> None:
    """What SageMaker tells CloudWatch of one call."""
    boto3.client("cloudwatch", region_name="us-east-1").put_metric_data(
        Namespace="AWS/SageMaker",
        MetricData=[
            {
                "MetricName": "Invocations",
                "Dimensions": [
                    {"Name": "EndpointName", "Value": endpoint},
                    {"Name": "VariantName", "Value": "main"},
                ],
                "Timestamp": NOW - timedelta(hours=hours_ago),
                "Value": 1,
            }
        ],
    )


def idle_endpoints(cloud: Cloud, hours: int = HOURS) -> IdleEndpoints:
    return IdleEndpoints(
        cards=Cards(cloud.bucket),
        sagemaker=cloud.sagemaker,
        cloudwatch=boto3.client("cloudwatch", region_name="us-east-1"),
        hours=hours,
    )


def paused(cloud: Cloud, hours: int = HOURS) -> list[str]:
    return idle_endpoints(cloud, hours).pause(NOW)


def resumed(cloud: Cloud) -> str | None:
    return idle_endpoints(cloud).resume("cars")


def test_an_idle_endpoint_goes_and_its_configuration_and_model_stay(live: Cloud) -> None:
    asked(ENDPOINT, hours_ago=HOURS + 1)
    asked("droplens--cars-another", hours_ago=1)
    assert paused(live) == [ENDPOINT]
    assert live.sagemaker.endpoints == set()
    assert set(live.sagemaker.made["EndpointConfig"]) == {ENDPOINT}
    assert set(live.sagemaker.made["Model"]) == {ENDPOINT}
    assert paused(live) == []  # and once more an hour later


def test_none_goes_where_nobody_asked_for_that(live: Cloud) -> None:
    assert paused(live, hours=0) == []


def test_one_that_was_asked_stays(live: Cloud) -> None:
    asked(ENDPOINT, hours_ago=HOURS - 1)
    assert paused(live) == []
    assert live.sagemaker.endpoints == {ENDPOINT}


def test_one_that_serves_since_short_stays(live: Cloud) -> None:
    live.sagemaker.made["Endpoint"][ENDPOINT]["LastModifiedTime"] = NOW - timedelta(hours=1)
    assert paused(live) == []


def test_a_serverless_one_stays(live: Cloud) -> None:
    remove_endpoint(live.sagemaker, ENDPOINT)
    host(live, trainer="droplens")
    assert paused(live) == []


def test_one_that_is_not_live_stays(live: Cloud) -> None:
    """It waits for an approval, or is kept for a rollback."""
    other = naming.resource_name("droplens", "cars", NEWER)
    artefact = Artefact("image:1", f"s3://{BUCKET}/model.tar.gz", "builtin")
    deploy.create_endpoint(live.sagemaker, other, artefact, RUN, HOSTING)
    assert paused(live) == [ENDPOINT]
    assert live.sagemaker.endpoints == {other}


def test_a_paused_endpoint_is_made_again_as_it_was_and_once(live: Cloud) -> None:
    before = dict(live.sagemaker.made["Endpoint"][ENDPOINT])
    paused(live)
    assert resumed(live) == ENDPOINT
    again = live.sagemaker.made["Endpoint"][ENDPOINT]
    del before["LastModifiedTime"]
    assert again == before  # name, configuration and the run's tags
    assert resumed(live) is None
    assert live.sagemaker.calls.count("CreateEndpoint") == 2


def test_two_pictures_at_once_have_it_made_once(live: Cloud) -> None:
    paused(live)
    with pytest.MonkeyPatch.context() as patch:
        create = live.sagemaker._verb("Create", "Endpoint")

        def after_another(**request: Any) -> Any:
            create(**request)
            return create(**request)

        patch.setattr(live.sagemaker, "create_endpoint", after_another, raising=False)
        assert resumed(live) == ENDPOINT
    assert live.sagemaker.endpoints == {ENDPOINT}


def test_one_that_failed_is_removed_and_made_again_for_the_next_picture(live: Cloud) -> None:
    live.sagemaker.made["Endpoint"][ENDPOINT]["EndpointStatus"] = "Failed"
    assert resumed(live) is None
    assert resumed(live) == ENDPOINT


@pytest.mark.parametrize("refused", ["ResourceLimitExceeded", "ValidationException"])
def test_what_sagemaker_refuses_is_tried_again_with_the_next_picture(
    live: Cloud, refused: str
) -> None:
    paused(live)
    live.sagemaker.failing["CreateEndpoint"] = refused
    assert resumed(live) is None
    live.sagemaker.failing.clear()
    assert resumed(live) == ENDPOINT


def test_a_model_that_is_replaced_while_its_endpoint_is_made_leaves_none(live: Cloud) -> None:
    paused(live)
    create = live.sagemaker._verb("Create", "Endpoint")

    def and_another_goes_live(**request: Any) -> Any:
        go_live(Cards(live.bucket), card(NEWER))
        remove_endpoint(live.sagemaker, ENDPOINT)
        return create(**request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live.sagemaker, "create_endpoint", and_another_goes_live, raising=False)
        resumed(live)
    assert live.sagemaker.endpoints == set()


def test_no_other_error_is_passed_over(live: Cloud) -> None:
    live.sagemaker.failing["DescribeEndpoint"] = "ThrottlingException"
    with pytest.raises(type(refusal("", "")), match="ThrottlingException"):
        resumed(live)
    with pytest.raises(type(refusal("", "")), match="ThrottlingException"):
        paused(live)


def test_an_endpoint_that_comes_up_after_its_model_was_retired_is_removed(live: Cloud) -> None:
    runs = live.runs()
    runs.note(RUN, endpoint=ENDPOINT)
    run = runs.get(RUN)
    assert run is not None
    runs.replace(run, by=NEWER)
    replaced = runs.get(RUN)
    assert replaced is not None
    assert runs.retire(replaced)
    event = {
        "detail-type": ENDPOINT_CHANGED,
        "detail": {
            "EndpointName": ENDPOINT,
            "EndpointArn": f"arn:aws:sagemaker:us-east-1:123456789012:endpoint/{ENDPOINT}",
            "EndpointStatus": "IN_SERVICE",
            "Tags": tag_map(tag_list(RUN)),
        },
    }
    assert promotion(live).start(event, live.invocation()) == (RUN, Status.REPLACED)
    assert live.sagemaker.endpoints == set()


# --- the picture that misses it


class Bus:
    """EventBridge as far as the announcer knows it."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.error: Exception | None = None

    def put_events(self, **request: Any) -> dict[str, Any]:
        check_request("events", "PutEvents", request)
        if self.error:
            raise self.error
        self.sent += request["Entries"]
        return {"Entries": [{"EventId": "1"} for _ in request["Entries"]]}


def classification(cloud: Cloud, runtime: FakeRuntime, **more: Any) -> Classification:
    cards = Cards(cloud.bucket)
    return Classification(
        bucket=cloud.bucket,
        cards=CachedCards(cards, 3600),
        router=Router(cloud.runs().any_of, cards.default_classifier),
        is_stranded=cloud.runs().is_stranded,
        runtime=runtime,  # type: ignore[arg-type]
        decoding=WeightedSemaphore(10**8),
        endpoint_calls=WeightedSemaphore(10),
        models=LoadedModels(cloud.bucket),
        **more,
    )


def test_a_picture_that_misses_it_asks_for_it_and_is_answered_once(live: Cloud) -> None:
    bus: Any = Bus()
    runtime = FakeRuntime(redness, gone={ENDPOINT})
    request = EventPublisher(bus, "default").request_endpoint
    classify = classification(live, runtime, request_endpoint=request).classify
    picture = dropped(live, jpeg((220, 10, 20)))
    paused(live)
    for tries in (1, 2):
        with pytest.raises(EndpointMissing):
            classify(picture)
        assert [entry["DetailType"] for entry in bus.sent] == ["Endpoint Missing"] * tries
    assert live.results() == []

    assert resumed(live) == ENDPOINT
    runtime.gone.clear()
    assert classify(picture) is not None
    assert classify(picture) is not None  # told twice
    [result] = live.results()
    assert result["prediction"]["label"] == "red"


def test_a_bus_that_is_away_changes_nothing_for_the_picture(live: Cloud) -> None:
    bus: Any = Bus()
    bus.error = refusal("InternalFailure", "PutEvents")
    request = EventPublisher(bus, "default").request_endpoint
    runtime = FakeRuntime(redness, gone={ENDPOINT})
    with pytest.raises(EndpointMissing):
        classification(live, runtime, request_endpoint=request).classify(dropped(live))


def test_where_nothing_is_paused_nobody_is_asked(live: Cloud) -> None:
    runtime = FakeRuntime(redness, gone={ENDPOINT})
    with pytest.raises(EndpointMissing):
        classification(live, runtime).classify(dropped(live))
