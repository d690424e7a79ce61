"""Runs that wait are tried again, on a schedule or for a person, and late endpoints removed.

Every quarter of an hour resume_runs reads the runs that an index of the table lists: those that
wait, and those with an endpoint that could not be removed when it was no longer needed. One
schedule for all runs has no state besides the table (a schedule for each run would), and an
invocation that is lost is made up for by the next.

The next try of a run is claimed by one write before its function is invoked, so that two
invocations at once begin one try; if the function's invocation is lost, the try comes due again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from droplens.aws.events import resumed_event
from droplens.aws.sagemaker import remove_endpoint
from droplens.domain.errors import UserError
from droplens.domain.run import Run, RunKey, Stage, Status
from droplens.journey.invocation import Invocation
from droplens.journey.waiting import LONGEST_WAIT, TRY_TAKES, Wait, may_be_tried_again
from droplens.runtime.telemetry import follow, logger
from droplens.state.runs import Runs

if TYPE_CHECKING:
    from types_boto3_sagemaker.client import SageMakerClient

# A newer run in one of these has no packed dataset, or no hope of a model.
_NOT_PACKED = (Status.PACKING, Status.FAILED, Status.REFUSED)
_WAS_LIVE = (Status.LIVE, Status.REPLACED, Status.RESTORING)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeRequest:
    """A person's request. run_id: None for the newest run that waits, or else the newest."""

    classifier: str
    run_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """Has the runs that wait tried again. functions: invoke the function of each stage."""

    sagemaker: "SageMakerClient"
    functions: Mapping[Stage, Callable[[object], None]]

    def resume_due(self, invocation: Invocation) -> list[RunKey]:
        """Check every run that needs attention; returns those that are tried again.

        An error with one run does not keep the others from being checked; it is raised after them.
        """
        tried = []
        failed: Exception | None = None
        for key in invocation.runs.needing_attention():
            try:
                if self._check(key, invocation):
                    tried.append(key)
            except (ClientError, BotoCoreError) as error:
                logger.exception("waiting run could not be checked", run=key.as_key())
                failed = error
        logger.info("waiting runs checked", tried=[key.as_key() for key in tried])
        if failed is not None:
            raise failed
        return tried

    def resume(self, request: ResumeRequest, invocation: Invocation) -> tuple[RunKey, Stage]:
        """Try a run again now; returns it and the stage from which it continues.

        Raises UserError where there is nothing to try again.
        """
        runs = invocation.runs
        run = _requested(request, runs)
        follow(run.key)
        now = runs.clock()
        wait = Wait.of(run) if run.status is Status.WAITING else None
        if wait is None:
            wait = self._revived(run, runs)
            run = runs.get(run.key) or run
        if not runs.begin_try(run, int((now + TRY_TAKES).timestamp())):
            raise UserError("resume.contended", f"run {run.key.run_id} is being tried right now")
        stage = Stage(wait.stage)
        self.functions[stage](resumed_event(run.key, stage))
        return run.key, stage

    def _check(self, key: RunKey, invocation: Invocation) -> bool:
        run = invocation.runs.get(key)
        if run is None:
            return False
        follow(key)
        for endpoint in sorted(run.to_remove):
            if remove_endpoint(self.sagemaker, endpoint):
                invocation.runs.is_removed(key, endpoint)
        tried = run.status is Status.WAITING and self._tried(run, invocation)
        invocation.runs.needs_none(key)
        return tried

    def _tried(self, run: Run, invocation: Invocation) -> bool:
        runs = invocation.runs
        wait, now = Wait.of(run), runs.clock()
        if wait is None:
            return False
        stage = Stage(wait.stage)
        if newer := _overtaken_by(run, stage, runs):
            if runs.end(run.key, Status.SUPERSEDED, replaced_by=newer.key.run_id):
                logger.info("run is superseded by a newer one")
            return False
        if now >= wait.until:
            message = f"{wait.message} (waited for {LONGEST_WAIT.days} days)"
            invocation.failures.fail(run.key, stage, wait.code, message)
            return False
        invocation.failures.notify_once(run.key)
        if not wait.is_due(now):
            return False
        if not runs.begin_try(run, int((now + TRY_TAKES).timestamp())):
            return False
        self.functions[stage](resumed_event(run.key, stage))
        return True

    def _revived(self, run: Run, runs: Runs) -> Wait:
        """Have a failed run wait for a try that is due now. Raises UserError where it cannot."""
        name = f"run {run.key.run_id}"
        error = run.error
        if run.status is not Status.FAILED or not error:
            raise UserError("resume.not_waiting", f"{name} does not wait: it is {run.status.value}")
        if not may_be_tried_again(error["stage"], error["code"]):
            raise UserError(
                "resume.would_fail_again",
                f"{name} failed at stage {error['stage']} as {error['code']}, and would again: "
                "mend the cause and upload _READY again for a new run",
            )
        stage = Stage(error["stage"])
        if newer := _overtaken_by(run, stage, runs):
            raise UserError(
                "resume.superseded", f"{name} is overtaken by run {newer.key.run_id}, a newer one"
            )
        wait = Wait.requested(run, stage, error["code"], error["message"], runs.clock())
        if not runs.revive(run.key, wait.to_fact()):
            raise UserError("resume.contended", f"{name} is changing: try again")
        return wait


def _overtaken_by(run: Run, stage: Stage, runs: Runs) -> Run | None:
    """A newer run that makes this one pointless.

    Before the training, that is one whose dataset is packed; a run that is trained is given up only
    for a model that was live.
    """
    for newer in reversed(runs.of(run.key.classifier)):
        if newer.key.run_id <= run.key.run_id:
            return None
        if newer.status in _WAS_LIVE or (stage is Stage.TRAIN and newer.status not in _NOT_PACKED):
            return newer
    return None


def _requested(request: ResumeRequest, runs: Runs) -> Run:
    classifier, run_id = request.classifier, request.run_id
    known = runs.of(classifier)
    if not known:
        raise UserError("resume.no_run", f"there is no run of {classifier}")
    if run_id is None:
        waiting = [run for run in known if run.status is Status.WAITING]
        return (waiting or known)[-1]
    for run in known:
        if run.key.run_id == run_id:
            return run
    raise UserError("resume.no_run", f"{classifier} has no run {run_id}")
