"""SageMaker in the local cloud: training and endpoints are processes under its contract."""

import io
import json
import re
import tarfile
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.localcloud import ACCOUNT, REGION, Cloud, eventually, image, is_alive
from tests.support.localcloud_sagemaker import SageMaker

BUILT_IN = f"811284229777.dkr.ecr.{REGION}.amazonaws.com/image-classification:1"
TRAINING_LOGS = "/aws/sagemaker/TrainingJobs"


@pytest.fixture(scope="module")
def sagemaker(cloud: Cloud) -> SageMaker:
    return SageMaker(cloud)


# ---- training


def test_training_brings_the_channels_runs_and_takes_the_model_out(sagemaker: SageMaker) -> None:
    name = sagemaker.train("train-well", {"color": "red"})
    job = sagemaker.trained(name)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Completed", "Completed")
    uri = f"s3://{sagemaker.bucket}/training/{name}/output/model.tar.gz"
    assert job["ModelArtifacts"] == {"S3ModelArtifacts": uri}
    (metric,) = job["FinalMetricDataList"]
    assert (metric["MetricName"], metric["Value"]) == ("validation:accuracy", 0.75)
    transitions = [step["Status"] for step in job["SecondaryStatusTransitions"]]
    assert transitions == ["Starting", "Downloading", "Training", "Uploading", "Completed"]

    key = uri.removeprefix(f"s3://{sagemaker.bucket}/")
    body = sagemaker.s3.get_object(Bucket=sagemaker.bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        member = archive.extractfile("model.json")
        assert member is not None
        assert json.loads(member.read()) == {"color": "red"}
    (line,) = [
        line for line in sagemaker.cloud.log_lines(TRAINING_LOGS, name) if line.startswith("data ")
    ]
    seen = json.loads(line.removeprefix("data "))
    assert seen == {"train/a/train.rec": "records", "classes/classes.json": "[]"}


def test_training_events_have_awss_shape(sagemaker: SageMaker) -> None:
    name = sagemaker.train("train-told")
    sagemaker.trained(name)

    def told() -> list[dict[str, Any]]:
        every = [e for e in sagemaker.events() if e["detail"].get("TrainingJobName") == name]
        return every if every and every[-1]["detail"]["SecondaryStatus"] == "Completed" else []

    events = eventually("the last event", told)
    statuses = [e["detail"]["TrainingJobStatus"] for e in events]
    assert statuses == ["InProgress"] * (len(events) - 1) + ["Completed"]
    last = events[-1]
    arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/{name}"
    assert last["detail-type"] == "SageMaker Training Job State Change"
    assert last["resources"] == [arn] == [last["detail"]["TrainingJobArn"]]
    assert last["detail"]["Tags"] == {"run": name}
    assert "FailureReason" not in last["detail"]
    for field in ("CreationTime", "TrainingStartTime", "TrainingEndTime", "LastModifiedTime"):
        assert re.fullmatch(r"\d{13}", last["detail"][field])


def test_a_failed_training_gives_the_containers_own_reason(sagemaker: SageMaker) -> None:
    job = sagemaker.trained(sagemaker.train("train-badly", {"fail": "Class a has no pictures."}))
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"] == "AlgorithmError: Class a has no pictures., exit code: 1"
    assert "ModelArtifacts" not in job or not job["ModelArtifacts"].get("S3ModelArtifacts")


def test_the_built_in_algorithm_is_refused_with_the_reason(sagemaker: SageMaker) -> None:
    algorithm = {"TrainingImage": BUILT_IN, "TrainingInputMode": "File"}
    name = sagemaker.train("train-built-in", AlgorithmSpecification=algorithm)
    job = sagemaker.trained(name)
    assert job["TrainingJobStatus"] == "Failed"
    assert "can run only on AWS" in job["FailureReason"]


def test_a_channel_without_objects_fails_the_job_and_names_it(sagemaker: SageMaker) -> None:
    channels = [sagemaker.channel("train", "packed/nothing/")]
    job = sagemaker.trained(sagemaker.train("train-on-nothing", InputDataConfig=channels))
    assert job["TrainingJobStatus"] == "Failed"
    assert "channel train" in job["FailureReason"]
    assert "packed/nothing/" in job["FailureReason"]


def test_training_past_its_time_is_stopped_and_keeps_what_it_made(sagemaker: SageMaker) -> None:
    condition = {"MaxRuntimeInSeconds": 5}  # of which a busy machine starts Python in some
    name = sagemaker.train("train-long", {"sleep": "60"}, StoppingCondition=condition)
    job = sagemaker.trained(name)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    assert job["ModelArtifacts"]["S3ModelArtifacts"].endswith(f"{name}/output/model.tar.gz")
    assert not job.get("FailureReason")


def test_a_training_job_can_be_stopped(sagemaker: SageMaker) -> None:
    name = sagemaker.train("train-stopped", {"sleep": "60"})
    eventually("it runs", lambda: "CHILD" in str(sagemaker.cloud.log_lines(TRAINING_LOGS, name)))
    sagemaker.api.stop_training_job(TrainingJobName=name)
    job = sagemaker.trained(name)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    with pytest.raises(ClientError, match="Stopped"):
        sagemaker.api.stop_training_job(TrainingJobName=name)


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"TrainingJobName": "-starts-wrong"}, "ValidationException", "TrainingJobName"),
        ({"TrainingJobName": "a" * 64}, "ValidationException", "less than or equal to 63"),
        ({"TrainingJobName": "train-once"}, "ResourceInUse", "unique"),
        ({"HyperParameters": {"a": "x" * 2501}}, "ValidationException", "2500"),
        ({"EnableManagedSpotTraining": True}, "ValidationException", "MaxWaitTimeInSeconds"),
        (
            {"StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 60}},
            "ValidationException",
            "only when EnableManagedSpotTraining",
        ),
        (
            {"StoppingCondition": {"MaxRuntimeInSeconds": 432_001}},
            "ResourceLimitExceeded",
            "Longest run time for a training job",
        ),
        (
            {
                "ResourceConfig": {
                    "InstanceType": "ml.m5.xlarge",
                    "InstanceCount": 1,
                    "VolumeSizeInGB": 1025,
                }
            },
            "ResourceLimitExceeded",
            "Size of EBS volume",
        ),
        (
            {
                "ResourceConfig": {
                    "InstanceType": "ml.m5.tiny",
                    "InstanceCount": 1,
                    "VolumeSizeInGB": 1,
                }
            },
            "ValidationException",
            "enum value set",
        ),
        ({"ResourceConfig": {"VolumeSizeInGB": 1}}, "ValidationException", "InstanceType"),
        (
            {
                "AlgorithmSpecification": {
                    "TrainingImage": BUILT_IN,
                    "TrainingInputMode": "File",
                    "MetricDefinitions": [{"Name": "accuracy", "Regex": "accuracy=(.*)"}],
                }
            },
            "ValidationException",
            "can't override the metric definitions",
        ),
        (
            {"AlgorithmSpecification": {"TrainingInputMode": "File"}},
            "ValidationException",
            "Exactly one of TrainingImage and AlgorithmName",
        ),
        (
            {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/no-such-role"},
            "ValidationException",
            "Could not assume role",
        ),
    ],
)
def test_a_training_request_that_sagemaker_would_refuse_is_refused(
    sagemaker: SageMaker, change: dict[str, Any], code: str, says: str
) -> None:
    listed = sagemaker.api.list_training_jobs(NameContains="train-once")["TrainingJobSummaries"]
    if not listed:
        sagemaker.trained(sagemaker.train("train-once"))
    with pytest.raises(ClientError, match=says) as refused:
        sagemaker.train("train-refused", **change)
    assert refused.value.response["Error"]["Code"] == code


