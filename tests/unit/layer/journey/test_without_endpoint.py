"""EndpointMode=lambda: from a trained run to results, and back, without an endpoint."""

import dataclasses
import json
from typing import Any

import pytest

from droplens.aws.events import MODEL_DEPLOYED, ObjectCreated, TrainingEnded
from droplens.aws.tags import tag_list, tag_map
from droplens.domain import choices, layout
from droplens.domain.errors import UserError
from droplens.domain.run import Run, RunKey, Status
from droplens.journey.deploy import Deployment
from droplens.journey.rollback import Rollback, RollbackRequest
from droplens.prediction.loaded_models import LoadedModels
from droplens.state.cards import CachedCards, Cards
from tests.support.aws_account import BUCKET, Cloud
from tests.support.builders import HOSTING, IMAGE, RUN, card, go_live, jpeg, model_data, pack
from tests.support.classification import classification
from tests.support.networks import archive, colours
from tests.support.promotion import endpoint_of, follow_up, in_service, promotion

LAMBDA = dataclasses.replace(HOSTING, endpoint_mode="lambda")
NEWER = RunKey("cars", "20261122-130000-1a2b3c")
RED, BLUE = jpeg((220, 10, 20)), jpeg((20, 10, 220))


class NoCalls:
    """An endpoint that must not be called."""

    def invoke_endpoint(self, **request: Any) -> Any:
        raise AssertionError(request)


def trained(cloud: Cloud, run: RunKey = RUN, content: bytes | None = None) -> TrainingEnded:
    """A run whose training is complete."""
    pack(cloud, run)
    cloud.runs().open(run, {"version": run.run_id})
    name = endpoint_of(run)
    cloud.runs().note(run, trainer="droplens", training_job=name)
    cloud.sagemaker.jobs[name] = {
        "AlgorithmSpecification": {"TrainingImage": IMAGE},
        "ModelArtifacts": {"S3ModelArtifacts": model_data(run)},
    }
    cloud.put(model_data(run).removeprefix(f"s3://{BUCKET}/"), content or archive())
    arn = f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{name}"
    return TrainingEnded(name, arn, "Completed", tag_map(tag_list(run)), None)


def deploy(cloud: Cloud, event: TrainingEnded, owner: str = "deploy") -> list[Any]:
    """The events that promote_endpoint is invoked with."""
    invoked: list[Any] = []
    step = Deployment(sagemaker=cloud.sagemaker, bucket=cloud.bucket, settings=LAMBDA)
    step.start(event, cloud.invocation(owner, invoked.append))
    return invoked


def promote(cloud: Cloud, event: Any) -> Status | None:
    invoked: list[Any] = []
    invocation = cloud.invocation("promote", invoked.append)
    _, status = promotion(cloud, runtime=NoCalls()).start(event, invocation)  # type: ignore[arg-type]
    for switched in invoked:
        follow_up(cloud, switched)
    return status


def go_through(cloud: Cloud, run: RunKey = RUN, content: bytes | None = None) -> None:
    [event] = deploy(cloud, trained(cloud, run, content))
    assert promote(cloud, event) is Status.LIVE


def known(cloud: Cloud, run: RunKey = RUN) -> Run:
    found = cloud.runs().get(run)
    assert found is not None
    return found


def label(cloud: Cloud, models: LoadedModels | None = None, runtime: Any = None) -> tuple[str, str]:
    """The label of a red image, and the run that gave it."""
    key = f"input/cars/{len(cloud.keys('input/'))}.jpg"
    etag = cloud.put(key, RED)["ETag"].strip('"')
    step = classification(
        cloud, runtime=runtime or NoCalls(), models=models or LoadedModels(cloud.bucket)
    )
    step.classify(ObjectCreated(BUCKET, key, etag, None, len(RED)))
    result = cloud.json(layout.result_key(key, "cars"))
    return result["prediction"]["label"], result["model"]["run_id"]


