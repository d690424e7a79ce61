"""Runs Batch jobs: single ones, arrays and dependent ones, each container a process.

Sources of the rules: AWS Batch User Guide, "Array jobs", "Job dependencies", "Job states"; AWS
Batch API Reference, "CancelJob", "TerminateJob".
"""

import copy
import fnmatch
import logging
import queue
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from localcloud.containers.images import ImageError
from localcloud.containers.processes import ContainerProcess, Exit
from localcloud.containers.runtime import SHUTDOWN_GRACE, RoleError, Runtime, ShuttingDown
from localcloud.emulator import events

log = logging.getLogger("localcloud.batch")

Job = dict[str, Any]

LOG_GROUP = "/aws/batch/job"
STATES = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED")
FINISHED = ("SUCCEEDED", "FAILED")
WAITING = ("SUBMITTED", "PENDING", "RUNNABLE")
TASK_EXITED = "Essential container in task exited"
TASK_NOT_STARTED = "Task failed to start"
TIMED_OUT = "Job attempt duration exceeded timeout"
CHILD_FAILED = "Array Child Job failed"
DEPENDENCY_FAILED = "Dependent Job failed"
CLOUD_WENT_DOWN = "Host terminated: the local cloud went down while the job was running"
_STOP_GRACE = 30.0
_POLL_SECONDS = 0.5


def now() -> int:
    """Epoch milliseconds, as Batch counts its times."""
    return int(time.time() * 1000)


def name_of(reference: str) -> str:
    """A resource's name from its ARN or from the name itself."""
    return reference.rsplit("/", 1)[-1]


def is_child(job: Job) -> bool:
    """Whether the job is one of an array's."""
    return "index" in job.get("arrayProperties", {})


