"""The API of AWS Batch: compute environments, queues, job definitions, jobs."""

import copy
import fnmatch
import json
import math
import re
import uuid
from collections.abc import Mapping
from typing import Any

from localcloud.batch.jobs import Job, Jobs, is_child, name_of, now
from localcloud.containers.runtime import Runtime
from localcloud.emulator.authorization import needed_for_batch
from localcloud.emulator.quotas import FARGATE_SPOT_VCPUS, FARGATE_VCPUS
from localcloud.emulator.service import Parameters, Request, Response, ServiceError, ServiceFront
from localcloud.emulator.state import Table
from localcloud.settings import ACCOUNT, REGION

MINIMUM_TIMEOUT = 60
ARRAY_SIZES = range(2, 10_001)
MOST_DEPENDENCIES = 20
MOST_ATTEMPTS = 10
MOST_EXIT_RULES = 5
_PAGE = 100
_FARGATE = {"FARGATE": FARGATE_VCPUS, "FARGATE_SPOT": FARGATE_SPOT_VCPUS}
# MiB of memory by vCPUs. Source: AWS Batch API Reference, "ResourceRequirement".
_FARGATE_MEMORY = {
    "0.25": (512, 1024, 2048),
    "0.5": range(1024, 4097, 1024),
    "1": range(2048, 8193, 1024),
    "2": range(4096, 16385, 1024),
    "4": range(8192, 30721, 1024),
    "8": range(16384, 61441, 4096),
    "16": range(32768, 122881, 8192),
}


def batch_arn(kind: str, name: str) -> str:
    """The ARN of one of our account's Batch resources."""
    return f"arn:aws:batch:{REGION}:{ACCOUNT}:{kind}/{name}"


def _client_error(message: str) -> ServiceError:
    return ServiceError("ClientException", message)