def test_a_job_of_several_instances_fails_with_the_reason(sagemaker: SageMaker) -> None:
    resources = {"InstanceType": "ml.m5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 10}
    job = sagemaker.trained(sagemaker.train("train-together", ResourceConfig=resources))
    assert job["TrainingJobStatus"] == "Failed"
    assert "trains on one instance, not on 2" in job["FailureReason"]


def test_lists_are_filtered_and_paged(sagemaker: SageMaker) -> None:
    for number in range(3):
        sagemaker.model(f"listed-{number}", {})
    pages = sagemaker.api.get_paginator("list_models").paginate(
        NameContains="LISTED-", PaginationConfig={"PageSize": 2}
    )
    names = [[model["ModelName"] for model in page["Models"]] for page in pages]
    assert names == [["listed-2", "listed-1"], ["listed-0"]]


# ---- hosting


def test_an_endpoint_answers_with_its_model_and_any_bytes(sagemaker: SageMaker) -> None:
    name = sagemaker.serve("serves", {"color": "red"})
    endpoint = sagemaker.served(name)
    assert endpoint["EndpointStatus"] == "InService", endpoint.get("FailureReason")
    body = bytes(range(256)) * 100
    answer = sagemaker.invoke(name, body, Accept="application/json")
    said = json.loads(answer["Body"].read())
    assert said["bytes"] == len(body)
    assert (said["type"], said["accept"]) == ("image/jpeg", "application/json")
    assert said["model"] == {"color": "red"}
    assert answer["InvokedProductionVariant"] == "v"
    assert answer["ContentType"] == "application/json"

    def told() -> list[dict[str, Any]]:
        return [e for e in sagemaker.events() if e["detail"].get("EndpointName") == name]

    (event,) = eventually("its event", told)
    detail = event["detail"]
    assert event["detail-type"] == "SageMaker Endpoint State Change"
    assert event["resources"] == [endpoint["EndpointArn"]]
    assert detail["EndpointStatus"] == "IN_SERVICE"
    assert detail["EndpointConfigName"] == name
    assert detail["ProductionVariants"][0]["VariantName"] == "v"
    assert detail["Tags"] == {"run": "r1"}
    assert isinstance(detail["CreationTime"], float)
    tags = sagemaker.api.list_tags(ResourceArn=endpoint["EndpointArn"])["Tags"]
    assert tags == [{"Key": "run", "Value": "r1"}]


def test_what_the_container_refuses_is_a_model_error_with_its_own_words(
    sagemaker: SageMaker,
) -> None:
    name = sagemaker.serve("refuses")
    sagemaker.served(name, "InService")
    with pytest.raises(ClientError) as refused:
        sagemaker.invoke(name, b"bad picture")
    response: Any = refused.value.response
    assert response["Error"]["Code"] == "ModelError"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["OriginalStatusCode"] == 400
    assert json.loads(response["OriginalMessage"]) == {"error": "bad picture"}


def test_a_container_that_dies_is_started_again(sagemaker: SageMaker) -> None:
    name = sagemaker.serve("dies")
    sagemaker.served(name, "InService")
    first = json.loads(sagemaker.invoke(name, b"hello")["Body"].read())["pid"]
    with pytest.raises(ClientError, match="ModelError"):
        sagemaker.invoke(name, b"die")

    def answers() -> int | None:
        try:
            return int(json.loads(sagemaker.invoke(name, b"hello")["Body"].read())["pid"])
        except ClientError:
            return None

    assert eventually("an answer", answers) != first
    assert sagemaker.served(name)["EndpointStatus"] == "InService"


@pytest.mark.parametrize(
    ("variant", "limit"),
    [
        ({}, 4 * 1024 * 1024),
        ({"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}, 6 * 1024 * 1024),
    ],
    ids=["serverless", "realtime"],
)
def test_a_payload_may_be_as_long_as_sagemaker_takes_it(
    sagemaker: SageMaker, variant: dict[str, Any], limit: int
) -> None:
    name = sagemaker.serve(f"long-{limit}", **variant)
    sagemaker.served(name, "InService")
    assert json.loads(sagemaker.invoke(name, b"x" * limit)["Body"].read())["bytes"] == limit
    with pytest.raises(ClientError) as refused:
        sagemaker.invoke(name, b"x" * (limit + 1))
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


def test_an_endpoint_that_is_not_there_is_a_validation_error(sagemaker: SageMaker) -> None:
    with pytest.raises(ClientError, match="not found") as refused:
        sagemaker.invoke("nowhere", b"x")
    assert refused.value.response["Error"]["Code"] == "ValidationError"


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("broken", "did not pass the ping health check: it ended; its last lines: the weights"),
        ("built-in", "can run only on AWS"),
    ],
)
def test_an_endpoint_that_cannot_serve_is_failed_and_says_why(
    sagemaker: SageMaker, case: str, says: str
) -> None:
    name = f"fails-{case}"
    sagemaker.model(name, {"broken": True}, BUILT_IN if case == "built-in" else "")
    sagemaker.config(name)
    sagemaker.api.create_endpoint(EndpointName=name, EndpointConfigName=name)
    endpoint = sagemaker.served(name)
    assert endpoint["EndpointStatus"] == "Failed"
    assert says in endpoint["FailureReason"]

    def told() -> list[dict[str, Any]]:
        return [e for e in sagemaker.events() if e["detail"].get("EndpointName") == name]

    (event,) = eventually("its event", told)
    assert event["detail"]["EndpointStatus"] == "FAILED"
    assert "FailureReason" not in event["detail"]


def test_an_endpoint_is_not_deleted_while_it_is_being_made(sagemaker: SageMaker) -> None:
    name = sagemaker.serve("unfinished")
    with pytest.raises(ClientError, match="Cannot update in-progress endpoint") as refused:
        sagemaker.api.delete_endpoint(EndpointName=name)
    assert refused.value.response["Error"]["Code"] == "ValidationException"
    assert sagemaker.served(name)["EndpointStatus"] == "InService"
    sagemaker.api.delete_endpoint(EndpointName=name)


@pytest.mark.parametrize(
    ("config", "model", "says"),
    [
        ({"KmsKeyId": "alias/mine"}, {}, "KmsKeyId"),
        ({}, {"EnableNetworkIsolation": True}, "EnableNetworkIsolation"),
        (
            {},
            {"VpcConfig": {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}},
            "VpcConfig",
        ),
    ],
)
def test_what_serverless_endpoints_cannot_have_is_refused(
    sagemaker: SageMaker, config: dict[str, Any], model: dict[str, Any], says: str
) -> None:
    name = f"excluded-{says.lower()}"
    container = {"Image": image("tiny-model")}
    sagemaker.api.create_model(
        ModelName=name, ExecutionRoleArn=sagemaker.role, PrimaryContainer=container, **model
    )
    serverless = {"MemorySizeInMB": 2048, "MaxConcurrency": 2}
    variant = {"VariantName": "v", "ModelName": name, "ServerlessConfig": serverless}
    with pytest.raises(ClientError, match=says) as refused:
        sagemaker.api.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=[variant], **config
        )
    assert refused.value.response["Error"]["Code"] == "ValidationException"
    on_instances = {
        "VariantName": "v",
        "ModelName": name,
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
    }
    sagemaker.api.create_endpoint_config(
        EndpointConfigName=name, ProductionVariants=[on_instances], **config
    )