def test_a_trained_run_goes_live_and_answers_without_an_endpoint(cloud: Cloud) -> None:
    [event] = deploy(cloud, trained(cloud))
    assert event["detail-type"] == MODEL_DEPLOYED
    assert promote(cloud, event) is Status.LIVE
    assert not cloud.sagemaker.endpoints
    live = Cards(cloud.bucket).live("cars")
    assert live is not None
    assert live.model == known(cloud).model
    assert live.measured.accuracy == 1
    assert label(cloud) == ("red", RUN.run_id)


def test_events_that_come_twice_change_nothing(cloud: Cloud) -> None:
    event = trained(cloud)
    [deployed] = deploy(cloud, event)
    assert deploy(cloud, event, "repeat") == []
    assert promote(cloud, deployed) is Status.LIVE
    assert promote(cloud, deployed) is None
    assert deploy(cloud, event, "late") == []
    assert known(cloud).status is Status.LIVE


def test_a_crash_between_the_event_and_the_record_sends_the_event_again(cloud: Cloud) -> None:
    event, sent = trained(cloud), []

    def crash(told: object) -> None:
        sent.append(told)
        raise RuntimeError("killed")

    step = Deployment(sagemaker=cloud.sagemaker, bucket=cloud.bucket, settings=LAMBDA)
    with pytest.raises(RuntimeError):
        step.start(event, cloud.invocation("deploy", crash))
    assert deploy(cloud, event) == sent


def test_a_network_that_is_not_ours_ends_the_run(cloud: Cloud) -> None:
    model = colours()
    model.graph.node[0].op_type = "Loop"
    assert deploy(cloud, trained(cloud, content=archive(model))) == []
    run = known(cloud)
    assert (run.status, run.error["code"]) == (Status.FAILED, "model.refused")


def test_models_of_the_built_in_algorithm_are_refused(cloud: Cloud) -> None:
    event = trained(cloud)
    cloud.runs().note(RUN, trainer="builtin")
    assert deploy(cloud, event) == []
    run = known(cloud)
    assert run.error["code"] == "endpoint.lambda"
    assert "TrainerImage=droplens" in run.error["message"]


def test_a_record_that_names_another_object_is_refused(cloud: Cloud) -> None:
    [event] = deploy(cloud, trained(cloud))
    model = known(cloud).model
    assert model is not None
    cloud.runs().note(RUN, model={**model.to_dict(), "key": "input/cars/model.onnx"})
    assert promote(cloud, event) is Status.FAILED
    assert known(cloud).error["code"] == "origin.model"


def test_a_promotion_and_a_rollback_take_effect_without_mixing_two_models(cloud: Cloud) -> None:
    models = LoadedModels(cloud.bucket)
    go_through(cloud)
    assert label(cloud, models) == ("red", RUN.run_id)
    swapped = archive(colours(swapped=True))
    deploy(cloud, trained(cloud, NEWER, swapped))
    # Its classes are swapped, so that it would be refused: here a person has made it live.
    own = dataclasses.replace(
        card(NEWER.run_id), model=known(cloud, NEWER).model, endpoint=endpoint_of(NEWER)
    )
    go_live(Cards(cloud.bucket), own)
    cloud.runs().end(NEWER, Status.LIVE, generation=2)
    cloud.runs().replace(known(cloud), by=NEWER.run_id)
    assert label(cloud, models) == ("blue", NEWER.run_id)
    rollback = Rollback(cards=Cards(cloud.bucket), sagemaker=cloud.sagemaker, settings=LAMBDA)
    request = RollbackRequest(classifier="cars", run_id=None, reclassify="none")
    key, status = rollback.roll_back(request, cloud.invocation("rollback", lambda _: None))
    assert (key, status) == (RUN, Status.LIVE)
    assert label(cloud, models) == ("red", RUN.run_id)


