"""The permissions that a request to Batch or SageMaker needs.

Source: Service Authorization Reference. MiniStack evaluates policies, but knows the resources of
neither service.
"""

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
    """An action on a resource, with the condition keys of the request."""

    action: str
    resource: str
    context: dict[str, str] = field(default_factory=dict)


def needed_for_sagemaker(operation: str, request: dict[str, Any]) -> Iterator[Permission]:
    """The action itself, AddTags for a creation with tags, PassRole. RULE: pass-role"""
    resources = [
        _sagemaker_arn(kind, request[name])
        for name, kind in _SAGEMAKER_RESOURCES.items()
        if name in request
    ]
    if operation == "CreateModelPackage" and "ModelPackageGroupName" in request:
        # The version is assigned later.
        resources.append(_sagemaker_arn("model-package", f"{request['ModelPackageGroupName']}/*"))
    if "ResourceArn" in request:
        resources = [request["ResourceArn"]]
    if operation.startswith("List") and operation != "ListTags":
        resources = []  # of the List operations only ListTags has a resource
    for resource in resources or ["*"]:
        yield Permission(f"sagemaker:{operation}", resource)
    if request.get("Tags") and operation.startswith("Create"):
        yield Permission("sagemaker:AddTags", resources[-1])
    for name in _ROLES:
        if name in request:
            passed_to = {"iam:PassedToService": "sagemaker.amazonaws.com"}
            yield Permission("iam:PassRole", request[name], passed_to)


def needed_for_batch(operation: str, request: dict[str, Any]) -> Iterator[Permission]:
    """SubmitJob needs its queue and its definition; tags need batch:TagResource too."""
    resources = [
        _batch_arn(kind, request[name])
        for name, kind in _BATCH_RESOURCES.items()
        if name in request
    ]
    if "resourceArn" in request:
        resources = [request["resourceArn"]]
    if operation.startswith(("List", "Describe")) and operation != "ListTagsForResource":
        resources = []  # of these only ListTagsForResource has a resource
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
