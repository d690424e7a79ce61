"""Which permissions a request to Batch or SageMaker needs, as the Service Authorization Reference
lists them: MiniStack evaluates policies, but knows the resources of neither service."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from localcloud.settings import ACCOUNT, REGION

_SAGEMAKER_RESOURCES = {
    "TrainingJobName": "training-job",
    "ModelName": "model",
    "EndpointConfigName": "endpoint-config",
    "EndpointName": "endpoint",
    "ModelPackageGroupName": "model-package-group",
    "ModelPackageName": "model-package",
    "ModelPackageArn": "model-package",
}
_BATCH_RESOURCES = {
    "computeEnvironment": "compute-environment",
    "computeEnvironmentName": "compute-environment",
    "jobQueue": "job-queue",
    "jobQueueName": "job-queue",
    "jobDefinition": "job-definition",
    "jobDefinitionName": "job-definition",
    "jobId": "job",
}
_ROLES = ("RoleArn", "ExecutionRoleArn")


@dataclass(frozen=True, slots=True)
class Permission:
    """An action on a resource, with the condition keys that the request brings along."""

    action: str
    resource: str
    context: dict[str, str] = field(default_factory=dict)


def needed_for_sagemaker(operation: str, request: dict[str, Any]) -> Iterator[Permission]:
    """Besides the action itself: to tag what is created, and to pass it a role. RULE: pass-role"""
    resources = [
        _sagemaker_arn(kind, request[name])
        for name, kind in _SAGEMAKER_RESOURCES.items()
        if name in request
    ]
    if operation == "CreateModelPackage" and "ModelPackageGroupName" in request:
        # The version is not known before.
        resources.append(_sagemaker_arn("model-package", f"{request['ModelPackageGroupName']}/*"))
    if "ResourceArn" in request:
        resources = [request["ResourceArn"]]
    if operation.startswith("List") and operation != "ListTags":
        resources = []  # no List operation but ListTags knows a resource
    for resource in resources or ["*"]:
        yield Permission(f"sagemaker:{operation}", resource)
    if request.get("Tags") and operation.startswith("Create"):
        yield Permission("sagemaker:AddTags", resources[-1])
    for name in _ROLES:
        if name in request:
            passed_to = {"iam:PassedToService": "sagemaker.amazonaws.com"}
            yield Permission("iam:PassRole", request[name], passed_to)


def needed_for_batch(operation: str, request: dict[str, Any]) -> Iterator[Permission]:
    """SubmitJob is checked on its queue and on its definition, and tags need a permission too."""
    resources = [
        _batch_arn(kind, request[name])
        for name, kind in _BATCH_RESOURCES.items()
        if name in request
    ]
    if "resourceArn" in request:
        resources = [request["resourceArn"]]
    if operation.startswith(("List", "Describe")) and operation != "ListTagsForResource":
        resources = []  # no List or Describe operation but that knows a resource
    for resource in resources or ["*"]:
        yield Permission(f"batch:{operation}", resource)
    if request.get("tags") and operation == "SubmitJob":
        yield Permission("batch:TagResource", _batch_arn("job", "*"))
    role = request.get("containerProperties", {}).get("jobRoleArn")
    if role:
        passed_to = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
        yield Permission("iam:PassRole", role, passed_to)


def _sagemaker_arn(kind: str, reference: str) -> str:
    if reference.startswith("arn:"):
        return reference
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{reference.lower()}"


def _batch_arn(kind: str, reference: str) -> str:
    if reference.startswith("arn:"):
        return reference
    return f"arn:aws:batch:{REGION}:{ACCOUNT}:{kind}/{reference}"