class Jobs:
    """Runs jobs and keeps their records, by job id.

    An array's parent has no container of its own. Its children's ids are the parent's with ":" and
    their index.
    """

    def __init__(self, runtime: Runtime, vcpus_of: Callable[[str], dict[str, float]]):
        """`vcpus_of` maps a queue's ARN to the limits that its jobs count against: each one's
        name and its vCPUs."""
        self._runtime = runtime
        self._state = runtime.state
        self.table = self._state.table("batch.jobs")
        self._vcpu_limits = _VcpuLimits(vcpus_of)
        self._running: dict[str, ContainerProcess] = {}
        self._end_reasons: dict[str, str] = {}
        self._finished = threading.Condition()

    def start(self, job: Job) -> None:
        """Store a submitted job and run it in the background."""
        with self._state.lock:
            self.table[job["jobId"]] = job
            self._state.save()
        self._in_background(job)

    def _in_background(self, job: Job) -> None:
        thread = threading.Thread(
            target=self._guarded, args=(self._run, job), name=f"job-{job['jobId']}", daemon=True
        )
        thread.start()

    def described(self, job: Job) -> Job:
        """`job` as DescribeJobs shows it: an array's parent counts its children's states."""
        with self._state.lock:
            shown = copy.deepcopy(job)
            if array := shown.get("arrayProperties"):
                counts = Counter(child["status"] for child in self.children(job))
                array["statusSummary"] = (
                    {state: counts[state] for state in STATES} if "size" in array else {}
                )
        return shown

    def children(self, parent: Job) -> list[Job]:
        """The children of an array's parent, none before they are spawned."""
        size = parent.get("arrayProperties", {}).get("size", 0)
        ids = (f"{parent['jobId']}:{index}" for index in range(size))
        return [self.table[job_id] for job_id in ids if job_id in self.table]

    def cancel(self, job: Job, reason: str) -> None:
        """End the job, or those children of an array, that are not yet STARTING."""
        with self._state.lock:
            for one in (job, *self.children(job)):
                if one["status"] in WAITING:
                    self._end_reasons.setdefault(one["jobId"], reason)

    def terminate(self, job: Job, reason: str) -> None:
        """End the job, and every child of an array, in any state."""
        with self._state.lock:
            for one in (job, *self.children(job)):
                if one["status"] not in FINISHED:
                    self._end_reasons.setdefault(one["jobId"], reason)
                    if process := self._running.get(one["jobId"]):
                        threading.Thread(target=process.stop, daemon=True).start()

    def restart_interrupted(self) -> None:
        """After a restart: continue the jobs that had not ended. A container that was running has
        used up an attempt, as one whose host was terminated, and is retried as its retry strategy
        allows (AWS Batch User Guide, "Automated job retries").
        """
        unended = [job for job in self.table.values() if job["status"] not in FINISHED]
        for job in unended:
            if job["status"] in ("STARTING", "RUNNING"):
                self._record_lost_attempt(job)
        for job in unended:
            if not is_child(job):  # their parent runs them
                self._in_background(job)

    def _record_lost_attempt(self, job: Job) -> None:
        stopped = now()
        job["attempts"].append(
            {
                "container": {"reason": CLOUD_WENT_DOWN},
                "startedAt": job.get("startedAt", stopped),
                "stoppedAt": stopped,
                "statusReason": CLOUD_WENT_DOWN,
            }
        )

    def stop(self) -> None:
        """End every container; the jobs' records stay unchanged, for the next start."""
        for process in list(self._running.values()):
            process.stop(SHUTDOWN_GRACE)

    def _guarded(self, run: Callable[[Job], None], job: Job) -> None:
        try:
            run(job)
        except ShuttingDown:
            log.info("job %s is interrupted by the shutdown", job["jobId"])
        except Exception as error:  # the fault of the local cloud: the job must still end
            log.exception("job %s", job["jobId"])
            self._finish(job, "FAILED", f"The local cloud failed to run the job: {error}")

    def _run(self, job: Job) -> None:
        self._move(job, "SUBMITTED")
        self._move(job, "PENDING")
        depended_on = [self.table[other["jobId"]] for other in job["dependsOn"]]
        with self._finished:
            self._finished.wait_for(lambda: all(o["status"] in FINISHED for o in depended_on))
        if any(other["status"] == "FAILED" for other in depended_on):
            self._finish(job, "FAILED", self._end_reasons.get(job["jobId"], DEPENDENCY_FAILED))
        elif "arrayProperties" in job:
            self._run_array(job)
        else:
            self._run_container(job)

    def _run_array(self, parent: Job) -> None:
        with self._state.lock:  # cancel and terminate find all children, or none
            reason = self._end_reasons.get(parent["jobId"])
            size = 0 if reason else parent["arrayProperties"]["size"]
            children = self.children(parent)  # before a restart of the cloud
            if not children:
                children = [_child(parent, index) for index in range(size)]
                self.table.update({child["jobId"]: child for child in children})
        waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
        for child in [child for child in children if child["status"] not in FINISHED]:
            self._move(child, "PENDING")
            waiting.put(child)

        def work() -> None:
            while True:
                try:
                    child = waiting.get_nowait()
                except queue.Empty:
                    return
                self._guarded(self._run_container, child)

        workers = [
            threading.Thread(target=work, name=f"job-{parent['jobId']}", daemon=True)
            for _ in range(min(len(children), self._runtime.processors))
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        self._runtime.raise_if_shutting_down()
        failed = any(child["status"] == "FAILED" for child in children)
        reason = self._end_reasons.get(parent["jobId"]) or (CHILD_FAILED if failed else None)
        self._finish(parent, "FAILED" if reason else "SUCCEEDED", reason)

    def _run_container(self, job: Job) -> None:
        self._move(job, "RUNNABLE")

        def ended() -> bool:
            return job["jobId"] in self._end_reasons or self._runtime.shutting_down.is_set()

        with self._vcpu_limits.reserve(job["jobQueue"], _vcpus(job), ended), self._runtime.slots:
            self._runtime.raise_if_shutting_down()
            if reason := self._end_reasons.get(job["jobId"]):
                self._finish(job, "FAILED", reason)
            else:
                self._run_attempts(job)

    def _run_attempts(self, job: Job) -> None:
        attempts, rules = job["retryStrategy"]["attempts"], job["retryStrategy"]["evaluateOnExit"]
        lost = len(job["attempts"])  # before a restart of the cloud
        reason = CLOUD_WENT_DOWN
        if lost and not _retries(rules, None, reason):
            attempts = lost
        for number in range(lost + 1, attempts + 1):
            if number > lost + 1:
                self._move(job, "RUNNABLE")
            self._move(job, "STARTING")
            ended, reason = self._attempt(job, number)
            requested = self._end_reasons.get(job["jobId"])
            if requested or ended is None or ended.timed_out:
                self._finish(job, "FAILED", requested or reason)
                return
            if ended.code == 0:
                self._finish(job, "SUCCEEDED", reason)
                return
            if not _retries(rules, ended.code, reason):
                break
        self._finish(job, "FAILED", reason)

    def _attempt(self, job: Job, number: int) -> tuple[Exit | None, str]:
        """Run the container once -> (how it ended, or None if it never started; the reason)."""
        container, started = job["container"], now()
        stream = f"{name_of(job['jobDefinition']).partition(':')[0]}/default/{uuid.uuid4().hex}"
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
            if job["jobId"] in self._end_reasons:
                process.stop()
            ended = process.run((job["timeout"] or {}).get("attemptDurationSeconds"))
            self._runtime.raise_if_shutting_down()
            del self._running[job["jobId"]]
            container["exitCode"] = ended.code
            reason = TIMED_OUT if ended.timed_out else TASK_EXITED
        self._runtime.logs.flush()
        shown = ("exitCode", "reason", "logStreamName", "networkInterfaces", "taskArn")
        job["attempts"].append(
            {
                "container": {name: container[name] for name in shown if name in container},
                "startedAt": started,
                "stoppedAt": now(),
                "statusReason": reason,
            }
        )
        return ended, reason

    def _process(self, job: Job, number: int, write: Callable[[str], None]) -> ContainerProcess:
        container = job["container"]
        image = self._runtime.image(container["image"], write)
        given = {item["name"]: item.get("value", "") for item in container["environment"]}
        host = self._runtime.settings
        extra = {
            **given,
            "AWS_BATCH_JOB_ID": job["jobId"],
            "AWS_BATCH_JOB_ATTEMPT": str(number),
            "AWS_BATCH_JQ_NAME": name_of(job["jobQueue"]),
            **_array_variables(job, self.table),
        }
        if role := container.get("jobRoleArn"):
            extra |= self._runtime.assume(role, "ecs-tasks.amazonaws.com").environment(host)
        folder = self._runtime.work_folder(_folder(job))
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
            shown = self.described(job)
        self._runtime.send_event(events.batch_job_changed(shown))

    def _finish(self, job: Job, status: str, reason: str | None) -> None:
        with self._state.lock:
            if reason is not None:
                job["statusReason"] = reason
            job["stoppedAt"] = now()
        self._runtime.remove_work_folder(_folder(job))
        self._move(job, status)
        with self._finished:
            self._finished.notify_all()


class _VcpuLimits:
    """The vCPUs in use, of each queue and of the account; jobs wait until theirs are available.

    RULE: fargate-vcpus
    """

    def __init__(self, vcpus_of: Callable[[str], dict[str, float]]):
        self._vcpus_of = vcpus_of
        self._used: defaultdict[str, float] = defaultdict(float)
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, queue_arn: str, vcpus: float, ended: Callable[[], bool]) -> Iterator[None]:
        """Wait for `vcpus`, or until ended(). A job larger than a limit waits until it is ended, as
        in Batch."""

        def fits() -> bool:
            limits = self._vcpus_of(queue_arn)
            return all(self._used[name] + vcpus <= limit for name, limit in limits.items())

        with self._changed:
            while not (fits() or ended()):
                self._changed.wait(_POLL_SECONDS)  # a quota may be raised meanwhile
            names = list(self._vcpus_of(queue_arn))
            for name in names:
                self._used[name] += vcpus
        try:
            yield
        finally:
            with self._changed:
                for name in names:
                    self._used[name] -= vcpus
                self._changed.notify_all()