def test_a_replaced_model_without_endpoint_is_never_retired(cloud: Cloud) -> None:
    go_through(cloud)
    go_through(cloud, NEWER)
    first = known(cloud)
    assert (first.status, first.retired) == (Status.REPLACED, False)


def test_a_rollback_from_a_model_in_lambda_to_one_behind_an_endpoint(cloud: Cloud) -> None:
    """As after EndpointMode was changed: each model answers as it was deployed."""
    in_service(cloud, RUN)
    go_live(Cards(cloud.bucket), card())
    cloud.runs().end(RUN, Status.LIVE, generation=1)
    go_through(cloud, NEWER)
    assert label(cloud) == ("red", NEWER.run_id)
    assert known(cloud).retired
    rollback = Rollback(cards=Cards(cloud.bucket), sagemaker=cloud.sagemaker, settings=LAMBDA)
    request = RollbackRequest(classifier="cars", run_id=None, reclassify="none")
    key, status = rollback.roll_back(request, cloud.invocation("rollback", lambda _: None))
    assert (key, status) == (RUN, Status.RESTORING)
    [name] = cloud.sagemaker.endpoints
    config = cloud.sagemaker.made["EndpointConfig"][name]
    assert "ServerlessConfig" in config["ProductionVariants"][0]


def test_an_image_whose_model_was_replaced_meanwhile_takes_the_live_one(cloud: Cloud) -> None:
    go_through(cloud)
    cards = CachedCards(Cards(cloud.bucket), 3600)
    assert cards.live("cars") is not None
    first = known(cloud).model
    assert first is not None
    go_through(cloud, NEWER)
    cloud.s3.delete_object(Bucket=BUCKET, Key=first.key)
    step = dataclasses.replace(classification(cloud, runtime=NoCalls()), cards=cards)
    etag = cloud.put("input/cars/a.jpg", RED)["ETag"].strip('"')
    step.classify(ObjectCreated(BUCKET, "input/cars/a.jpg", etag, None, len(RED)))
    assert cloud.json("results/cars/a.jpg.json")["model"]["run_id"] == NEWER.run_id


def test_lambda_needs_our_own_trainer() -> None:
    with pytest.raises(UserError, match="MXNet"):
        choices.endpoint_mode("lambda", "builtin", "us-east-1")


@pytest.mark.parametrize(
    ("training", "inside"),
    [({"prediction_ms": 40}, True), ({"prediction_ms": 4000}, False), ({}, False)],
)
def test_where_serverless_is_not_offered_auto_takes_lambda_for_fast_models(
    cloud: Cloud, training: dict[str, Any], inside: bool
) -> None:
    settings = dataclasses.replace(HOSTING, endpoint_mode="auto", aws_region="cn-north-1")
    event = trained(cloud, content=archive(training_json=json.dumps(training).encode()))
    step = Deployment(sagemaker=cloud.sagemaker, bucket=cloud.bucket, settings=settings)
    invoked: list[Any] = []
    step.start(event, cloud.invocation("deploy", invoked.append))
    assert bool(invoked) == inside
    assert (known(cloud).model is not None) == inside
    configs = cloud.sagemaker.made["EndpointConfig"].values()
    assert ["InstanceType" in one["ProductionVariants"][0] for one in configs] == [True] * (
        not inside
    )


def test_auto_gives_a_network_that_cannot_be_run_inside_lambda_an_endpoint(cloud: Cloud) -> None:
    settings = dataclasses.replace(HOSTING, endpoint_mode="auto", aws_region="cn-north-1")
    model = colours()
    model.graph.node[0].op_type = "Loop"
    event = trained(cloud, content=archive(model))
    step = Deployment(sagemaker=cloud.sagemaker, bucket=cloud.bucket, settings=settings)
    step.start(event, cloud.invocation("deploy", lambda _: None))
    assert known(cloud).model is None
    [config] = cloud.sagemaker.made["EndpointConfig"].values()
    assert "InstanceType" in config["ProductionVariants"][0]