class Batch:
    """The service. Operations are methods from request to response parameters."""

    def __init__(self, runtime: Runtime):
        self._runtime = runtime
        self._state = runtime.state
        self._environments = self._state.table("batch.computeEnvironments")
        self._queues = self._state.table("batch.jobQueues")
        self._definitions = self._state.table("batch.jobDefinitions")
        self.jobs = Jobs(runtime, self._vcpus)
        self.front = ServiceFront(
            "batch",
            {
                "CreateComputeEnvironment": self.create_compute_environment,
                "UpdateComputeEnvironment": self.update_compute_environment,
                "DeleteComputeEnvironment": self.delete_compute_environment,
                "DescribeComputeEnvironments": self._describe_compute_environments,
                "CreateJobQueue": self.create_job_queue,
                "UpdateJobQueue": self.update_job_queue,
                "DeleteJobQueue": self.delete_job_queue,
                "DescribeJobQueues": self._describe_job_queues,
                "RegisterJobDefinition": self.register_job_definition,
                "DeregisterJobDefinition": self.deregister_job_definition,
                "DescribeJobDefinitions": self._describe_job_definitions,
                "SubmitJob": self._submit_job,
                "DescribeJobs": self._describe_jobs,
                "ListJobs": self._list_jobs,
                "CancelJob": self._cancel_job,
                "TerminateJob": self._terminate_job,
                "ListTagsForResource": self._list_tags,
                "TagResource": self._tag,
                "UntagResource": self._untag,
            },
            validation_error="ClientException",
            authorize=runtime.authorizer(needed_for_batch),
        )

    def handle(self, request: Request) -> Response:
        """One HTTP request (REST, JSON)."""
        try:
            name, in_path = self.front.rest_operation(request.method, request.path.rstrip("/"))
            parameters = json.loads(request.body) if request.body.strip() else {}
        except ServiceError as error:
            return error.response()
        except ValueError as error:
            return _client_error(f"the request is not JSON: {error}").response()
        return self.front.call(name, {**parameters, **in_path}, request)

    # ---- compute environments and queues

    def create_compute_environment(self, request: Parameters) -> Parameters:
        name = request["computeEnvironmentName"]
        arn = batch_arn("compute-environment", name)
        with self._state.lock:
            if name in self._environments:
                raise _client_error("Object already exists")
            self._environments[name] = {
                "state": "ENABLED",
                **request,
                "computeEnvironmentArn": arn,
                "ecsClusterArn": f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{name}",
                "status": "VALID",
                "statusReason": "ComputeEnvironment Healthy",
                "tags": request.get("tags", {}),
            }
            self._state.save()
        return {"computeEnvironmentName": name, "computeEnvironmentArn": arn}

    def update_compute_environment(self, request: Parameters) -> Parameters:
        with self._state.lock:
            record = _find(self._environments, request.pop("computeEnvironment"), "Compute env")
            resources = {
                **record.get("computeResources", {}),
                **request.pop("computeResources", {}),
            }
            record.update(request, computeResources=resources)
            self._state.save()
        return record

    def delete_compute_environment(self, request: Parameters) -> Parameters:
        name = name_of(request["computeEnvironment"])
        used = [queue["jobQueueName"] for queue in self._queues.values() if _uses(queue, name)]
        if used:
            raise _client_error(f"Cannot delete, found existing JobQueue relationship: {used}")
        return self._delete(self._environments, name)

    def _describe_compute_environments(self, request: Parameters) -> Parameters:
        found = _select(self._environments, request.get("computeEnvironments"))
        return {"computeEnvironments": found}

    def create_job_queue(self, request: Parameters) -> Parameters:
        name = request["jobQueueName"]
        arn = batch_arn("job-queue", name)
        with self._state.lock:
            if name in self._queues:
                raise _client_error("Object already exists")
            for order in request.get("computeEnvironmentOrder", []):
                _find(self._environments, order["computeEnvironment"], "Compute environment")
            self._queues[name] = {
                "state": "ENABLED",
                **request,
                "jobQueueArn": arn,
                "status": "VALID",
                "statusReason": "JobQueue Healthy",
                "tags": request.get("tags", {}),
            }
            self._state.save()
        return {"jobQueueName": name, "jobQueueArn": arn}

    def update_job_queue(self, request: Parameters) -> Parameters:
        with self._state.lock:
            record = _find(self._queues, request.pop("jobQueue"), "Job queue")
            record.update(request)
            self._state.save()
        return record

    def delete_job_queue(self, request: Parameters) -> Parameters:
        return self._delete(self._queues, name_of(request["jobQueue"]))

    def _describe_job_queues(self, request: Parameters) -> Parameters:
        return {"jobQueues": _select(self._queues, request.get("jobQueues"))}

    def _vcpus(self, queue_arn: str) -> dict[str, float]:
        """vCPU limits of a queue: by its ARN, the sum of its compute environments; by the quota's
        name, what the account may use on Fargate."""
        environments = self._queues[name_of(queue_arn)].get("computeEnvironmentOrder", [])
        resources = [
            self._environments[name_of(order["computeEnvironment"])].get("computeResources", {})
            for order in environments
        ]
        limits = {queue_arn: sum(one.get("maxvCpus", math.inf) for one in resources)}
        for kind in {one.get("type") for one in resources} & _FARGATE.keys():
            limits[_FARGATE[kind]] = self._runtime.quotas.value(_FARGATE[kind])
        return limits

    def _delete(self, table: Table, name: str) -> Parameters:
        with self._state.lock:
            table.pop(name, None)
            self._state.save()
        return {}

    # ---- job definitions

    def register_job_definition(self, request: Parameters) -> Parameters:
        name = request["jobDefinitionName"]
        _check_timeout(request.get("timeout"))
        _check_definition(request)
        with self._state.lock:
            revisions = [r["revision"] for r in self._definitions.values() if _is_named(r, name)]
            revision = max(revisions, default=0) + 1
            arn = batch_arn("job-definition", f"{name}:{revision}")
            self._definitions[f"{name}:{revision}"] = {
                **request,
                "jobDefinitionArn": arn,
                "revision": revision,
                "status": "ACTIVE",
                "tags": request.get("tags", {}),
            }
            self._state.save()
        return {"jobDefinitionName": name, "jobDefinitionArn": arn, "revision": revision}

    def deregister_job_definition(self, request: Parameters) -> Parameters:
        with self._state.lock:
            record = self._definitions.get(name_of(request["jobDefinition"]))
            if record is not None:
                record["status"] = "INACTIVE"
                self._state.save()
        return {}

    def _describe_job_definitions(self, request: Parameters) -> Parameters:
        wanted = {name_of(item) for item in request.get("jobDefinitions", [])}
        name, status = request.get("jobDefinitionName"), request.get("status")
        found = [
            record
            for key, record in self._definitions.items()
            if (not wanted or key in wanted)
            and (not name or _is_named(record, name))
            and (not status or record["status"] == status)
        ]
        return {"jobDefinitions": found}

    def _definition(self, reference: str) -> dict[str, Any]:
        """By ARN, `name:revision`, or `name` for its newest active revision."""
        key = name_of(reference)
        if ":" in key:
            candidates = [self._definitions[key]] if key in self._definitions else []
        else:
            candidates = [r for r in self._definitions.values() if _is_named(r, key)]
        active = [record for record in candidates if record["status"] == "ACTIVE"]
        if not active:
            raise _client_error(f"JobDefinition {reference} does not exist or is not active")
        return max(active, key=lambda record: record["revision"])

    # ---- jobs

    def _submit_job(self, request: Parameters) -> Parameters:
        queue = _find(self._queues, request["jobQueue"], "Job queue")
        if queue["state"] != "ENABLED":
            raise _client_error(f"Job queue {queue['jobQueueName']} is disabled")
        definition = self._definition(request["jobDefinition"])
        _check_timeout(request.get("timeout"))
        container = _container(definition, request.get("containerOverrides", {}))
        if "FARGATE" in definition.get("platformCapabilities", []):
            _check_fargate(container)
        job_id = str(uuid.uuid4())
        job: Job = {
            "jobId": job_id,
            "jobArn": batch_arn("job", job_id),
            "jobName": request["jobName"],
            "jobQueue": queue["jobQueueArn"],
            "jobDefinition": definition["jobDefinitionArn"],
            "status": "SUBMITTED",
            "createdAt": now(),
            "attempts": [],
            "dependsOn": self._dependencies(request.get("dependsOn", [])),
            **_array(request.get("arrayProperties")),
            "retryStrategy": {
                "attempts": 1,
                "evaluateOnExit": [],
                **(request.get("retryStrategy") or definition.get("retryStrategy") or {}),
            },
            "timeout": request.get("timeout") or definition.get("timeout"),
            "parameters": {**definition.get("parameters", {}), **request.get("parameters", {})},
            "container": container,
            "tags": {
                **(definition["tags"] if definition.get("propagateTags") else {}),
                **request.get("tags", {}),
            },
            "propagateTags": bool(
                request.get("propagateTags", definition.get("propagateTags", False))
            ),
            "platformCapabilities": definition.get("platformCapabilities", []),
        }
        job["container"]["command"] = [
            _substitute(word, job["parameters"]) for word in job["container"]["command"]
        ]
        self.jobs.start(job)
        return {"jobArn": job["jobArn"], "jobName": job["jobName"], "jobId": job_id}

    def _dependencies(self, given: list[dict[str, str]]) -> list[dict[str, str]]:
        if len(given) > MOST_DEPENDENCIES:
            raise _client_error(f"A job can depend on at most {MOST_DEPENDENCIES} jobs.")
        for dependency in given:
            if "type" in dependency:
                raise _client_error(
                    f"The local cloud does not offer dependencies of type {dependency['type']}."
                )
            _find(self.jobs.table, dependency.get("jobId", ""), "Job")
        return given

    def _describe_jobs(self, request: Parameters) -> Parameters:
        found = _select(self.jobs.table, request["jobs"])
        return {"jobs": [self.jobs.described(job) for job in found]}

    def _list_jobs(self, request: Parameters) -> Parameters:
        """A queue's jobs without their children, or an array's children.

        Without a filter only one status is listed, RUNNING unless the request names another.
        """
        if "arrayJobId" in request:
            parent = self.jobs.table.get(request["arrayJobId"])
            jobs = self.jobs.children(parent) if parent else []
        elif "jobQueue" in request:
            arn = _find(self._queues, request["jobQueue"], "Job queue")["jobQueueArn"]
            jobs = [
                job
                for job in self.jobs.table.values()
                if job["jobQueue"] == arn and not is_child(job)
            ]
        else:
            raise _client_error("One of jobQueue, arrayJobId and multiNodeJobId must be given.")
        jobs.sort(key=lambda job: job["createdAt"], reverse=True)
        if filters := request.get("filters"):
            for rule in filters:
                jobs = [job for job in jobs if _passes(job, rule["name"], rule["values"])]
        else:
            jobs = [job for job in jobs if job["status"] == request.get("jobStatus", "RUNNING")]
        start = int(request.get("nextToken") or 0)
        end = start + request.get("maxResults", _PAGE)
        more = {"nextToken": str(end)} if end < len(jobs) else {}
        return {"jobSummaryList": [self.jobs.described(job) for job in jobs[start:end]], **more}

    def _cancel_job(self, request: Parameters) -> Parameters:
        if job := self.jobs.table.get(name_of(request["jobId"])):
            self.jobs.cancel(job, request["reason"])
        return {}

    def _terminate_job(self, request: Parameters) -> Parameters:
        if job := self.jobs.table.get(name_of(request["jobId"])):
            self.jobs.terminate(job, request["reason"])
        return {}

    def _list_tags(self, request: Parameters) -> Parameters:
        return {"tags": self._tagged(request["resourceArn"])["tags"]}

    def _tag(self, request: Parameters) -> Parameters:
        with self._state.lock:
            self._tagged(request["resourceArn"])["tags"].update(request["tags"])
            self._state.save()
        return {}

    def _untag(self, request: Parameters) -> Parameters:
        with self._state.lock:
            tags = self._tagged(request["resourceArn"])["tags"]
            for key in request.get("tagKeys", []):
                tags.pop(key, None)
            self._state.save()
        return {}

    def _tagged(self, arn: str) -> dict[str, Any]:
        for table in (self._environments, self._queues, self._definitions, self.jobs.table):
            if (record := table.get(name_of(arn))) is not None:
                return record
        raise _client_error(f"{arn} does not exist")


