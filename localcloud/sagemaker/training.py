"""Runs training jobs by SageMaker's container contract: input data, `train`, model archive.

The container's /opt/ml is a folder under .local/cloud/work; SAGEMAKER_BASE_DIR has its path.
"""

import json
import logging
import math
import re
import shutil
import tarfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import botocore.exceptions

from localcloud.containers.images import ImageError
from localcloud.containers.processes import ContainerProcess, Exit
from localcloud.containers.runtime import SHUTDOWN_GRACE, RoleError, Runtime, ShuttingDown
from localcloud.emulator import events
from localcloud.settings import REGION

log = logging.getLogger("localcloud.training")

Record = dict[str, Any]

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
OPT_ML = "/opt/ml"
FAILURE_LIMIT = 1024
MAX_INTERRUPTIONS = 3
CLOUD_WENT_DOWN = (
    f"InternalServerError: the local cloud went down {MAX_INTERRUPTIONS + 1} times while the job "
    "was running."
)
NO_CAPACITY = (
    "CapacityError: Unable to provision requested ML compute capacity. Please retry using a "
    "different ML instance type."
)
_STOP_GRACE = 120.0
_PROGRESS = {
    "Starting": "Preparing the instances for training",
    "Downloading": "Downloading input data",
    "Interrupted": "Training job interrupted: the local cloud went down",
    "Training": "Training image download completed. Training in progress.",
    "Uploading": "Uploading generated training model",
    "Stopping": "Stopping the training job",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
}


class JobFailed(Exception):
    """The job ends Failed; the message is its FailureReason."""