def test_deleting_an_endpoint_ends_its_process(sagemaker: SageMaker) -> None:
    name = sagemaker.serve("goes")
    sagemaker.served(name, "InService")
    pid = json.loads(sagemaker.invoke(name, b"hello")["Body"].read())["pid"]
    assert is_alive(pid)
    sagemaker.api.delete_endpoint(EndpointName=name)
    eventually("its process ends", lambda: not is_alive(pid))

    def gone() -> bool:
        try:
            sagemaker.api.describe_endpoint(EndpointName=name)
        except ClientError as error:
            return "Could not find endpoint" in str(error)
        return False

    eventually("it is forgotten", gone)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda s: s.model("twice", {}), "already existing model"),
        (lambda s: s.config("no-such-model"), "Could not find model"),
        (
            lambda s: s.config("twice", InstanceType="ml.m5.large"),
            "InitialInstanceCount must be given",
        ),
        (
            lambda s: s.config(
                "twice", ServerlessConfig={"MemorySizeInMB": 1500, "MaxConcurrency": 1}
            ),
            "MemorySizeInMB must be one of",
        ),
        (
            lambda s: s.api.create_endpoint(EndpointName="e", EndpointConfigName="nothing"),
            "Could not find endpoint configuration",
        ),
        (lambda s: s.api.list_domains(), "does not offer ListDomains"),
    ],
)
def test_a_hosting_request_that_sagemaker_would_refuse_is_refused(
    sagemaker: SageMaker, call: Callable[[SageMaker], Any], says: str
) -> None:
    if not sagemaker.api.list_models(NameContains="twice")["Models"]:
        sagemaker.model("twice", {})
    with pytest.raises(ClientError, match=says):
        call(sagemaker)


