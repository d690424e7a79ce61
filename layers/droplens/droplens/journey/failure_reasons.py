"""Why a run failed, from AWS's events and from Lambda's records of functions that failed."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from droplens.aws import events
from droplens.aws.events import UnexpectedEvent
from droplens.aws.s3 import Bucket
from droplens.aws.sagemaker import run_of_resource
from droplens.domain import layout
from droplens.domain.errors import ObjectMissing
from droplens.domain.run import Run, RunKey, Stage, Status
from droplens.domain.text import one_line
from droplens.journey import waiting
from droplens.journey.invocation import Invocation
from droplens.journey.train import count_time
from droplens.runtime.telemetry import follow, logger
from droplens.state import endpoints
from droplens.state.cards import Cards
from droplens.state.registry import run_of_package

if TYPE_CHECKING:
    from types_boto3_batch.client import BatchClient
    from types_boto3_sagemaker.client import SageMakerClient

# batch_prep's exit codes: another attempt would end the same way, or might succeed.
DATASET_REFUSED = 1
STORAGE_FAILED = 75

# The exit code of a process that the kernel kills out of memory: 128 and the signal's number.
_KILLED = 137
# ECS's reason for it (re:Post Knowledge Center, "How do I troubleshoot OutOfMemory errors in Amazon
# ECS?"), and SageMaker's, for a training or processing job.
_ECS_OUT_OF_MEMORY = "OutOfMemoryError"
_SAGEMAKER_OUT_OF_MEMORY = re.compile(
    r"instance type with more memory|out of memory|exit code:? *137", re.IGNORECASE
)

_STAGE_OF_EVENT = {
    events.OBJECT_CREATED: Stage.PACK,
    events.BATCH_JOB: Stage.TRAIN,
    events.TRAINING_JOB: Stage.DEPLOY,
    events.ENDPOINT: Stage.PROMOTE,
    events.MODEL_PACKAGE: Stage.PROMOTE,
    events.MODEL_SWITCHED: Stage.PROMOTE,
    events.MODEL_DEPLOYED: Stage.PROMOTE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureReporter:
    """Turns events of failures into the ends of runs, and notifications."""

    bucket: Bucket
    cards: Cards
    batch: "BatchClient"
    sagemaker: "SageMakerClient"

    def report(self, event: Mapping[str, Any], invocation: Invocation) -> RunKey | None:
        """Record the failure that `event` is about, or send a notification.

        event: unparsed, since Lambda's record of a failed function holds that function's event.
        Returns the run that the failure belongs to, if any.
        """
        if "requestPayload" in event:
            return self._function_failed(event, invocation)
        kind = events.detail_type(event)
        if kind == events.ALARM:
            alarm = events.alarm_raised(event)
            logger.warning("alarm", alarm=alarm.name, reason=alarm.reason)
            invocation.failures.publish(
                f"Droplens: {alarm.name}", f"{alarm.meaning}\n\n{one_line(alarm.reason)}"
            )
            return None
        if kind == events.BATCH_JOB:
            return self._packing_failed(events.packing_ended(event), invocation)
        if kind == events.TRAINING_JOB:
            return self._training_failed(events.training_ended(event), invocation)
        if kind == events.ENDPOINT:
            return self._endpoint_failed(events.endpoint_changed(event), invocation)
        raise UnexpectedEvent(f"no failure is known of kind {kind!r}")

    def run_of(self, arn: str, tags: Mapping[str, str]) -> RunKey | None:
        """The run of a SageMaker resource, from its event's tags or its own."""
        return run_of_resource(self.sagemaker, arn, tags)

    def _packing_failed(
        self, packed: events.PackingEnded | None, invocation: Invocation
    ) -> RunKey | None:
        run = invocation.runs.get(packed.run) if packed else None
        if packed is None or run is None:
            logger.warning("a job that belongs to no run failed")
            return None
        follow(packed.run)
        ours = {run.batch_job_id, run.batch_array_id}
        if run.batch_job_id and packed.job_id.partition(":")[0] not in ours:
            logger.warning("a job that is not the run's own failed", job_id=packed.job_id)
            return None
        cause = self._first_cause(packed)
        # A job that was killed writes no reason; one that an earlier attempt wrote is not its own.
        wrote_reason = cause.exit_code in (DATASET_REFUSED, STORAGE_FAILED)
        message = self._reason_of_job(packed.run) if wrote_reason else None
        refused = message is not None and cause.exit_code == DATASET_REFUSED
        code = "packing.dataset" if refused else "packing.failed"
        exit_code = (
            f"exit code {cause.exit_code}" if cause.exit_code is not None else "no exit code"
        )
        job = "Batch" if cause.child is None else f"Batch, child {cause.child}"
        reason = f"{job}: {cause.reason or 'no reason given'}, {exit_code}"
        if cause.exit_code == _KILLED or _ECS_OUT_OF_MEMORY in cause.reason:
            reason += "; more memory for packing is the stack's parameter PackingMemoryMiB"
        invocation.failures.fail(
            packed.run, Stage.PACK, code, f"{message} ({reason})" if message else reason
        )
        self._remove_shards(packed.run, invocation)
        return packed.run

    def _remove_shards(self, run: RunKey, invocation: Invocation) -> None:
        """Remove the shards of a run that has failed.

        The children of an array continue to write when one has failed; the array's own event comes
        after all of them.
        """
        if self._ended_without_model(run, invocation):
            deleted = self.bucket.delete_below(layout.shards_prefix(run.classifier, run.run_id))
            logger.info("shards removed", objects=deleted)

    def _first_cause(self, packed: events.PackingEnded) -> events.PackingEnded:
        """The failure of an array's child where `packed` only failed because of it.

        The events come in any order, and in those of the array and of the job that depends on it,
        Batch gives no other reason than that another job failed.
        """
        if packed.exit_code is not None or packed.waited_for is None:
            return packed
        listed = self.batch.list_jobs(arrayJobId=packed.waited_for, jobStatus="FAILED")
        # A child without an exit code was ended from outside: its reason is the last choice.
        failed = sorted(
            listed["jobSummaryList"], key=lambda job: "exitCode" not in job.get("container", {})
        )
        if not failed:
            return packed
        container = failed[0].get("container", {})
        reasons = (failed[0].get("statusReason"), container.get("reason"))
        return replace(
            packed,
            reason="; ".join(reason for reason in reasons if reason),
            exit_code=container.get("exitCode"),
            child=failed[0]["arrayProperties"]["index"],
        )

    def _reason_of_job(self, run: RunKey) -> str | None:
        """The reason that batch_prep itself wrote, which is too long for Batch's event.

        None where it is missing or malformed: the run must be ended all the same.
        """
        key = f"{layout.packed_prefix(run.classifier, run.run_id)}failure.json"
        try:
            body, _ = self.bucket.read(key)
        except ObjectMissing:
            return None
        try:
            return one_line(str(json.loads(body)["message"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            logger.warning("failure.json is not what batch_prep writes", key=key)
            return None

    def _training_failed(
        self, trained: events.TrainingEnded, invocation: Invocation
    ) -> RunKey | None:
        run = self.run_of(trained.job_arn, trained.tags)
        if run is None:
            return None
        record = invocation.runs.get(run)
        own = record.training_job if record else ""
        if own not in ("", trained.job_name) or self._waits(record):
            logger.warning("a job of an earlier attempt failed", job=trained.job_name)
            return run
        count_time(trained)
        job = self.sagemaker.describe_training_job(TrainingJobName=trained.job_name)
        if limit := waiting.training_limit(job):
            invocation.failures.hold(run, Stage.TRAIN, limit, trained.job_name)
            return run
        reason = job.get("FailureReason") or f"the training job ended as {trained.status}"
        parameter = "TrainingInstanceType"
        if _SAGEMAKER_OUT_OF_MEMORY.search(reason) and parameter not in reason:
            reason += f"; an instance with more memory is the stack's parameter {parameter}"
        invocation.failures.fail(run, Stage.TRAIN, f"training.{trained.status.lower()}", reason)
        return run

    def _endpoint_failed(
        self, endpoint: events.EndpointChanged, invocation: Invocation
    ) -> RunKey | None:
        run = self.run_of(endpoint.arn, endpoint.tags)
        if run is None:
            return None
        try:
            found = self.sagemaker.describe_endpoint(EndpointName=endpoint.name)
            reason = found.get("FailureReason") or "SageMaker gave no reason"
        except ClientError:
            reason = "the endpoint is gone"
        record = invocation.runs.get(run)
        own = record.endpoint if record else ""
        if own not in ("", endpoint.name) or self._waits(record):
            logger.warning("an endpoint of an earlier attempt failed", endpoint=endpoint.name)
            endpoints.dispose(self.sagemaker, invocation.runs, run, endpoint.name)
            return run
        if invocation.runs.restored(run, Status.REPLACED):
            endpoints.dispose(self.sagemaker, invocation.runs, run, endpoint.name)
            self._rollback_failed(run, reason, invocation)
            return run
        limit = waiting.endpoint_limit(reason)
        if limit is None:
            invocation.failures.fail(run, Stage.DEPLOY, "endpoint.failed", reason)
        elif invocation.failures.hold(run, Stage.DEPLOY, limit, endpoint.name):
            endpoints.dispose(self.sagemaker, invocation.runs, run, endpoint.name)
            return run
        self._remove_if_over(run, endpoint.name, invocation)
        return run

    def _function_failed(self, record: Mapping[str, Any], invocation: Invocation) -> RunKey | None:
        """record: what Lambda sends after the last try of an asynchronous invocation."""
        event = record["requestPayload"]
        response = record.get("responsePayload") or {}
        condition = (record.get("requestContext") or {}).get("condition", "unknown")
        error = (
            f"{response.get('errorType', 'error')}: {response.get('errorMessage', 'no message')}"
        )
        message = f"{one_line(error)} ({condition})"
        run = self._run_of_event(event, invocation)
        if run is None:
            invocation.failures.publish(
                "Droplens: a function failed", f"{message}\n\n{one_line(str(event))}"
            )
            return None
        stage = _stage_of(event)
        record_of_run = invocation.runs.get(run)
        if record_of_run is not None and record_of_run.status is Status.RESTORING:
            self._rollback_failed(
                run,
                f"{message}; make rollback (rollback-local on the local cloud) retries it",
                invocation,
            )
            return run
        if self._waits(record_of_run):
            logger.warning("run waits for its next attempt", reason=message)
            invocation.failures.notify_once(run)
            return run
        live = self.cards.live(run.classifier)
        if live is not None and live.run_id == run.run_id:
            # The switch is done: images are classified by this run's endpoint.
            message = f"The model is live, but what follows its switch was not finished: {message}"
            accuracy = live.measured.accuracy
            code = "promotion.unfinished"
            invocation.failures.fail(run, stage, code, message, Status.LIVE, accuracy=accuracy)
            if events.detail_type(event) == events.MODEL_SWITCHED:
                self._note_failure_of_live_run(run, code, message, invocation)
            return run
        invocation.failures.fail(run, stage, "function.failed", message)
        record_of_run = invocation.runs.get(run)
        if record_of_run and record_of_run.endpoint:
            self._remove_if_over(run, record_of_run.endpoint, invocation)
        return run

    def _rollback_failed(self, run: RunKey, reason: str, invocation: Invocation) -> None:
        invocation.failures.publish(
            f"Droplens: rollback of {run.classifier} failed",
            f"Run {run.run_id} of classifier {run.classifier} could not be restored: "
            f"{one_line(reason)}.\n\n"
            "The model that was live before keeps serving.",
        )

    def _note_failure_of_live_run(
        self, run: RunKey, code: str, message: str, invocation: Invocation
    ) -> None:
        """Record what failed after a run went live, as a fact: it is at its end already."""
        invocation.runs.note(
            run, error={"stage": Stage.PROMOTE.value, "code": code, "message": one_line(message)}
        )
        invocation.failures.notify_once(run)

    def _run_of_event(self, event: Mapping[str, Any], invocation: Invocation) -> RunKey | None:
        kind = events.detail_type(event)
        if kind == events.BATCH_JOB:
            packed = events.packing_ended(event)
            return packed.run if packed else None
        if kind == events.TRAINING_JOB:
            trained = events.training_ended(event)
            return self.run_of(trained.job_arn, trained.tags)
        if kind == events.ENDPOINT:
            endpoint = events.endpoint_changed(event)
            return self.run_of(endpoint.arn, endpoint.tags)
        if kind == events.MODEL_PACKAGE:
            return run_of_package(self.sagemaker, events.model_package_arn(event))
        if kind == events.MODEL_SWITCHED:
            return events.model_switched(event).run
        if kind == events.MODEL_DEPLOYED:
            return events.model_deployed(event)
        if kind == events.RUN_RESUMED:
            return events.run_resumed(event)[0]
        if kind == events.OBJECT_CREATED:
            completed = events.object_created(event)
            if classifier := layout.corrected_classifier(completed.key):
                newest = invocation.runs.newest(classifier)
                return newest.key if newest and newest.awaits_packing_after_corrections else None
            source = layout.dataset_source(completed.key)
            run = source and invocation.runs.find_by_dataset(source.classifier, completed.version)
            return run.key if run else None
        return None

    def _remove_if_over(self, run: RunKey, endpoint: str, invocation: Invocation) -> None:
        """Remove the endpoint of a run that ended without a model: it may be billed by the hour."""
        record = invocation.runs.get(run)
        if self._ended_without_model(run, invocation) or (record and endpoint in record.to_remove):
            endpoints.dispose(self.sagemaker, invocation.runs, run, endpoint)

    def _waits(self, record: Run | None) -> bool:
        """Whether the run waits for its next try, so that the failure is of one that is over."""
        return record is not None and record.status is Status.WAITING

    def _ended_without_model(self, run: RunKey, invocation: Invocation) -> bool:
        record = invocation.runs.get(run)
        return record is not None and record.status in (
            Status.FAILED,
            Status.REFUSED,
            Status.SUPERSEDED,
        )


def _stage_of(event: Mapping[str, Any]) -> Stage:
    """The stage that this event begins."""
    kind = events.detail_type(event)
    return events.run_resumed(event)[1] if kind == events.RUN_RESUMED else _STAGE_OF_EVENT[kind]