def _is_named(definition: Mapping[str, Any], name: str) -> bool:
    return bool(definition["jobDefinitionName"] == name)


def _find(table: Table, reference: str, kind: str) -> dict[str, Any]:
    record = table.get(name_of(reference))
    if record is None:
        raise _client_error(f"{kind} {reference} does not exist.")
    return record


def _select(table: Table, references: list[str] | None) -> list[Job]:
    if not references:
        return list(table.values())
    return [table[name_of(item)] for item in references if name_of(item) in table]


def _uses(queue: Mapping[str, Any], environment: str) -> bool:
    orders = queue.get("computeEnvironmentOrder", [])
    return any(name_of(order["computeEnvironment"]) == environment for order in orders)


def _check_timeout(timeout: Mapping[str, int] | None) -> None:
    """RULE: job-timeouts"""
    if timeout and timeout.get("attemptDurationSeconds", MINIMUM_TIMEOUT) < MINIMUM_TIMEOUT:
        raise _client_error(f"attemptDurationSeconds must be at least {MINIMUM_TIMEOUT}")


def _check_definition(request: Parameters) -> None:
    """RULE: job-definitions. Source: AWS Batch API Reference, "RegisterJobDefinition",
    "RetryStrategy", "ContainerProperties"."""
    retries = request.get("retryStrategy", {})
    if not 1 <= retries.get("attempts", 1) <= MOST_ATTEMPTS:
        raise _client_error(f"Retry attempts must be between 1 and {MOST_ATTEMPTS}.")
    if len(retries.get("evaluateOnExit", [])) > MOST_EXIT_RULES:
        raise _client_error(f"At most {MOST_EXIT_RULES} evaluateOnExit conditions are allowed.")
    if "FARGATE" not in request.get("platformCapabilities", []):
        return
    container = request.get("containerProperties", {})
    if not container.get("executionRoleArn"):
        raise _client_error("executionRoleArn is required for jobs on Fargate resources.")
    for name in ("privileged", "instanceType"):
        if container.get(name):
            raise _client_error(f"{name} is not applicable for jobs on Fargate resources.")
    _check_fargate(container)


