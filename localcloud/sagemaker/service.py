"""The API of SageMaker: training jobs, models, endpoints, model packages, tags, invocations."""

import json
import re
import time
from collections.abc import Callable
from typing import Any

from localcloud.containers.runtime import RoleError, Runtime
from localcloud.emulator import quotas
from localcloud.emulator.authorization import needed_for_sagemaker
from localcloud.emulator.service import Parameters, Request, Response, ServiceError, ServiceFront
from localcloud.sagemaker.hosting import IN_PROGRESS, Hosting
from localcloud.sagemaker.registry import Registry
from localcloud.sagemaker.training import Training
from localcloud.settings import ACCOUNT, REGION

Record = dict[str, Any]

PRINCIPAL = "sagemaker.amazonaws.com"
_PAGE = 10
_SERVERLESS_MEMORY = (1024, 2048, 3072, 4096, 5120, 6144)


def sagemaker_arn(kind: str, name: str) -> str:
    """The ARN of one of our account's SageMaker resources."""
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{name}"


def _invalid(message: str) -> ServiceError:
    return ServiceError("ValidationException", message)


def _not_found(kind: str, name: str) -> ServiceError:
    what = kind.replace("-config", " configuration")
    return _invalid(f'Could not find {what} "{sagemaker_arn(kind, name)}".')