class Training:
    """Training jobs, each in a thread of its own."""

    def __init__(self, runtime: Runtime, tags_of: Callable[[str], list[Record]]):
        self._runtime = runtime
        self._state = runtime.state
        self._jobs = self._state.table("sagemaker.trainingJobs")
        self._tags_of = tags_of
        self._running: dict[str, ContainerProcess] = {}

    def start(self, job: Record) -> None:
        name = f"train-{job['TrainingJobName']}"
        threading.Thread(target=self._run, args=(job,), name=name, daemon=True).start()

    def stop_job(self, job: Record) -> None:
        """StopTrainingJob: the container receives SIGTERM, and SIGKILL 120 s later; a saved
        model is uploaded."""
        with self._state.lock:
            already = job["TrainingJobStatus"] == "Stopping"
            job["TrainingJobStatus"] = "Stopping"
        if already:
            return
        self._set_status(job, "Stopping")
        if process := self._running.get(job["TrainingJobName"]):
            threading.Thread(target=process.stop, daemon=True).start()

    def restart_interrupted(self) -> None:
        """After a restart: restart the jobs that were in progress, as after a spot interruption, at
        most MAX_INTERRUPTIONS times each: a job may be what ends the cloud.

        A job that was being stopped is Stopped. Source: Amazon SageMaker API Reference,
        DescribeTrainingJob, SecondaryStatus "Interrupted".
        """
        for job in list(self._jobs.values()):
            if job["TrainingJobStatus"] == "Stopping":
                self._end(job, "Stopped", "Stopped")
            elif job["TrainingJobStatus"] == "InProgress":
                with self._state.lock:
                    job["_interruptions"] = job.get("_interruptions", 0) + 1
                if job["_interruptions"] > MAX_INTERRUPTIONS:
                    job["FailureReason"] = CLOUD_WENT_DOWN
                    self._end(job, "Failed", "Failed")
                else:
                    self._set_status(job, "Interrupted")
                    self.start(job)

    def stop(self) -> None:
        """End every container; the jobs' records stay unchanged, for the next start."""
        for process in list(self._running.values()):
            process.stop(SHUTDOWN_GRACE)

    # ---- one job

    def _run(self, job: Record) -> None:
        name = job["TrainingJobName"]
        try:
            self._set_status(job, "Starting")
            if self._runtime.faults.lacks_capacity():
                raise JobFailed(NO_CAPACITY)
            with self._runtime.slots:
                status, secondary = self._train(job, self._runtime.work_folder(name))
        except (JobFailed, ImageError, RoleError, botocore.exceptions.ClientError) as error:
            known = isinstance(error, JobFailed)
            reason = str(error) if known else f"ClientError: {error}"
            job["FailureReason"] = reason[:FAILURE_LIMIT]
            self._write(job, job["FailureReason"])
            status, secondary = "Failed", "Failed"
        except ShuttingDown:
            log.info("training job %s is interrupted by the shutdown", name)
            return
        except Exception as error:  # the fault of the local cloud: the job must still end
            log.exception("training job %s", name)
            job["FailureReason"] = f"InternalServerError: {error!r}"[:FAILURE_LIMIT]
            status, secondary = "Failed", "Failed"
        self._runtime.logs.flush()
        self._runtime.remove_work_folder(name)
        self._end(job, status, secondary)

    def _train(self, job: Record, base: Path) -> tuple[str, str]:
        """Return the job's final (TrainingJobStatus, SecondaryStatus)."""
        algorithm = job["AlgorithmSpecification"]
        if "TrainingImage" not in algorithm:
            raise JobFailed(
                "ClientError: the local cloud needs AlgorithmSpecification.TrainingImage"
            )
        if (count := job["ResourceConfig"]["InstanceCount"]) > 1:
            # Host names of their own take containers; here a job is a process of this machine.
            raise JobFailed(
                f"ClientError: the local cloud trains on one instance, not on {count}: "
                "deploy with TrainingInstanceCount=1"
            )
        image = self._runtime.image(algorithm["TrainingImage"], lambda line: self._write(job, line))
        credentials = self._runtime.assume(job["RoleArn"], "sagemaker.amazonaws.com")
        s3 = self._runtime.s3(credentials)
        self._set_status(job, "Downloading")
        self._prepare_opt_ml(job, base, s3)
        environment = {
            **credentials.environment(self._runtime.settings),
            "SAGEMAKER_BASE_DIR": str(base),
            "TRAINING_JOB_NAME": job["TrainingJobName"],
            "TRAINING_JOB_ARN": job["TrainingJobArn"],
            "HOME": str(base),
            "TMPDIR": str(_folder(base / "tmp")),
            **job.get("Environment", {}),
        }
        mounts = {OPT_ML: base}
        metrics = _Metrics(algorithm.get("MetricDefinitions", []))

        def on_line(line: str) -> None:
            self._write(job, line)
            metrics.read(line)

        process = ContainerProcess(
            image.command(
                algorithm.get("ContainerArguments", ["train"]),
                entrypoint=algorithm.get("ContainerEntrypoint"),
                mounts=mounts,
            ),
            cwd=image.workdir,
            environment=image.run_environment(environment, mounts),
            on_line=on_line,
            stop_grace=_STOP_GRACE,
        )
        exited = self._run_container(job, process)
        self._runtime.raise_if_shutting_down()
        job["FinalMetricDataList"] = metrics.final()
        stopped = exited.stopped or exited.timed_out
        if exited.code and not stopped:
            raise JobFailed(_failure_reason(base, exited.code))
        if not stopped:
            self._set_status(job, "Uploading")
        self._upload(job, base, s3, needs_model=not stopped)
        if exited.stopped:
            return "Stopped", "Stopped"
        return ("Stopped", "MaxRuntimeExceeded") if stopped else ("Completed", "Completed")

    def _run_container(self, job: Record, process: ContainerProcess) -> Exit:
        with self._state.lock:
            job["TrainingStartTime"] = time.time()
            self._running[job["TrainingJobName"]] = process
            stopping = job["TrainingJobStatus"] == "Stopping"
        if stopping:
            process.stop()
        else:
            self._set_status(job, "Training")
        try:
            return process.run(job["StoppingCondition"]["MaxRuntimeInSeconds"])
        finally:
            del self._running[job["TrainingJobName"]]

    def _prepare_opt_ml(self, job: Record, base: Path, s3: Any) -> None:
        """Create /opt/ml as the SageMaker training contract specifies it."""
        config = _folder(base / "input" / "config")
        for folder in ("model", "output/data", "checkpoints"):
            _folder(base / folder)
        _write_json(config / "hyperparameters.json", job.get("HyperParameters", {}))
        resources = job["ResourceConfig"]
        host = {
            "current_host": "algo-1",
            "hosts": ["algo-1"],
            "network_interface_name": "lo",
            "current_instance_type": resources.get("InstanceType", ""),
            "current_group_name": "homogeneousCluster",
        }
        _write_json(config / "resourceconfig.json", host)
        channels = {}
        for channel in job.get("InputDataConfig", []):
            name = channel["ChannelName"]
            channels[name] = {
                "TrainingInputMode": "File",
                "S3DistributionType": "FullyReplicated",
                "RecordWrapperType": channel.get("RecordWrapperType", "None"),
                **({"ContentType": channel["ContentType"]} if "ContentType" in channel else {}),
            }
            mode = channel.get("InputMode", job["AlgorithmSpecification"]["TrainingInputMode"])
            if mode not in ("File", "FastFile"):
                raise JobFailed(f"ClientError: channel {name}: no {mode} mode on this machine")
            self._download(job, name, channel["DataSource"], base / "input" / "data" / name, s3)
        _write_json(config / "inputdataconfig.json", channels)
        if "CheckpointConfig" in job:
            bucket, prefix = _bucket_and_key(job["CheckpointConfig"]["S3Uri"])
            _download_prefix(s3, bucket, prefix, base / "checkpoints")

    def _download(self, job: Record, name: str, source: Record, target: Path, s3: Any) -> None:
        data = source.get("S3DataSource", {})
        if data.get("S3DataType") != "S3Prefix":
            raise JobFailed(
                f"ClientError: channel {name}: the local cloud reads S3DataType S3Prefix only"
            )
        bucket, prefix = _bucket_and_key(data["S3Uri"])
        if not _download_prefix(s3, bucket, prefix, target):
            raise JobFailed(
                f'ClientError: Data download failed: no S3 objects found under "{data["S3Uri"]}" '
                f"given for channel {name}. Please ensure that the bucket exists in {REGION}, that "
                f'objects exist under that prefix, and that the role "{job["RoleArn"]}" has '
                f'"s3:ListBucket" permissions on bucket "{bucket}".'
            )

    def _upload(self, job: Record, base: Path, s3: Any, *, needs_model: bool) -> None:
        """Upload model.tar.gz, output.tar.gz where there is output, and the checkpoints. Raises
        JobFailed where a model is needed and there is none."""
        bucket, prefix = _bucket_and_key(job["OutputDataConfig"]["S3OutputPath"])
        home = "/".join(part for part in (prefix.rstrip("/"), job["TrainingJobName"]) if part)
        model_key = f"{home}/output/model.tar.gz"
        if any((base / "model").iterdir()):
            s3.upload_file(str(_archive(base / "model", base / "model.tar.gz")), bucket, model_key)
            job["ModelArtifacts"] = {"S3ModelArtifacts": f"s3://{bucket}/{model_key}"}
        elif needs_model:
            raise JobFailed("ClientError: Artifact upload failed: the container left no model")
        if any((base / "output" / "data").iterdir()):
            archive = _archive(base / "output" / "data", base / "output.tar.gz")
            s3.upload_file(str(archive), bucket, f"{home}/output/output.tar.gz")
        if "CheckpointConfig" in job:
            to_bucket, to_prefix = _bucket_and_key(job["CheckpointConfig"]["S3Uri"])
            for path in sorted((base / "checkpoints").rglob("*")):
                if path.is_file():
                    relative = path.relative_to(base / "checkpoints").as_posix()
                    key = f"{to_prefix.rstrip('/')}/{relative}".lstrip("/")
                    s3.upload_file(str(path), to_bucket, key)

    # ---- logs, status and events

    def _write(self, job: Record, line: str) -> None:
        stream = f"{job['TrainingJobName']}/algo-1-{int(job['CreationTime'])}"
        self._runtime.logs.write(LOG_GROUP, stream, line)

    def _set_status(self, job: Record, secondary: str) -> None:
        now = time.time()
        with self._state.lock:
            if job["TrainingJobStatus"] == "Stopping" and secondary in ("Training", "Uploading"):
                return
            transitions = job["SecondaryStatusTransitions"]
            if transitions:
                transitions[-1]["EndTime"] = now
            message = _PROGRESS[secondary]
            transitions.append({"Status": secondary, "StartTime": now, "StatusMessage": message})
            job["SecondaryStatus"] = secondary
            job["LastModifiedTime"] = now
            self._state.save()
            shown = json.loads(json.dumps(job))
        tags = self._tags_of(job["TrainingJobArn"])
        self._runtime.send_event(events.training_job_changed(shown, tags))

    def _end(self, job: Record, status: str, secondary: str) -> None:
        now = time.time()
        with self._state.lock:
            job["TrainingJobStatus"] = status
            job["TrainingEndTime"] = now
            if began := job.get("TrainingStartTime"):
                job["TrainingTimeInSeconds"] = int(now - began)
                job["BillableTimeInSeconds"] = int(now - began)
        self._set_status(job, secondary)


