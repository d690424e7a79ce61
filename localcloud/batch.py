"""AWS Batch: queues, job definitions, and jobs that run their container as a process."""

import copy
import fnmatch
import json
import logging
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from localcloud import events
from localcloud.authorization import needed_for_batch
from localcloud.images import ImageError
from localcloud.processes import ContainerProcess, Exit
from localcloud.runtime import GOING_DOWN_GRACE, GoingDown, RoleError, Runtime
from localcloud.service import Parameters, Request, Response, ServiceError, ServiceFront
from localcloud.settings import ACCOUNT, REGION
from localcloud.state import Table

log = logging.getLogger("localcloud.batch")

Job = dict[str, Any]

LOG_GROUP = "/aws/batch/job"
FINISHED = ("SUCCEEDED", "FAILED")
WAITING = ("SUBMITTED", "PENDING", "RUNNABLE")
MINIMUM_TIMEOUT = 60
TASK_EXITED = "Essential container in task exited"
TASK_NOT_STARTED = "Task failed to start"
TIMED_OUT = "Job attempt duration exceeded timeout"
CLOUD_WENT_DOWN = "Host terminated: the local cloud went down while the job was running"
_STOP_GRACE = 30.0
_PAGE = 100


def batch_arn(kind: str, name: str) -> str:
    """The ARN of one of our account's Batch resources."""
    return f"arn:aws:batch:{REGION}:{ACCOUNT}:{kind}/{name}"


def _now() -> int:
    return int(time.time() * 1000)


def _client_error(message: str) -> ServiceError:
    return ServiceError("ClientException", message)


