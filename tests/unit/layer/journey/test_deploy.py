"""A trained run gets an endpoint of its own, once, in the mode that was asked for."""

import dataclasses
from typing import Any

import pytest
from botocore.exceptions import ClientError

from droplens.aws.events import TrainingEnded
from droplens.aws.sagemaker import remove_endpoint
from droplens.aws.tags import tag_list, tag_map
from droplens.domain.run import Run, Status
from droplens.journey import deploy as hosting
from tests.support.aws_account import BUCKET, Cloud
from tests.support.aws_fakes import FakeSageMaker
from tests.support.builders import HOSTING, IMAGE, NAME, REPOSITORY, RUN, model_data
from tests.support.crashes import crash_in

TRAINED = TrainingEnded(
    NAME,
    f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{NAME}",
    "Completed",
    tag_map(tag_list(RUN)),
    None,
)
ARTEFACT = model_data()


@pytest.fixture
def trained(cloud: Cloud) -> Cloud:
    """An account with a run whose training is complete."""
    cloud.runs().open(RUN, {"version": "v1"})
    cloud.runs().note(RUN, trainer="droplens")
    cloud.sagemaker.jobs[NAME] = {
        "AlgorithmSpecification": {"TrainingImage": IMAGE},
        "ModelArtifacts": {"S3ModelArtifacts": ARTEFACT},
        "FinalMetricDataList": [{"MetricName": "validation:accuracy", "Value": 0.9136}],
    }
    return cloud


def deploy(cloud: Cloud, owner: str = "request-1", **changes: Any) -> str | None:
    settings = dataclasses.replace(HOSTING, **changes)
    deployment = hosting.Deployment(
        sagemaker=cloud.sagemaker, bucket=cloud.bucket, settings=settings
    )
    run, endpoint = deployment.start(TRAINED, cloud.invocation(owner))
    assert run == RUN
    return endpoint


def known(cloud: Cloud) -> Run:
    run = cloud.runs().get(RUN)
    assert run is not None
    return run


@pytest.mark.parametrize(
    ("mode", "trainer", "served"),
    [
        ("auto", "droplens", "serverless"),
        ("auto", "builtin", "realtime"),
        ("serverless", "droplens", "serverless"),
        ("serverless", "builtin", "serverless"),
        ("realtime", "droplens", "realtime"),
        ("realtime", "builtin", "realtime"),
    ],
)
def test_how_an_endpoint_is_served(mode: str, trainer: str, served: str) -> None:
    settings = dataclasses.replace(HOSTING, endpoint_mode=mode)
    variant = hosting.production_variant(NAME, trainer, settings)
    if served == "serverless":
        assert variant["ServerlessConfig"] == {"MemorySizeInMB": 2048, "MaxConcurrency": 5}
        assert "InstanceType" not in variant
    else:
        assert (variant["InstanceType"], variant["InitialInstanceCount"]) == ("ml.m5.large", 1)
        assert "ServerlessConfig" not in variant


