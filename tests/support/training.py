"""Settings of start_training, and a packed dataset."""

import dataclasses

from droplens.records.manifest import PackedDataset
from droplens.runtime.settings import TrainingSettings
from tests.support.aws_account import JOURNEY
from tests.support.builders import RUN

SETTINGS = TrainingSettings(
    **JOURNEY,
    aws_region="us-east-1",
    url_suffix="amazonaws.com",
    sagemaker_role="arn:aws:iam::123456789012:role/droplens-TrainingRole",
    kms_key_arn="",
    trainer_image="builtin",
    trainer_image_uri="123456789012.dkr.ecr.us-east-1.amazonaws.com/droplens/trainer:1a2b",
    finetune_image_uri="123456789012.dkr.ecr.us-east-1.amazonaws.com/droplens/trainer:finetune-3c",
    recipe="finetune",
    backbone="efficientnet-lite0",
    training_instance_type="auto",
    training_instance_count=1,
    use_spot=True,
    epochs=30,
    mini_batch_size=32,
    learning_rate=0,
    image_size=224,
    max_training_minutes=240,
    endpoint_mode="auto",
)


OURS = dataclasses.replace(SETTINGS, trainer_image="droplens", recipe="probe", image_size=288)


FINETUNE = dataclasses.replace(OURS, recipe="finetune")


AUTO = dataclasses.replace(OURS, recipe="auto", training_instance_type="ml.g5.xlarge")


DATASET = PackedDataset(
    prefix=f"packed/cars/{RUN.run_id}/",
    classes=("audi", "bmw", "fiat"),
    train=646,
    validation=162,
    shorter_side=256,
    bytes=40_000_000,
    digest="d1",
)