def registered(sagemaker: SageMaker, token: str, **changes: Any) -> str:
    request = {
        "ModelPackageGroupName": "droplens--cars",
        "ModelPackageDescription": f"Run {token}, 91.4% right: (é)",
        "ModelApprovalStatus": "PendingManualApproval",
        "InferenceSpecification": {
            "Containers": [{"Image": image("tiny-model"), "ModelDataUrl": "s3://bucket/model"}],
            "SupportedContentTypes": ["image/jpeg"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
        "CustomerMetadataProperties": {"droplens:run": token},
        "ClientToken": token,
    }
    return str(sagemaker.api.create_model_package(**{**request, **changes})["ModelPackageArn"])


def test_a_registered_model_waits_for_a_decision_which_is_announced(sagemaker: SageMaker) -> None:
    api = sagemaker.api
    api.create_model_package_group(ModelPackageGroupName="droplens--cars")
    with pytest.raises(ClientError, match="already exists"):
        api.create_model_package_group(ModelPackageGroupName="droplens--cars")
    first, again, second = (registered(sagemaker, token) for token in ("run-1", "run-1", "run-2"))
    assert first == again
    assert first.endswith(":model-package/droplens--cars/1")
    assert second.endswith(":model-package/droplens--cars/2")
    found = api.describe_model_package(ModelPackageName=first)
    assert found["ModelApprovalStatus"] == "PendingManualApproval"
    assert found["CustomerMetadataProperties"] == {"droplens:run": "run-1"}
    api.update_model_package(
        ModelPackageArn=second, ModelApprovalStatus="Rejected", ApprovalDescription="too many vans"
    )
    found = api.describe_model_package(ModelPackageName=second)
    assert (found["ModelApprovalStatus"], found["ApprovalDescription"]) == (
        "Rejected",
        "too many vans",
    )
    [rejected] = api.list_model_packages(
        ModelPackageGroupName="droplens--cars", ModelApprovalStatus="Rejected"
    )["ModelPackageSummaryList"]
    assert rejected["ModelPackageArn"] == second

    def told() -> list[tuple[str, str]] | None:
        changes = [
            (event["detail"]["ModelPackageArn"], event["detail"]["ModelApprovalStatus"])
            for event in sagemaker.events()
            if event["detail-type"] == "SageMaker Model Package State Change"
        ]
        return changes if (second, "Rejected") in changes else None

    assert eventually("the decision's event", told)[0] == (first, "PendingManualApproval")


def test_a_model_is_registered_in_a_group_that_exists(sagemaker: SageMaker) -> None:
    with pytest.raises(ClientError, match="does not exist"):
        registered(sagemaker, "run-1", ModelPackageGroupName="droplens--birds")
    with pytest.raises(ClientError, match="does not exist"):
        sagemaker.api.describe_model_package(ModelPackageName="droplens--cars")
