"""Runs that wait are taken up again, by the clock or by a person, and late endpoints removed.

Every quarter of an hour resume_runs looks at the runs that an index of the table lists: those that
wait, and those whose endpoint could not be removed when nobody needed it any more. A clock that
looks at a list needs nothing to be remembered elsewhere (a schedule of its own for each run would),
and a look that is lost is made good by the next.

The next try of a run is taken by one write before its function is invoked, so that two looks at
once begin one try; if that invocation is lost, the try comes due again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from droplens.aws.events import resumed_event
from droplens.aws.sagemaker import remove_endpoint
from droplens.domain.errors import UserError
from droplens.domain.run import Run, RunKey, Stage, Status
from droplens.journey.failures import Failures
from droplens.journey.waiting import LONGEST_WAIT, TRY_TAKES, Wait, may_be_tried_again
from droplens.runtime.telemetry import follow, logger
from droplens.state.runs import Runs

if TYPE_CHECKING:
    from types_boto3_sagemaker.client import SageMakerClient

# A newer run in one of these has no packed dataset, or no hope of a model.
_NOT_PACKED = (Status.PACKING, Status.FAILED, Status.REFUSED)
_WAS_LIVE = (Status.LIVE, Status.REPLACED, Status.RESTORING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """resume_runs' tools, gathered once per invocation. invoke: the function of each stage."""

    runs: Runs
    failures: Failures
    sagemaker: "SageMakerClient"
    invoke: Mapping[Stage, Callable[[object], None]]

    def look_round(self) -> list[RunKey]:
        """Look after every run on the list; returns those that are tried again.

        One that meets an error does not keep the others from their turn; the error is raised then.
        """
        tried = []
        trouble: Exception | None = None
        for key in self.runs.needing_attention():
            try:
                if self._look_after(key):
                    tried.append(key)
            except (ClientError, BotoCoreError) as error:
                logger.exception("waiting run could not be checked", run=key.as_key())
                trouble = error
        logger.info("waiting runs checked", tried=[key.as_key() for key in tried])
        if trouble is not None:
            raise trouble
        return tried

    def take_up(self, classifier: str, run_id: str | None) -> tuple[RunKey, Stage]:
        """Try a run again now, because a person asks for it.

        run_id: None for the newest that waits, or else the newest of all. Returns the run and the
        stage from which it goes on. Raises UserError where there is nothing to try again.
        """
        run = self._asked_for(classifier, run_id)
        follow(run.key)
        now = self.runs.clock()
        wait = Wait.of(run) if run.status is Status.WAITING else None
        if wait is None:
            wait = self._revived(run)
            run = self.runs.get(run.key) or run
        if not self.runs.begin_try(run, int((now + TRY_TAKES).timestamp())):
            raise UserError("resume.contended", f"run {run.key.run_id} is being tried right now")
        stage = Stage(wait.stage)
        self.invoke[stage](resumed_event(run.key, stage))
        return run.key, stage

    def _look_after(self, key: RunKey) -> bool:
        run = self.runs.get(key)
        if run is None:
            return False
        follow(key)
        for endpoint in sorted(run.to_remove):
            if remove_endpoint(self.sagemaker, endpoint):
                self.runs.is_removed(key, endpoint)
        tried = run.status is Status.WAITING and self._tried(run)
        self.runs.needs_none(key)
        return tried

    def _tried(self, run: Run) -> bool:
        wait, now = Wait.of(run), self.runs.clock()
        if wait is None:
            return False
        stage = Stage(wait.stage)
        if newer := self._overtaken_by(run, stage):
            if self.runs.end(run.key, Status.SUPERSEDED, replaced_by=newer.key.run_id):
                logger.info("run is superseded by a newer one")
            return False
        if now >= wait.until:
            message = f"{wait.message} (waited for {LONGEST_WAIT.days} days)"
            self.failures.fail(run.key, stage, wait.code, message)
            return False
        self.failures.notify_once(run.key)
        if not wait.is_due(now):
            return False
        if not self.runs.begin_try(run, int((now + TRY_TAKES).timestamp())):
            return False
        self.invoke[stage](resumed_event(run.key, stage))
        return True

    def _overtaken_by(self, run: Run, stage: Stage) -> Run | None:
        """A newer run that makes this one pointless.

        Before anything is paid for, that is one whose dataset is packed; what has been trained is
        given up only for a model that was live.
        """
        for newer in reversed(self.runs.of(run.key.classifier)):
            if newer.key.run_id <= run.key.run_id:
                return None
            if newer.status in _WAS_LIVE or (
                stage is Stage.TRAIN and newer.status not in _NOT_PACKED
            ):
                return newer
        return None

    def _asked_for(self, classifier: str, run_id: str | None) -> Run:
        known = self.runs.of(classifier)
        if not known:
            raise UserError("resume.no_run", f"there is no run of {classifier}")
        if run_id is None:
            waiting = [run for run in known if run.status is Status.WAITING]
            return (waiting or known)[-1]
        for run in known:
            if run.key.run_id == run_id:
                return run
        raise UserError("resume.no_run", f"{classifier} has no run {run_id}")

    def _revived(self, run: Run) -> Wait:
        """Have a failed run wait, its turn being now. Raises UserError, which says why not."""
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
        if newer := self._overtaken_by(run, stage):
            raise UserError(
                "resume.superseded", f"{name} is overtaken by run {newer.key.run_id}, a newer one"
            )
        wait = Wait.asked_for(run, stage, error["code"], error["message"], self.runs.clock())
        if not self.runs.revive(run.key, wait.to_fact()):
            raise UserError("resume.contended", f"{name} is changing: try again")
        return wait