def _check_fargate(container: Mapping[str, Any]) -> None:
    """RULE: fargate-pairs"""
    needs = {one["type"]: one["value"] for one in container.get("resourceRequirements", [])}
    if "GPU" in needs:
        raise _client_error("GPU is not applicable for jobs on Fargate resources.")
    vcpus, memory = needs.get("VCPU", ""), needs.get("MEMORY", "")
    pairs = _FARGATE_MEMORY.get(f"{float(vcpus):g}" if vcpus else "")
    if pairs is None or int(memory or 0) not in pairs:
        raise _client_error(
            f"Fargate resource requirements ({vcpus} vCPU, {memory} MiB) not valid."
        )


def _array(properties: Mapping[str, int] | None) -> dict[str, Any]:
    """RULE: array-sizes"""
    if not properties or "size" not in properties:
        return {}
    size = properties["size"]
    if size not in ARRAY_SIZES:
        raise _client_error(
            f"The size of an array is {ARRAY_SIZES[0]} to {ARRAY_SIZES[-1]}, not {size}."
        )
    return {"arrayProperties": {"size": size}}


def _substitute(word: str, parameters: Mapping[str, str]) -> str:
    """`Ref::name` -> the parameter's value; as in Batch, unchanged where there is none."""
    found = re.fullmatch(r"Ref::(\S+)", word)
    return parameters.get(found[1], word) if found else word


