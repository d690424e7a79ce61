"""What prepare_dataset does with an event, in an account in this process."""

import dataclasses
from typing import Any

from droplens.aws.events import ObjectCreated
from droplens.domain.run import RunKey
from droplens.journey.pack import Packing
from droplens.runtime.settings import PackingSettings
from droplens.state.runs import Runs
from tests.support.aws_account import BUCKET, JOURNEY, Cloud

SETTINGS = PackingSettings(
    **JOURNEY,
    job_queue="arn:aws:batch:us-east-1:123456789012:job-queue/droplens-packing",
    job_definition="arn:aws:batch:us-east-1:123456789012:job-definition/droplens-batch-prep:3",
    image_size=224,
    max_serving_time=3.0,
    trainer_image="droplens",
    packing_vcpus=2,
    packing_max_vcpus=8,
    pictures_per_packing_job=5,
    max_dataset_gib=256,
    retrain_after_corrections=3,
)


def stored(cloud: Cloud, key: str, body: bytes = b"") -> ObjectCreated:
    """Store an object; its event."""
    answer = cloud.put(key, body)
    return ObjectCreated(BUCKET, key, answer["ETag"].strip('"'), answer["VersionId"], len(body))


def start(
    cloud: Cloud, event: ObjectCreated, runs: Runs | None = None, **settings: Any
) -> RunKey | None:
    """The run that the event starts, by these settings in place of those above."""
    changed = dataclasses.replace(SETTINGS, **settings)
    packing = Packing(bucket=cloud.bucket, batch=cloud.batch, settings=changed)
    return packing.start(event, cloud.invocation(runs=runs))


def correct(cloud: Cloud, *names: str, body: bytes = b"x") -> list[ObjectCreated]:
    """Store corrections of cars; their events."""
    return [stored(cloud, f"corrections/cars/audi/{name}.jpg", body) for name in names]