class Batch:
    """The service. Operations are methods from request to answer parameters."""

    def __init__(self, runtime: Runtime):
        self._runtime = runtime
        self._state = runtime.state
        self._environments = self._state.table("batch.computeEnvironments")
        self._queues = self._state.table("batch.jobQueues")
        self._definitions = self._state.table("batch.jobDefinitions")
        self._jobs = self._state.table("batch.jobs")
        self._running: dict[str, ContainerProcess] = {}
        self._asked_to_end: dict[str, str] = {}
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

    def fail_interrupted_jobs(self) -> None:
        """After a restart: a job that was under way cannot go on, and says so."""
        for job in list(self._jobs.values()):
            if job["status"] not in FINISHED:
                self._finish(job, "FAILED", CLOUD_WENT_DOWN)

    def stop(self) -> None:
        """End every container; their jobs are left as they are, for the next start to fail."""
        for process in list(self._running.values()):
            process.stop(GOING_DOWN_GRACE)

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
        name = _name(request["computeEnvironment"])
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
        return self._delete(self._queues, _name(request["jobQueue"]))

    def _describe_job_queues(self, request: Parameters) -> Parameters:
        return {"jobQueues": _select(self._queues, request.get("jobQueues"))}

    def _delete(self, table: Table, name: str) -> Parameters:
        with self._state.lock:
            table.pop(name, None)
            self._state.save()
        return {}

    # ---- job definitions

    def register_job_definition(self, request: Parameters) -> Parameters:
        name = request["jobDefinitionName"]
        _check_timeout(request.get("timeout"))
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
            record = self._definitions.get(_name(request["jobDefinition"]))
            if record is not None:
                record["status"] = "INACTIVE"
                self._state.save()
        return {}

    def _describe_job_definitions(self, request: Parameters) -> Parameters:
        wanted = {_name(item) for item in request.get("jobDefinitions", [])}
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
        key = _name(reference)
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
        job_id = str(uuid.uuid4())
        job: Job = {
            "jobId": job_id,
            "jobArn": batch_arn("job", job_id),
            "jobName": request["jobName"],
            "jobQueue": queue["jobQueueArn"],
            "jobDefinition": definition["jobDefinitionArn"],
            "status": "SUBMITTED",
            "createdAt": _now(),
            "attempts": [],
            "dependsOn": [],
            "retryStrategy": {
                "attempts": 1,
                "evaluateOnExit": [],
                **(request.get("retryStrategy") or definition.get("retryStrategy") or {}),
            },
            "timeout": request.get("timeout") or definition.get("timeout"),
            "parameters": {**definition.get("parameters", {}), **request.get("parameters", {})},
            "container": _container(definition, request.get("containerOverrides", {})),
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
        with self._state.lock:
            self._jobs[job_id] = job
            self._state.save()
        threading.Thread(target=self._run, args=(job,), name=f"job-{job_id}", daemon=True).start()
        return {"jobArn": job["jobArn"], "jobName": job["jobName"], "jobId": job_id}

    def _describe_jobs(self, request: Parameters) -> Parameters:
        ids = [_name(item) for item in request["jobs"]]
        return {"jobs": [self._jobs[job_id] for job_id in ids if job_id in self._jobs]}

    def _list_jobs(self, request: Parameters) -> Parameters:
        """Without a filter only one status is listed, RUNNING unless another is asked for."""
        jobs = sorted(self._jobs.values(), key=lambda job: job["createdAt"], reverse=True)
        if "jobQueue" in request:
            arn = _find(self._queues, request["jobQueue"], "Job queue")["jobQueueArn"]
            jobs = [job for job in jobs if job["jobQueue"] == arn]
        if filters := request.get("filters"):
            for rule in filters:
                jobs = [job for job in jobs if _passes(job, rule["name"], rule["values"])]
        else:
            jobs = [job for job in jobs if job["status"] == request.get("jobStatus", "RUNNING")]
        start = int(request.get("nextToken") or 0)
        end = start + request.get("maxResults", _PAGE)
        more = {"nextToken": str(end)} if end < len(jobs) else {}
        return {"jobSummaryList": jobs[start:end], **more}

    def _cancel_job(self, request: Parameters) -> Parameters:
        job = self._jobs.get(_name(request["jobId"]))
        if job is not None and job["status"] in WAITING:
            self._asked_to_end.setdefault(job["jobId"], request["reason"])
        return {}

    def _terminate_job(self, request: Parameters) -> Parameters:
        job = self._jobs.get(_name(request["jobId"]))
        if job is not None and job["status"] not in FINISHED:
            self._asked_to_end.setdefault(job["jobId"], request["reason"])
            if process := self._running.get(job["jobId"]):
                threading.Thread(target=process.stop, daemon=True).start()
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
        for table in (self._environments, self._queues, self._definitions, self._jobs):
            if (record := table.get(_name(arn))) is not None:
                return record
        raise _client_error(f"{arn} does not exist")

    # ---- running a job

    def _run(self, job: Job) -> None:
        try:
            for status in WAITING:
                self._move(job, status)
            with self._runtime.slots:
                if reason := self._asked_to_end.get(job["jobId"]):
                    self._finish(job, "FAILED", reason)
                else:
                    self._run_attempts(job)
        except GoingDown:
            log.info("job %s is left as it is", job["jobId"])
        except Exception as error:  # the fault of the local cloud: the job must still end
            log.exception("job %s", job["jobId"])
            self._finish(job, "FAILED", f"The local cloud failed to run the job: {error}")

    def _run_attempts(self, job: Job) -> None:
        attempts = job["retryStrategy"]["attempts"]
        for number in range(1, attempts + 1):
            if number > 1:
                self._move(job, "RUNNABLE")
            self._move(job, "STARTING")
            ended, reason = self._attempt(job, number)
            asked = self._asked_to_end.get(job["jobId"])
            if asked or ended is None or ended.timed_out:
                self._finish(job, "FAILED", asked or reason)
                return
            if ended.code == 0:
                self._finish(job, "SUCCEEDED", reason)
                return
            if not _retries(job["retryStrategy"]["evaluateOnExit"], ended.code, reason):
                break
        self._finish(job, "FAILED", reason)

    def _attempt(self, job: Job, number: int) -> tuple[Exit | None, str]:
        """Run the container once -> (how it ended, or None if it never started; the reason)."""
        container, started = job["container"], _now()
        stream = f"{_name(job['jobDefinition']).partition(':')[0]}/default/{uuid.uuid4().hex}"
        options = container.get("logConfiguration", {}).get("options", {})
        group = options.get("awslogs-group", LOG_GROUP)
        container["logStreamName"] = stream
        for name in ("exitCode", "reason"):
            container.pop(name, None)

        def write(line: str) -> None:
            self._runtime.logs.write(group, stream, line)

        ended: Exit | None = None
        reason = TASK_EXITED
        try:
            process = self._process(job, number, write)
        except (ImageError, RoleError) as error:
            container["reason"] = f"CannotStartContainerError: {error}"
            write(str(error))
            reason = TASK_NOT_STARTED
        else:
            self._running[job["jobId"]] = process
            job["startedAt"] = started
            self._move(job, "RUNNING")
            if job["jobId"] in self._asked_to_end:
                process.stop()
            ended = process.run((job["timeout"] or {}).get("attemptDurationSeconds"))
            self._runtime.stay_up()
            del self._running[job["jobId"]]
            container["exitCode"] = ended.code
            reason = TIMED_OUT if ended.timed_out else TASK_EXITED
        self._runtime.logs.flush()
        shown = ("exitCode", "reason", "logStreamName", "networkInterfaces", "taskArn")
        job["attempts"].append(
            {
                "container": {name: container[name] for name in shown if name in container},
                "startedAt": started,
                "stoppedAt": _now(),
                "statusReason": reason,
            }
        )
        return ended, reason

    def _process(self, job: Job, number: int, write: Callable[[str], None]) -> ContainerProcess:
        container = job["container"]
        image = self._runtime.image(container["image"], write)
        given = {item["name"]: item.get("value", "") for item in container["environment"]}
        queue, host = _name(job["jobQueue"]), self._runtime.settings
        extra = {
            **given,
            "AWS_BATCH_JOB_ID": job["jobId"],
            "AWS_BATCH_JOB_ATTEMPT": str(number),
            "AWS_BATCH_JQ_NAME": queue,
        }
        if role := container.get("jobRoleArn"):
            extra |= self._runtime.assume(role, "ecs-tasks.amazonaws.com").environment(host)
        folder = self._runtime.work_folder(job["jobId"])
        extra |= {"HOME": str(folder), "TMPDIR": str(folder)}
        return ContainerProcess(
            image.command(container["command"] or None),
            cwd=image.workdir,
            environment=image.run_environment(extra),
            on_line=write,
            stop_grace=_STOP_GRACE,
        )

    def _move(self, job: Job, status: str) -> None:
        with self._state.lock:
            job["status"] = status
            self._state.save()
            shown = copy.deepcopy(job)
        self._runtime.announce(events.batch_job_changed(shown))

    def _finish(self, job: Job, status: str, reason: str) -> None:
        with self._state.lock:
            job["statusReason"] = reason
            job["stoppedAt"] = _now()
        self._runtime.remove_work_folder(job["jobId"])
        self._move(job, status)


def _name(reference: str) -> str:
    """A resource's name from its ARN or from the name itself."""
    return reference.rsplit("/", 1)[-1]


def _is_named(definition: Mapping[str, Any], name: str) -> bool:
    return bool(definition["jobDefinitionName"] == name)


def _find(table: Table, reference: str, kind: str) -> dict[str, Any]:
    record = table.get(_name(reference))
    if record is None:
        raise _client_error(f"{kind} {reference} does not exist.")
    return record


def _select(table: Table, references: list[str] | None) -> list[Job]:
    if not references:
        return list(table.values())
    return [table[_name(item)] for item in references if _name(item) in table]


def _uses(queue: Mapping[str, Any], environment: str) -> bool:
    orders = queue.get("computeEnvironmentOrder", [])
    return any(_name(order["computeEnvironment"]) == environment for order in orders)


def _check_timeout(timeout: Mapping[str, int] | None) -> None:
    if timeout and timeout.get("attemptDurationSeconds", MINIMUM_TIMEOUT) < MINIMUM_TIMEOUT:
        raise _client_error(f"attemptDurationSeconds must be at least {MINIMUM_TIMEOUT}")


def _substitute(word: str, parameters: Mapping[str, str]) -> str:
    """`Ref::name` -> the parameter's value; one that has none stays, as it does in Batch."""
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


def _retries(rules: Sequence[Mapping[str, str]], code: int, reason: str) -> bool:
    """The first rule whose every given pattern matches decides; without one, Batch retries."""
    facts = {"onExitCode": str(code), "onStatusReason": reason, "onReason": ""}
    for rule in rules:
        patterns = [(facts[key], rule[key]) for key in facts if key in rule]
        if all(fnmatch.fnmatchcase(fact, pattern) for fact, pattern in patterns):
            return rule["action"].upper() == "RETRY"
    return True


def _passes(job: Job, name: str, values: list[str]) -> bool:
    if name == "JOB_NAME":
        return any(fnmatch.fnmatchcase(job["jobName"].lower(), v.lower()) for v in values)
    if name == "JOB_DEFINITION":
        definition = _name(job["jobDefinition"])
        return any(fnmatch.fnmatchcase(definition, _name(v)) for v in values)
    if name == "BEFORE_CREATED_AT":
        return bool(job["createdAt"] < int(values[0]))
    if name == "AFTER_CREATED_AT":
        return bool(job["createdAt"] > int(values[0]))
    raise _client_error(f"Unknown filter {name}")