@pytest.mark.parametrize("region", ["cn-north-1", "us-gov-west-1", "eu-atlantis-1"])
def test_where_serverless_is_not_known_to_be_offered_an_instance_serves_and_the_log_says_so(
    region: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = dataclasses.replace(HOSTING, aws_region=region)
    assert "InstanceType" in hosting.production_variant(NAME, "droplens", settings)
    assert "billed day and night" in caplog.text


def test_serverless_in_china_ends_the_run_with_the_parameter(trained: Cloud) -> None:
    assert deploy(trained, endpoint_mode="serverless", aws_region="cn-north-1") is None
    run = known(trained)
    assert run.status == Status.FAILED
    assert "EndpointMode=realtime" in str(run.record)
    assert not trained.sagemaker.made.get("Endpoint")


def test_a_trained_run_gets_model_configuration_and_endpoint(trained: Cloud) -> None:
    assert deploy(trained) == NAME
    made = trained.sagemaker.made
    assert made["Model"][NAME]["PrimaryContainer"] == {"Image": IMAGE, "ModelDataUrl": ARTEFACT}
    assert made["EndpointConfig"][NAME]["ProductionVariants"][0]["ModelName"] == NAME
    assert made["Endpoint"][NAME]["EndpointConfigName"] == NAME
    for kind in made:
        tags = {tag["Key"]: tag["Value"] for tag in made[kind][NAME]["Tags"]}
        assert tags == {"droplens:classifier": "cars", "droplens:run": RUN.run_id}
    run = known(trained)
    assert run.status is Status.DEPLOYING
    assert run.record["endpoint"] == NAME
    assert float(run.record["training_metrics"]["validation:accuracy"]) == 0.9136


def test_a_model_is_served_by_the_image_that_its_run_names(trained: Cloud) -> None:
    trained.runs().note(RUN, image=f"{REPOSITORY}:serving")
    deploy(trained)
    assert (
        trained.sagemaker.made["Model"][NAME]["PrimaryContainer"]["Image"]
        == f"{REPOSITORY}:serving"
    )
    assert known(trained).record["image"] == f"{REPOSITORY}:serving"


BUILTIN = "811284229777.dkr.ecr.us-east-1.amazonaws.com/image-classification:1"
STRANGERS = [
    "999999999999.dkr.ecr.us-east-1.amazonaws.com/droplens/trainer:1a2b3c",
    "123456789012.dkr.ecr.us-east-1.amazonaws.com/other/trainer:1a2b3c",
    "123456789012.dkr.ecr.us-east-1.amazonaws.com/droplens/trainer-other:1a2b3c",
    "123456789012.dkr.ecr.eu-west-1.amazonaws.com/droplens/trainer:1a2b3c",
    "123456789012.dkr.ecr.us-east-1.amazonaws.com/droplens/trainer",
    "123456789012.dkr.ecr.us-east-1.amazonaws.com/droplens/trainer:",
    "123456789012.dkr.ecr.us-east-1.amazonaws.com/droplens/trainer:a/b",
    "999999999999.dkr.ecr.us-east-1.amazonaws.com/image-classification:1",
    "811284229777.dkr.ecr.us-east-1.amazonaws.com/other:1",
    # That of another region, which the serving role may not fetch either.
    "685385470294.dkr.ecr.eu-west-1.amazonaws.com/image-classification:1",
    "docker.io/library/python:3.13",
]
FOREIGN_ARTEFACTS = [
    f"s3://another-bucket/training/cars/{RUN.run_id}/{NAME}/output/model.tar.gz",
    f"s3://{BUCKET}-2/training/cars/{RUN.run_id}/{NAME}/output/model.tar.gz",
    f"s3://{BUCKET}/training/birds/{RUN.run_id}/{NAME}/output/model.tar.gz",
    f"s3://{BUCKET}/training/cars/20261121-120000-1a2b3c/{NAME}/output/model.tar.gz",
    f"s3://{BUCKET}/training/cars/{RUN.run_id}-2/output/model.tar.gz",
    f"s3://{BUCKET}/input/cars/model.tar.gz",
    f"s3://{BUCKET}/training/cars/{RUN.run_id}/",
    f"https://{BUCKET}.s3.amazonaws.com/training/cars/{RUN.run_id}/model.tar.gz",
    "",
]


def refused(cloud: Cloud) -> str:
    """The code of the run's end, of which its owner was told once, and which made nothing."""
    run = known(cloud)
    assert run.status is Status.FAILED
    assert not any(cloud.sagemaker.made.values())
    [notice] = cloud.notices()
    assert "make resume" not in notice["message"]  # it would fail again
    return str(run.record["error"]["code"])


@pytest.mark.parametrize("image", [IMAGE, f"{REPOSITORY}:finetune-0f", BUILTIN])
def test_an_image_of_the_stack_or_of_the_region_s_built_in_algorithm_serves(
    trained: Cloud, image: str
) -> None:
    trained.runs().note(RUN, image=image)
    assert deploy(trained) == NAME


@pytest.mark.parametrize("image", STRANGERS)
@pytest.mark.parametrize("told_by", ["the run's item", "the training job"])
def test_a_stranger_s_image_ends_the_run(trained: Cloud, image: str, told_by: str) -> None:
    if told_by == "the run's item":
        trained.runs().note(RUN, image=image)
    else:
        trained.sagemaker.jobs[NAME]["AlgorithmSpecification"]["TrainingImage"] = image
    assert deploy(trained) is None
    assert refused(trained) == "origin.image"
    message = known(trained).record["error"]["message"]
    assert REPOSITORY in message
    assert f"image {image}:" in message


@pytest.mark.parametrize("uri", FOREIGN_ARTEFACTS)
def test_a_model_archive_from_elsewhere_ends_the_run(trained: Cloud, uri: str) -> None:
    trained.sagemaker.jobs[NAME]["ModelArtifacts"] = {"S3ModelArtifacts": uri}
    assert deploy(trained) is None
    assert refused(trained) == "origin.model_data"
    assert f"below s3://{BUCKET}/training/cars/{RUN.run_id}/" in str(known(trained).record["error"])
    assert deploy(trained, "request-2") is None  # and is not tried again
    assert len(trained.notices()) == 0


@pytest.mark.parametrize("region", ["eu-atlantis-1", "cn-north-1"])
def test_where_there_is_no_built_in_algorithm_its_image_is_a_stranger_s(
    trained: Cloud, region: str
) -> None:
    trained.runs().note(RUN, image=BUILTIN)
    assert deploy(trained, aws_region=region, endpoint_mode="realtime") is None
    assert refused(trained) == "origin.image"


@pytest.mark.parametrize(
    ("trainer", "mode", "isolated"),
    [
        ("droplens", "realtime", True),
        # Serverless endpoints do not offer it.
        ("droplens", "serverless", False),
        ("builtin", "realtime", False),
    ],
)
def test_our_own_container_reaches_no_network_on_an_instance(
    trained: Cloud, trainer: str, mode: str, isolated: bool
) -> None:
    trained.runs().note(RUN, trainer=trainer)
    deploy(trained, endpoint_mode=mode)
    assert trained.sagemaker.made["Model"][NAME]["EnableNetworkIsolation"] is isolated


def test_a_repeated_event_creates_nothing(trained: Cloud) -> None:
    assert [deploy(trained, f"request-{n}") for n in range(3)] == [NAME, None, None]
    assert trained.sagemaker.calls.count("CreateEndpoint") == 1


@pytest.mark.parametrize("step", ["create_model", "create_endpoint_config", "create_endpoint"])
def test_a_retry_goes_on_after_what_was_created(trained: Cloud, step: str) -> None:
    with crash_in(trained.sagemaker, step, after=True):
        deploy(trained)
    assert known(trained).record["endpoint"] == NAME
    assert deploy(trained) == NAME
    assert trained.sagemaker.endpoints == {NAME}
    assert trained.notices() == []


@pytest.mark.parametrize("operation", ["CreateModel", "CreateEndpointConfig", "CreateEndpoint"])
def test_what_sagemaker_refuses_ends_the_run(trained: Cloud, operation: str) -> None:
    trained.sagemaker.failing[operation] = "ValidationException"
    assert deploy(trained) is None
    assert known(trained).status is Status.FAILED
    assert known(trained).record["error"]["code"] == "endpoint.refused"
    assert len(trained.notices()) == 1


def test_trouble_in_telling_a_refusal_from_a_repeat_is_not_the_run_s_end(trained: Cloud) -> None:
    trained.sagemaker.failing = {
        "CreateEndpoint": "ValidationException",
        "DescribeEndpoint": "ThrottlingException",
    }
    with pytest.raises(ClientError, match="ThrottlingException"):
        deploy(trained)
    assert known(trained).status is Status.DEPLOYING
    trained.sagemaker.failing = {}
    assert deploy(trained) == NAME


def test_a_removed_endpoint_leaves_nothing_behind(trained: Cloud) -> None:
    deploy(trained)
    remove_endpoint(trained.sagemaker, NAME)
    assert trained.sagemaker.made == {"Model": {}, "EndpointConfig": {}, "Endpoint": {}}


@pytest.mark.parametrize("gone", ["Model", "EndpointConfig", "Endpoint"])
def test_what_is_gone_already_is_let_be(trained: Cloud, gone: str) -> None:
    deploy(trained)
    trained.sagemaker.made[gone].clear()
    for _ in range(2):
        remove_endpoint(trained.sagemaker, NAME)
    assert trained.sagemaker.made == {"Model": {}, "EndpointConfig": {}, "Endpoint": {}}


def test_a_removal_that_is_forbidden_is_not_hidden() -> None:
    sagemaker: Any = FakeSageMaker(failing={"DeleteEndpoint": "AccessDeniedException"})
    with pytest.raises(ClientError, match="AccessDenied"):
        remove_endpoint(sagemaker, NAME)
