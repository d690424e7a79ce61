"""Small stand-ins for the services that moto does not run: SageMaker and Batch.

They record requests, validate each of them against botocore's own service model, and
raise the errors that AWS raises.
"""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

REGION, ACCOUNT = "us-east-1", "123456789012"

IN_PROGRESS = ("Creating", "Updating", "SystemUpdating")
_WORDS = {"Model": "model", "EndpointConfig": "endpoint configuration", "Endpoint": "endpoint"}

_SESSION = botocore.session.get_session()


def refusal(code: str, operation: str, message: str = "refused") -> ClientError:
    """The error that boto3 raises for AWS's error `code`."""
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


def _arn(kind: str, name: str) -> str:
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{_WORDS[kind].replace(' ', '-')}/{name}"


def _missing(kind: str, name: str) -> str:
    return f'Could not find {_WORDS[kind]} "{_arn(kind, name)}".'


def check_request(service: str, operation: str, request: dict[str, Any]) -> None:
    """Fail unless `request` is one that boto3 would send: names, types and lengths."""
    shape = _SESSION.get_service_model(service).operation_model(operation).input_shape
    assert shape is not None
    problems = ParamValidator().validate(request, shape)
    assert not problems.has_errors(), problems.generate_report()


@dataclass
class FakeBatch:
    """Takes jobs; like Batch, also a second one of the same name. failed_children: of arrays."""

    jobs: list[dict[str, Any]] = field(default_factory=list)
    failed_children: list[dict[str, Any]] = field(default_factory=list)

    def submit_job(self, **request: Any) -> dict[str, Any]:
        check_request("batch", "SubmitJob", request)
        self.jobs.append({**request, "jobId": f"job-{len(self.jobs)}"})
        return {"jobId": self.jobs[-1]["jobId"], "jobName": request["jobName"]}

    def list_jobs(self, **request: Any) -> dict[str, Any]:
        check_request("batch", "ListJobs", request)
        if "arrayJobId" in request:
            assert request["jobStatus"] == "FAILED"
            of_array = f"{request['arrayJobId']}:"
            failed = [job for job in self.failed_children if job["jobId"].startswith(of_array)]
            return {"jobSummaryList": failed}
        [name] = request["filters"][0]["values"]
        found = [job for job in self.jobs if job["jobName"] == name]
        shown = ("jobId", "jobName", "arrayProperties")
        return {"jobSummaryList": [{k: job[k] for k in shown if k in job} for job in found]}


