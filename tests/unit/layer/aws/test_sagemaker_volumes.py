"""A user's key goes to the volumes that take one, and to the artefacts."""

import dataclasses

import pytest

from droplens.aws.sagemaker_volumes import volume_key
from droplens.journey import deploy, train
from tests.support.aws_account import BUCKET
from tests.support.aws_fakes import FakeSageMaker, check_request
from tests.support.builders import HOSTING, NAME, RUN
from tests.support.training import DATASET, OURS

KEY = "arn:aws:kms:us-east-1:123456789012:key/1a2b3c4d-0000-4000-8000-123456789abc"


@pytest.mark.parametrize(
    "instance",
    [
        "ml.m5.large",
        "ml.m5.xlarge",
        "ml.c6i.2xlarge",
        "ml.p2.xlarge",
        "ml.p3.2xlarge",
        "ml.inf2.8xlarge",
    ],
)
def test_a_volume_from_the_network_is_encrypted_by_the_key(instance: str) -> None:
    assert volume_key(KEY, instance) == KEY
    assert volume_key("", instance) is None


@pytest.mark.parametrize(
    "instance",
    [
        "ml.g5.xlarge",
        "ml.g4dn.xlarge",
        "ml.g6e.2xlarge",
        "ml.p3dn.24xlarge",
        "ml.p4d.24xlarge",
        "ml.p5.48xlarge",
        "ml.p6-b200.48xlarge",
        "ml.g7e.2xlarge",
        "ml.trn1.2xlarge",
        "ml.m5d.large",
        "ml.r6idn.large",
    ],
)
def test_a_disk_of_the_instance_s_own_takes_no_key(instance: str) -> None:
    assert volume_key(KEY, instance) is None


@pytest.mark.parametrize(("instance", "key"), [("ml.m5.xlarge", KEY), ("ml.g5.xlarge", None)])
def test_a_training_job_encrypts_its_artefact_and_its_volume(
    instance: str, key: str | None
) -> None:
    settings = dataclasses.replace(OURS, kms_key_arn=KEY, training_instance_type=instance)
    made = train.training_request(RUN, DATASET, BUCKET, settings, NAME)
    check_request("sagemaker", "CreateTrainingJob", made)
    assert made["OutputDataConfig"]["KmsKeyId"] == KEY
    assert made["ResourceConfig"].get("VolumeKmsKeyId") == key


@pytest.mark.parametrize(
    ("mode", "instance", "key"),
    [
        ("realtime", "ml.m5.large", KEY),
        ("realtime", "ml.g5.xlarge", None),
        ("serverless", "ml.m5.large", None),
    ],
)
def test_an_endpoint_on_an_instance_has_its_volume_encrypted(
    mode: str, instance: str, key: str | None
) -> None:
    settings = dataclasses.replace(
        HOSTING, kms_key_arn=KEY, endpoint_mode=mode, endpoint_instance_type=instance
    )
    sagemaker = FakeSageMaker()
    artefact = deploy.Artefact("image:1", "s3://bucket/model.tar.gz", "droplens")
    deploy.create_endpoint(sagemaker, NAME, artefact, RUN, settings)  # type: ignore[arg-type]
    assert sagemaker.made["EndpointConfig"][NAME].get("KmsKeyId") == key
