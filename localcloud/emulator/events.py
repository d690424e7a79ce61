"""The EventBridge events that Batch, SageMaker and CodeBuild send, in the shape AWS publishes them.

Sources: AWS Batch User Guide, "AWS Batch events"; SageMaker Developer Guide, "Events that Amazon
SageMaker AI sends to Amazon EventBridge". Their times differ: Batch writes epoch milliseconds as
integers, training jobs the same as text, endpoints as floats, model packages as ISO 8601 text.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a service on the default bus; `resource` is the ARN of what changed."""

    source: str
    detail_type: str
    detail: Record
    resource: str


_JOB_FIELDS = (
    "jobArn",
    "jobName",
    "jobId",
    "jobQueue",
    "status",
    "statusReason",
    "attempts",
    "createdAt",
    "startedAt",
    "stoppedAt",
    "retryStrategy",
    "dependsOn",
    "arrayProperties",
    "jobDefinition",
    "parameters",
    "container",
    "timeout",
    "propagateTags",
    "platformCapabilities",
)
_TRAINING_FIELDS = (
    "TrainingJobName",
    "TrainingJobArn",
    "TrainingJobStatus",
    "SecondaryStatus",
    "FailureReason",
    "HyperParameters",
    "AlgorithmSpecification",
    "RoleArn",
    "InputDataConfig",
    "OutputDataConfig",
    "ResourceConfig",
    "VpcConfig",
    "StoppingCondition",
    "Environment",
)
_PACKAGE_FIELDS = (
    "ModelPackageGroupName",
    "ModelPackageVersion",
    "ModelPackageArn",
    "InferenceSpecification",
    "ModelPackageStatus",
    "ModelPackageStatusDetails",
    "ModelApprovalStatus",
    "MetadataProperties",
)
_TRAINING_TIMES = ("CreationTime", "TrainingStartTime", "TrainingEndTime", "LastModifiedTime")


def batch_job_changed(job: Record) -> Event:
    """`job` as DescribeJobs shows it."""
    detail = {name: job[name] for name in _JOB_FIELDS if job.get(name) is not None}
    detail["tags"] = {"resourceArn": job["jobArn"], **job["tags"]}
    return Event("aws.batch", "Batch Job State Change", detail, job["jobArn"])


def training_job_changed(job: Record, tags: list[Record]) -> Event:
    """`job` as DescribeTrainingJob shows it, its times in epoch seconds."""
    detail = {name: job[name] for name in _TRAINING_FIELDS if job.get(name) is not None}
    for name in _TRAINING_TIMES:
        if job.get(name) is not None:
            detail[name] = str(int(job[name] * 1000))
    detail["SecondaryStatusTransitions"] = [
        {
            key: int(value * 1000) if key.endswith("Time") else value
            for key, value in transition.items()
        }
        for transition in job["SecondaryStatusTransitions"]
    ]
    detail["Tags"] = {tag["Key"]: tag["Value"] for tag in tags}
    return Event(
        "aws.sagemaker", "SageMaker Training Job State Change", detail, job["TrainingJobArn"]
    )


def endpoint_changed(endpoint: Record, tags: list[Record]) -> Event:
    """`endpoint` as DescribeEndpoint shows it. The event writes `InService` as IN_SERVICE, and
    never carries the FailureReason."""
    status = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", endpoint["EndpointStatus"]).upper()
    detail = {
        "EndpointName": endpoint["EndpointName"],
        "EndpointArn": endpoint["EndpointArn"],
        "EndpointConfigName": endpoint["EndpointConfigName"],
        "ProductionVariants": endpoint.get("ProductionVariants", []),
        "EndpointStatus": status,
        "CreationTime": endpoint["CreationTime"] * 1000.0,
        "LastModifiedTime": endpoint["LastModifiedTime"] * 1000.0,
        "Tags": {tag["Key"]: tag["Value"] for tag in tags},
    }
    return Event(
        "aws.sagemaker", "SageMaker Endpoint State Change", detail, endpoint["EndpointArn"]
    )


def model_package_changed(package: Record) -> Event:
    """`package` as DescribeModelPackage shows it, its times in epoch seconds. The published event
    has no customer metadata."""
    detail = {name: package[name] for name in _PACKAGE_FIELDS if package.get(name) is not None}
    detail["CertifyForMarketplace"] = False
    for name in ("CreationTime", "LastModifiedTime"):
        at = datetime.fromtimestamp(package[name], UTC)
        detail[name] = at.isoformat(timespec="seconds").replace("+00:00", "Z")
    return Event(
        "aws.sagemaker",
        "SageMaker Model Package State Change",
        detail,
        package["ModelPackageArn"],
    )


def build_changed(build: Record) -> Event:
    """`build` as BatchGetBuilds shows it. Source: CodeBuild User Guide, "Build notifications
    sample", whose names are spelt with hyphens; its times are local text, left out here."""
    phases = [
        {
            "phase-type": phase["phaseType"],
            "phase-status": phase["phaseStatus"],
            "phase-context": [
                f"{context['statusCode']}: {context['message']}" for context in phase["contexts"]
            ],
        }
        for phase in build["phases"]
    ]
    logs = build["logs"]
    detail = {
        "build-id": build["arn"],
        "build-status": build["buildStatus"],
        "project-name": build["projectName"],
        "additional-information": {
            "environment": {
                "environment-variables": build["environment"]["environmentVariables"],
                "type": build["environment"]["type"],
            },
            "logs": {"group-name": logs["groupName"], "stream-name": logs["streamName"]},
            "phases": phases,
        },
    }
    return Event("aws.codebuild", "CodeBuild Build State Change", detail, build["arn"])