class SageMaker:
    """The service. Operations are methods from request to response parameters."""

    def __init__(self, runtime: Runtime):
        self._runtime = runtime
        self._state = runtime.state
        self._jobs = self._state.table("sagemaker.trainingJobs")
        self._models = self._state.table("sagemaker.models")
        self._configs = self._state.table("sagemaker.endpointConfigs")
        self._endpoints = self._state.table("sagemaker.endpoints")
        self._tags = self._state.table("sagemaker.tags")
        self.training = Training(runtime, self._tags_of)
        self.hosting = Hosting(runtime, self._tags_of)
        self.front = ServiceFront(
            "sagemaker",
            {
                "CreateTrainingJob": self._create_training_job,
                "DescribeTrainingJob": self._describe_training_job,
                "ListTrainingJobs": self._list_training_jobs,
                "StopTrainingJob": self._stop_training_job,
                "CreateModel": self._create_model,
                "DescribeModel": self._describe_model,
                "ListModels": self._list_models,
                "DeleteModel": self._delete_model,
                "CreateEndpointConfig": self._create_endpoint_config,
                "DescribeEndpointConfig": self._describe_endpoint_config,
                "ListEndpointConfigs": self._list_endpoint_configs,
                "DeleteEndpointConfig": self._delete_endpoint_config,
                "CreateEndpoint": self._create_endpoint,
                "DescribeEndpoint": self._describe_endpoint,
                "ListEndpoints": self._list_endpoints,
                "DeleteEndpoint": self._delete_endpoint,
                "AddTags": self._add_tags,
                "ListTags": self._list_tags,
                "DeleteTags": self._delete_tags,
                **Registry(runtime).operations,
            },
            validation_error="ValidationException",
            authorize=runtime.authorizer(needed_for_sagemaker),
        )

    def handle(self, request: Request) -> Response:
        """One HTTP request: JSON 1.1 for the control plane, REST for the runtime."""
        if found := re.fullmatch(r"/endpoints/([^/]+)/invocations", request.path):
            try:
                self.front.authorize(request, "InvokeEndpoint", {"EndpointName": found[1]})
            except ServiceError as error:
                return error.response()
            return self.hosting.invoke(found[1], request.headers, request.body)
        target = request.headers.get("x-amz-target", "")
        try:
            parameters = json.loads(request.body) if request.body.strip() else {}
        except ValueError as error:
            return ServiceError("SerializationException", f"not JSON: {error}").response()
        return self.front.call(target.removeprefix("SageMaker."), parameters, request)

    # ---- training jobs

    def _create_training_job(self, request: Parameters) -> Parameters:
        """RULE: job-names"""
        name = request["TrainingJobName"]
        arn = sagemaker_arn("training-job", name)
        if name in self._jobs:
            raise ServiceError(
                "ResourceInUse",
                "Job name must be unique within an AWS account and region, and a job with this "
                f"name already exists ({arn})",
            )
        stopping = request.get("StoppingCondition", {})
        self._check_training_job(request, stopping)
        self._check_role(request["RoleArn"])
        now = time.time()
        job = {
            **{key: value for key, value in request.items() if key != "Tags"},
            "TrainingJobArn": arn,
            "StoppingCondition": {"MaxRuntimeInSeconds": 86400, **stopping},
            "TrainingJobStatus": "InProgress",
            "SecondaryStatus": "Starting",
            "SecondaryStatusTransitions": [],
            "CreationTime": now,
            "LastModifiedTime": now,
        }
        with self._state.lock:
            self._check_training_quotas(request)
            self._jobs[name] = job
            self._tags[arn] = {tag["Key"]: tag["Value"] for tag in request.get("Tags", [])}
            self._state.save()
        self.training.start(job)
        return {"TrainingJobArn": arn}

    def _check_training_job(self, request: Parameters, stopping: Record) -> None:
        """RULE: spot-wait-time, training-limits, metric-definitions, instance-types"""
        longest = stopping.get("MaxRuntimeInSeconds", 86400)
        if request.get("EnableManagedSpotTraining"):
            if stopping.get("MaxWaitTimeInSeconds", 0) < longest:
                raise _invalid(
                    "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or "
                    "equal to MaxRuntimeInSeconds"
                )
        elif "MaxWaitTimeInSeconds" in stopping:
            raise _invalid(
                "Invalid MaxWaitTimeInSeconds. It is supported only when EnableManagedSpotTraining "
                "is set to true"
            )
        resources = request.get("ResourceConfig", {})
        if not {"InstanceType", "InstanceCount"} <= resources.keys():
            raise _invalid("ResourceConfig must have InstanceType and InstanceCount.")
        for name, requested in (
            (quotas.LONGEST_TRAINING, longest),
            (quotas.TRAINING_VOLUME, resources.get("VolumeSizeInGB", 1)),
        ):
            if requested > (limit := self._runtime.quotas.value(name)):
                raise ServiceError(
                    "ResourceLimitExceeded",
                    f"The account-level service limit '{name}' is {limit:g}, {requested} "
                    "requested.",
                )
        algorithm = request["AlgorithmSpecification"]
        if ("AlgorithmName" in algorithm) == ("TrainingImage" in algorithm):
            raise _invalid(
                "Exactly one of TrainingImage and AlgorithmName must be specified in "
                "AlgorithmSpecification."
            )
        own = f"{ACCOUNT}.dkr.ecr." in algorithm.get("TrainingImage", "")
        if algorithm.get("MetricDefinitions") and not own:
            raise _invalid(
                "You can't override the metric definitions for Amazon SageMaker algorithms. "
                "Please retry the request without specifying metric definitions."
            )

    def _describe_training_job(self, request: Parameters) -> Parameters:
        name = request["TrainingJobName"]
        if name not in self._jobs:
            raise _invalid("Requested resource not found.")
        return self._jobs[name]

    def _list_training_jobs(self, request: Parameters) -> Parameters:
        return _page(request, self._jobs, "TrainingJob", "TrainingJobSummaries")

    def _stop_training_job(self, request: Parameters) -> Parameters:
        job = self._describe_training_job(request)
        if job["TrainingJobStatus"] not in ("InProgress", "Stopping"):
            raise _invalid(
                f"The request was rejected because the training job is in status "
                f"{job['TrainingJobStatus']}."
            )
        self.training.stop_job(job)
        return {}

    # ---- models, configurations, endpoints

    def _create_model(self, request: Parameters) -> Parameters:
        if "PrimaryContainer" not in request:
            raise _invalid("The local cloud needs PrimaryContainer; it has no inference pipelines.")
        if "Image" not in request["PrimaryContainer"]:
            raise _invalid("PrimaryContainer must name an Image.")
        if "ExecutionRoleArn" not in request:
            raise _invalid("ExecutionRoleArn must be given.")
        self._check_role(request["ExecutionRoleArn"])
        return self._create(self._models, "model", "Model", request)

    def _describe_model(self, request: Parameters) -> Parameters:
        return self._described(self._models, "model", request["ModelName"])

    def _list_models(self, request: Parameters) -> Parameters:
        return _page(request, self._models, "Model", "Models")

    def _delete_model(self, request: Parameters) -> Parameters:
        return self._delete(self._models, "model", request["ModelName"])

    def _create_endpoint_config(self, request: Parameters) -> Parameters:
        variants = request["ProductionVariants"]
        if len(variants) != 1:
            raise _invalid("The local cloud serves endpoints of exactly one production variant.")
        for variant in variants:
            self._readable(self._models, "model", variant.get("ModelName", ""))
            serverless = variant.get("ServerlessConfig")
            if (serverless is None) == ("InstanceType" not in variant):
                raise _invalid(
                    "A production variant must have either ServerlessConfig or InstanceType with "
                    "InitialInstanceCount."
                )
            if serverless is None and "InitialInstanceCount" not in variant:
                raise _invalid("InitialInstanceCount must be given for a real-time endpoint.")
            if serverless:
                self._check_serverless(request, variant)
        return self._create(self._configs, "endpoint-config", "EndpointConfig", request)

    def _check_serverless(self, request: Parameters, variant: Record) -> None:
        """RULE: serverless-memory, serverless-exclusions"""
        serverless = variant["ServerlessConfig"]
        if serverless["MemorySizeInMB"] not in _SERVERLESS_MEMORY:
            raise _invalid(f"MemorySizeInMB must be one of {_SERVERLESS_MEMORY}.")
        if serverless.get("ProvisionedConcurrency", 0) > serverless["MaxConcurrency"]:
            raise _invalid("ProvisionedConcurrency must not be greater than MaxConcurrency.")
        if "KmsKeyId" in request:
            raise _invalid("KmsKeyId is not supported for serverless endpoints.")
        model = self._models[variant["ModelName"]]
        for name in ("EnableNetworkIsolation", "VpcConfig"):
            if model.get(name):
                raise _invalid(f"{name} of a model is not supported for serverless endpoints.")

    def _describe_endpoint_config(self, request: Parameters) -> Parameters:
        name = request["EndpointConfigName"]
        return self._described(self._configs, "endpoint-config", name)

    def _list_endpoint_configs(self, request: Parameters) -> Parameters:
        return _page(request, self._configs, "EndpointConfig", "EndpointConfigs")

    def _delete_endpoint_config(self, request: Parameters) -> Parameters:
        return self._delete(self._configs, "endpoint-config", request["EndpointConfigName"])

    def _create_endpoint(self, request: Parameters) -> Parameters:
        config = self._readable(self._configs, "endpoint-config", request["EndpointConfigName"])
        (variant,) = config["ProductionVariants"]
        model = self._readable(self._models, "model", variant["ModelName"])
        with self._state.lock:
            self._check_endpoint_quotas(request["EndpointName"], variant)
            response = self._create(self._endpoints, "endpoint", "Endpoint", request)
            endpoint = self._endpoints[request["EndpointName"]]
            # A later change of model or configuration does not change the endpoint.
            endpoint.update(EndpointStatus="Creating", _model=dict(model), _variant=dict(variant))
            self._state.save()
        self.hosting.start(endpoint)
        return response

    def _describe_endpoint(self, request: Parameters) -> Parameters:
        return self._described(self._endpoints, "endpoint", request["EndpointName"])

    def _list_endpoints(self, request: Parameters) -> Parameters:
        return _page(request, self._endpoints, "Endpoint", "Endpoints")

    def _delete_endpoint(self, request: Parameters) -> Parameters:
        """RULE: delete-in-progress"""
        endpoint = self._described(self._endpoints, "endpoint", request["EndpointName"])
        if endpoint["EndpointStatus"] in ("Deleting", *IN_PROGRESS):
            raise _invalid(f'Cannot update in-progress endpoint "{endpoint["EndpointArn"]}".')
        self.hosting.delete(endpoint)
        return {}

    # ---- tags

    def _add_tags(self, request: Parameters) -> Parameters:
        with self._state.lock:
            tags = self._tags.setdefault(request["ResourceArn"], {})
            tags.update({tag["Key"]: tag["Value"] for tag in request["Tags"]})
            self._state.save()
        return {"Tags": self._tags_of(request["ResourceArn"])}

    def _list_tags(self, request: Parameters) -> Parameters:
        return {"Tags": self._tags_of(request["ResourceArn"])}

    def _delete_tags(self, request: Parameters) -> Parameters:
        with self._state.lock:
            for key in request["TagKeys"]:
                self._tags.get(request["ResourceArn"], {}).pop(key, None)
            self._state.save()
        return {}

    def _tags_of(self, arn: str) -> list[Record]:
        return [{"Key": key, "Value": value} for key, value in self._tags.get(arn, {}).items()]

    # ---- quotas

    def _check_training_quotas(self, request: Parameters) -> None:
        """RULE: training-quotas. Instances are counted from the request to the job's end."""
        wanted = request["ResourceConfig"]
        spot = request.get("EnableManagedSpotTraining", False)
        kind, count = wanted.get("InstanceType", ""), wanted.get("InstanceCount", 1)
        used = [
            (job["ResourceConfig"].get("InstanceType"), job["ResourceConfig"]["InstanceCount"])
            for job in self._jobs.values()
            if job["TrainingJobStatus"] in ("InProgress", "Stopping")
            and job.get("EnableManagedSpotTraining", False) == spot
        ]
        of_kind = sum(number for other, number in used if other == kind)
        self._check_quota(quotas.training_quota(kind, spot=spot), of_kind, count, "Instances")
        across = quotas.ACROSS_SPOT_TRAINING if spot else quotas.ACROSS_TRAINING
        self._check_quota(across, sum(number for _, number in used), count, "Instances")

    def _check_endpoint_quotas(self, name: str, variant: Record) -> None:
        """RULE: serverless-quotas, endpoint-quotas. An endpoint counts from CreateEndpoint until it
        is deleted, but not while it is Failed."""
        serving = [
            endpoint["_variant"]
            for other, endpoint in self._endpoints.items()
            if endpoint["EndpointStatus"] != "Failed" and other != name
        ]
        if serverless := variant.get("ServerlessConfig"):
            taken = [one["ServerlessConfig"] for one in serving if "ServerlessConfig" in one]
            self._check_quota(quotas.SERVERLESS_ENDPOINTS, len(taken), 1, "None")
            concurrency = sum(one["MaxConcurrency"] for one in taken)
            more = serverless["MaxConcurrency"]
            self._check_quota(quotas.SERVERLESS_CONCURRENCY, concurrency, more, "None")
            return
        kind = variant["InstanceType"]
        used = sum(
            one["InitialInstanceCount"] for one in serving if one.get("InstanceType") == kind
        )
        more = variant["InitialInstanceCount"]
        self._check_quota(quotas.endpoint_quota(kind), used, more, "Instances")

    def _check_quota(self, name: str, used: float, more: float, unit: str) -> None:
        limit = self._runtime.quotas.value(name)
        if used + more > limit:
            message = quotas.limit_exceeded(name, limit, used, more, unit)
            raise ServiceError("ResourceLimitExceeded", message)

    # ---- common to all resources

    def _check_role(self, arn: str) -> None:
        try:
            self._runtime.assume(arn, PRINCIPAL)
        except RoleError as error:
            raise _invalid(str(error)) from error

    def _create(
        self, table: dict[str, Record], kind: str, prefix: str, request: Parameters
    ) -> Parameters:
        name = request[f"{prefix}Name"]
        arn = sagemaker_arn(kind, name)
        now = time.time()
        with self._state.lock:
            if name in table:
                what = kind.replace("-config", " configuration")
                raise _invalid(f'Cannot create already existing {what} "{arn}".')
            kept = {key: value for key, value in request.items() if key != "Tags"}
            table[name] = {
                **kept,
                f"{prefix}Arn": arn,
                "CreationTime": now,
                "LastModifiedTime": now,
            }
            self._tags[arn] = {tag["Key"]: tag["Value"] for tag in request.get("Tags", [])}
            self._state.save()
        return {f"{prefix}Arn": arn}

    def _described(self, table: dict[str, Record], kind: str, name: str) -> Record:
        if name not in table:
            raise _not_found(kind, name)
        return table[name]

    def _readable(self, table: dict[str, Record], kind: str, name: str) -> Record:
        """As another operation reads it: a new record may not be visible. RULE: read-after-write"""
        record = self._described(table, kind, name)
        if time.time() - record["CreationTime"] < self._runtime.faults.active.propagation:
            raise _not_found(kind, name)
        return record

    def _delete(self, table: dict[str, Record], kind: str, name: str) -> Parameters:
        with self._state.lock:
            self._described(table, kind, name)
            del table[name]
            self._tags.pop(sagemaker_arn(kind, name), None)
            self._state.save()
        return {}


def _page(request: Parameters, table: dict[str, Record], prefix: str, member: str) -> Parameters:
    """The List operations' common filters, order (newest first) and paging (10 to a page)."""
    name, status = f"{prefix}Name", f"{prefix}Status"
    keep: list[Callable[[Record], bool]] = []
    if "NameContains" in request:
        keep.append(lambda record: request["NameContains"].lower() in record[name].lower())
    if "StatusEquals" in request:
        keep.append(lambda record: record[status] == request["StatusEquals"])
    found = [record for record in table.values() if all(rule(record) for rule in keep)]
    by_name = request.get("SortBy") == "Name"
    descending = request.get("SortOrder", "Descending") == "Descending"
    found.sort(key=lambda r: r[name] if by_name else r["CreationTime"], reverse=descending)
    start = int(request.get("NextToken") or 0)
    end = start + request.get("MaxResults", _PAGE)
    more = {"NextToken": str(end)} if end < len(found) else {}
    return {member: found[start:end], **more}