class _Metrics:
    """The last value of each metric in the log lines."""

    def __init__(self, definitions: list[Mapping[str, str]]):
        self._rules = [(rule["Name"], re.compile(rule["Regex"])) for rule in definitions]
        self._last: dict[str, Record] = {}

    def read(self, line: str) -> None:
        for name, regex in self._rules:
            if (found := regex.search(line)) and found.groups():
                try:
                    value = float(found[1])
                except ValueError:
                    value = math.nan
                if not math.isfinite(value):
                    continue  # SageMaker ignores what is not a finite number
                self._last[name] = {"MetricName": name, "Value": value, "Timestamp": time.time()}

    def final(self) -> list[Record]:
        return list(self._last.values())


def _failure_reason(base: Path, code: int) -> str:
    """SageMaker takes the first 1,024 characters of what the container wrote to output/failure."""
    written = base / "output" / "failure"
    text = ""
    if written.is_file():
        with written.open(encoding="utf-8", errors="replace") as file:
            text = file.read(FAILURE_LIMIT).strip()
    ending = f", exit code: {code}"
    text = text or "the container wrote no reason to /opt/ml/output/failure; see its log"
    return "AlgorithmError: " + text[: FAILURE_LIMIT - len(ending) - 16] + ending


def _bucket_and_key(uri: str) -> tuple[str, str]:
    found = re.fullmatch(r"s3://([^/]+)/?(.*)", uri)
    if not found:
        raise JobFailed(f"ClientError: {uri} is not an S3 URI")
    return found[1], found[2]


def _download_prefix(s3: Any, bucket: str, prefix: str, target: Path) -> int:
    """Download every object whose key starts with `prefix`; returns their number. Paths below a
    prefix that is a folder are kept; an object whose key is the prefix gets its own file name."""
    _folder(target)
    count = 0
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", []):
            key = item["Key"]
            if key.endswith("/"):
                continue  # a folder marker
            whole = prefix.rstrip("/") + "/"
            start = len(whole) if key.startswith(whole) else prefix.rfind("/") + 1
            path = (target / key[start:]).resolve()
            if not path.is_relative_to(target.resolve()):
                raise JobFailed(f"ClientError: object key {key!r} leads out of its channel")
            _folder(path.parent)
            s3.download_file(bucket, key, str(path))
            count += 1
    return count


def _archive(folder: Path, target: Path) -> Path:
    with tarfile.open(target, "w:gz", compresslevel=1) as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name)
    shutil.rmtree(folder)
    return target


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