def _container(definition: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The job's own container: the definition's, with this submission's overrides."""
    container = copy.deepcopy(dict(definition["containerProperties"]))
    environment = {item["name"]: item for item in container.get("environment", [])}
    environment |= {item["name"]: item for item in overrides.get("environment", [])}
    reserved = [name for name in environment if name.startswith("AWS_BATCH")]
    if reserved:
        raise _client_error(f"Environment variable names may not start with AWS_BATCH: {reserved}")
    needs = {item["type"]: item for item in container.get("resourceRequirements", [])}
    needs |= {item["type"]: item for item in overrides.get("resourceRequirements", [])}
    return {
        "volumes": [],
        "mountPoints": [],
        "ulimits": [],
        "networkInterfaces": [],
        "secrets": [],
        **container,
        "command": list(overrides.get("command") or container.get("command", [])),
        "environment": list(environment.values()),
        "resourceRequirements": list(needs.values()),
    }


def _passes(job: Job, name: str, values: list[str]) -> bool:
    if name == "JOB_NAME":
        return any(fnmatch.fnmatchcase(job["jobName"].lower(), v.lower()) for v in values)
    if name == "JOB_DEFINITION":
        definition = name_of(job["jobDefinition"])
        return any(fnmatch.fnmatchcase(definition, name_of(v)) for v in values)
    if name == "BEFORE_CREATED_AT":
        return bool(job["createdAt"] < int(values[0]))
    if name == "AFTER_CREATED_AT":
        return bool(job["createdAt"] > int(values[0]))
    raise _client_error(f"Unknown filter {name}")