def _vcpus(job: Job) -> float:
    needs = {item["type"]: item["value"] for item in job["container"]["resourceRequirements"]}
    return float(needs.get("VCPU", 1))


def _child(parent: Job, index: int) -> Job:
    job_id = f"{parent['jobId']}:{index}"
    own = {
        "jobId": job_id,
        "jobArn": f"{parent['jobArn']}:{index}",
        "arrayProperties": {"index": index},
        "createdAt": now(),
        "dependsOn": [],
        "status": "PENDING",
    }
    return {**copy.deepcopy(parent), **own}


def _array_variables(job: Job, jobs: Mapping[str, Job]) -> dict[str, str]:
    if not is_child(job):
        return {}
    parent = jobs[job["jobId"].partition(":")[0]]
    return {
        "AWS_BATCH_JOB_ARRAY_INDEX": str(job["arrayProperties"]["index"]),
        "AWS_BATCH_JOB_ARRAY_SIZE": str(parent["arrayProperties"]["size"]),
    }


def _folder(job: Job) -> str:
    return str(job["jobId"]).replace(":", "-")


def _retries(rules: Sequence[Mapping[str, str]], code: int | None, reason: str) -> bool:
    """The first rule whose every given pattern matches decides; without one, Batch retries.

    code: None where the host ended before the container did.
    """
    exit_code = "" if code is None else str(code)
    values = {"onExitCode": exit_code, "onStatusReason": reason, "onReason": ""}
    for rule in rules:
        patterns = [(values[key], rule[key]) for key in values if key in rule]
        if all(fnmatch.fnmatchcase(value, pattern) for value, pattern in patterns):
            return rule["action"].upper() == "RETRY"
    return True
