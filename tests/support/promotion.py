"""Runs that wait for their promotion, and the promotion of one as promote_endpoint does it."""

import dataclasses
from typing import Any

from droplens.aws.events import model_switched
from droplens.domain.run import RunKey, Status
from droplens.journey.promote import Promotion
from droplens.journey.retire import Retirement
from droplens.prediction.loaded_models import LoadedModels
from droplens.runtime.settings import PromotionSettings
from droplens.state.cards import Cards
from droplens.state.registry import Registry
from tests.support.aws_account import JOURNEY, Cloud
from tests.support.aws_fakes import FakeRuntime
from tests.support.builders import IMAGE, REPOSITORY, RUN, model_data, redness

SETTINGS = PromotionSettings(
    **JOURNEY,
    aws_region="us-east-1",
    url_suffix="amazonaws.com",
    trainer_repository=REPOSITORY,
    picture_queue_url="",
    minimum_accuracy=0.7,
    accuracy_confidence=0.95,
    confident_precision=0.95,
    candidate_precision=0.95,
    unfamiliar_share=0.01,
    approval="automatic",
    keep_models=0,
    reclassify="none",
    code_version="arn:aws:lambda:us-east-1:123456789012:layer:droplens:7",
)


KINDS = ("Model", "EndpointConfig", "Endpoint")


def endpoint_of(run: RunKey) -> str:
    return f"droplens--{run.classifier}-{run.run_id}"


def in_service(cloud: Cloud, run: RunKey) -> None:
    """What the earlier steps leave behind once the run's endpoint serves."""
    cloud.runs().open(run, {"version": run.run_id})
    cloud.runs().note(
        run,
        trainer="droplens",
        image_size=224,
        endpoint=endpoint_of(run),
        training_job=endpoint_of(run),
        image=IMAGE,
        model_data=model_data(run),
    )
    for kind in KINDS:
        cloud.sagemaker.made[kind][endpoint_of(run)] = {}


def promotion(cloud: Cloud, runtime: FakeRuntime | None = None, **changes: Any) -> Promotion:
    tools: Any = runtime or FakeRuntime(redness)
    return Promotion(
        bucket=cloud.bucket,
        cards=Cards(cloud.bucket),
        models=LoadedModels(cloud.bucket),
        registry=Registry(cloud.sagemaker, "droplens", SETTINGS.code_version),
        sagemaker=cloud.sagemaker,
        runtime=tools,
        settings=dataclasses.replace(SETTINGS, picture_queue_url=cloud.picture_queue, **changes),
    )


def retirement(cloud: Cloud, keep_models: int = 0) -> Retirement:
    return Retirement(
        bucket=cloud.bucket,
        cards=Cards(cloud.bucket),
        sagemaker=cloud.sagemaker,
        sqs=cloud.sqs,
        queue=cloud.picture_queue,
        keep_models=keep_models,
    )


def follow_up(cloud: Cloud, event: Any, keep_models: int = 0) -> None:
    """What promote_endpoint does when it is invoked with the event of a switch."""
    switched = model_switched(event)
    retirement(cloud, keep_models).follow_up(switched, cloud.invocation("follow-up"))


def promote(
    cloud: Cloud, run: RunKey = RUN, owner: str = "request-1", **changes: Any
) -> Status | None:
    """Promote the run; the invocations that follow are made by the time that this returns."""
    step = promotion(cloud, **changes)
    invoked: list[Any] = []
    try:
        return step.promote(run, cloud.invocation(owner, invoked.append))
    finally:
        for event in invoked:
            follow_up(cloud, event, step.settings.keep_models)