@dataclass
class FakeSageMaker:
    """Jobs, models, configurations and endpoints by name, registered models by ARN.

    failing: operation to the error due; words: what AWS says with it. statuses: of endpoints, else
    InService; SageMaker deletes none that it is at work on. late: kind of resource to the number of
    calls for which one is not readable yet by those that need it.
    """

    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    made: dict[str, dict[str, dict[str, Any]]] = field(
        default_factory=lambda: {"Model": {}, "EndpointConfig": {}, "Endpoint": {}}
    )
    groups: set[str] = field(default_factory=set)
    packages: dict[str, dict[str, Any]] = field(default_factory=dict)
    tags: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    failing: dict[str, str] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, str] = field(default_factory=dict)
    late: dict[str, int] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    @property
    def endpoints(self) -> set[str]:
        return set(self.made["Endpoint"])

    def create_training_job(self, **request: Any) -> dict[str, Any]:
        self._called("CreateTrainingJob", request)
        name = request["TrainingJobName"]
        if name in self.jobs:
            raise refusal("ResourceInUse", "CreateTrainingJob")
        self.jobs[name] = request
        return {"TrainingJobArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/{name}"}

    def describe_training_job(self, **request: Any) -> dict[str, Any]:
        self._called("DescribeTrainingJob", request)
        return self.jobs[request["TrainingJobName"]]

    def create_model_package_group(self, **request: Any) -> dict[str, Any]:
        self._called("CreateModelPackageGroup", request)
        if request["ModelPackageGroupName"] in self.groups:
            raise refusal("ValidationException", "CreateModelPackageGroup", "already exists")
        self.groups.add(request["ModelPackageGroupName"])
        return {}

    def describe_model_package_group(self, **request: Any) -> dict[str, Any]:
        self._called("DescribeModelPackageGroup", request)
        return request

    def create_model_package(self, **request: Any) -> dict[str, Any]:
        self._called("CreateModelPackage", request)
        for arn, package in self.packages.items():
            if package["ClientToken"] == request["ClientToken"]:
                return {"ModelPackageArn": arn}
        group = request["ModelPackageGroupName"]
        version = 1 + sum(p["ModelPackageGroupName"] == group for p in self.packages.values())
        arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package/{group}/{version}"
        self.packages[arn] = request
        return {"ModelPackageArn": arn}

    def describe_model_package(self, **request: Any) -> dict[str, Any]:
        self._called("DescribeModelPackage", request)
        if request["ModelPackageName"] not in self.packages:
            raise refusal("ValidationException", "DescribeModelPackage", "does not exist")
        return self.packages[request["ModelPackageName"]]

    def list_tags(self, **request: Any) -> dict[str, Any]:
        self._called("ListTags", request)
        if request["ResourceArn"] not in self.tags:
            raise refusal("ValidationException", "ListTags", "no such resource")
        return {"Tags": self.tags[request["ResourceArn"]]}

    def _called(self, operation: str, request: dict[str, Any]) -> None:
        check_request("sagemaker", operation, request)
        self.calls.append(operation)
        if operation in self.failing:
            message = self.words.get(operation, "refused")
            raise refusal(self.failing[operation], operation, message)

    def _needed(self, kind: str, operation: str, name: str) -> None:
        """Fail as SageMaker does where what a request names cannot be read yet."""
        if self.late.get(kind, 0) > 0:
            self.late[kind] -= 1
            raise refusal("ValidationException", operation, _missing(kind, name))

    def _verb(self, verb: str, kind: str) -> Callable[..., dict[str, Any]]:
        def call(**request: Any) -> dict[str, Any]:
            self._called(f"{verb}{kind}", request)
            name, known = request[f"{kind}Name"], self.made[kind]
            operation = f"{verb}{kind}"
            # AWS has one code for all of these.
            if name in known and verb == "Create":
                taken = f'Cannot create already existing {_WORDS[kind]} "{_arn(kind, name)}".'
                raise refusal("ValidationException", operation, taken)
            if name not in known and verb != "Create":
                raise refusal("ValidationException", operation, _missing(kind, name))
            status = self.statuses.get(name, "InService")
            if operation == "DeleteEndpoint" and status in IN_PROGRESS:
                busy = f'Cannot update in-progress endpoint "{_arn(kind, name)}".'
                raise refusal("ValidationException", operation, busy)
            if operation == "CreateEndpointConfig":
                for variant in request["ProductionVariants"]:
                    self._needed("Model", operation, variant["ModelName"])
            if operation == "CreateEndpoint":
                self._needed("EndpointConfig", operation, request["EndpointConfigName"])
            if verb == "Create":
                known[name] = request
            if verb == "Delete":
                return known.pop(name)
            return {"EndpointStatus": status, **known[name]} if verb == "Describe" else {}

        return call

    def __getattr__(self, name: str) -> Callable[..., dict[str, Any]]:
        verb, _, kind = name.partition("_")
        kind = "".join(word.capitalize() for word in kind.split("_"))
        if verb in ("create", "describe", "delete") and kind in self.made:
            return self._verb(verb.capitalize(), kind)
        raise AttributeError(name)


@dataclass
class FakeFunctions:
    """Takes events for functions, as Lambda does: to be invoked later."""

    invoked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def invoke(self, **request: Any) -> dict[str, Any]:
        check_request("lambda", "Invoke", request)
        assert request["InvocationType"] == "Event"
        self.invoked.append((request["FunctionName"], json.loads(request["Payload"])))
        return {"StatusCode": 202}


@dataclass
class FakeRuntime:
    """Returns `answer(picture)`; endpoints in `gone` are not found."""

    answer: Callable[[bytes], Any]
    gone: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    error: Exception | None = None

    def invoke_endpoint(self, **request: Any) -> dict[str, Any]:
        check_request("sagemaker-runtime", "InvokeEndpoint", request)
        self.asked.append(request["EndpointName"])
        self.accepted.append(request["Accept"])
        if self.error is not None:
            raise self.error
        if request["EndpointName"] in self.gone:
            raise refusal("ValidationError", "InvokeEndpoint", "Endpoint not found")
        return {"Body": io.BytesIO(json.dumps(self.answer(request["Body"])).encode())}


def nobody(event: object) -> None:
    """In place of an invocation that must not happen: fails the test."""
    pytest.fail(f"another invocation was asked for: {event}")
