"""The end of runs that cannot continue: recorded with its reason, and notified once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from droplens.domain.errors import LimitReached, UserError
from droplens.domain.run import Run, RunKey, Stage, Status
from droplens.domain.text import one_line, paragraphs
from droplens.journey import waiting
from droplens.runtime.telemetry import count, follow, logger
from droplens.state.runs import Runs

if TYPE_CHECKING:
    from types_boto3_sns.client import SNSClient

# SNS takes 100 characters of printable ASCII as a subject.
MAX_SUBJECT = 100


class Failures:
    """Ends runs that cannot continue, and notifies. topic: ARN of the notification topic."""

    def __init__(self, runs: Runs, sns: "SNSClient", topic: str) -> None:
        self.runs = runs
        self.sns = sns
        self.topic = topic

    def fail(
        self,
        key: RunKey,
        stage: Stage,
        code: str,
        message: str,
        status: Status = Status.FAILED,
        **facts: Any,
    ) -> None:
        """End the run with this reason, unless it has ended; then notify.

        message: may quote untrusted text; it is recorded on one line of bounded length. facts: kept
        with the end.
        """
        follow(key)
        error = {"stage": stage.value, "code": code, "message": one_line(message)}
        if self.runs.end(key, status, error=error, **facts):
            logger.error("run ended", extra={"status": status.value, "reason": error})
            count(f"Run{status.value.capitalize()}")
        self.notify_once(key)

    def hold(self, key: RunKey, stage: Stage, limit: LimitReached, name: str | None = None) -> bool:
        """Have the run wait for a limit that passes, and notify once; fail it after LONGEST_WAIT.

        name: of the training job or endpoint that met the limit; None: of the one on record. False
        if the run is no longer at that try, or has failed.
        """
        follow(key)
        run = self.runs.get(key)
        if run is None:
            return False
        now = self.runs.clock()
        wait = waiting.Wait.after(run, stage, limit.code, limit.message, now)
        if now >= wait.until:
            days = waiting.LONGEST_WAIT.days
            self.fail(key, stage, limit.code, f"{limit.message} (waited for {days} days)")
            return False
        fact = waiting.NAME_OF_TRY[stage]
        tried = name if name is not None else getattr(run, fact)
        surplus = tried if stage is Stage.DEPLOY else None
        held = self.runs.hold(key, stage, wait.to_fact(), (fact, tried), surplus)
        if held:
            logger.warning("run waits", extra={"waits_for": wait.to_fact()})
            count("RunWaiting")
        self.notify_once(key)
        return held

    def notify_once(self, key: RunKey) -> None:
        """Notify of a run's recorded end, or that it has begun to wait, unless that was done.

        The mark is written after the message was sent: a crash in between sends it twice rather
        than not at all.
        """
        run = self.runs.get(key)
        if run is None:
            return
        if run.status is Status.WAITING:
            self._notify_of_wait(run)
        if not run.error or run.notified:
            return
        error = {name: one_line(str(text)) for name, text in run.error.items()}
        again = run.status is Status.FAILED and waiting.may_be_tried_again(
            error["stage"], error["code"]
        )
        classifier = one_line(key.classifier)
        self.publish(
            f"Droplens: {classifier} {run.status.value} at {error['stage']}",
            f"Run {key.run_id} of classifier {classifier} {run.status.value} "
            f"at stage {error['stage']}.\n\n{error['message']}\n\n"
            f"Code: {error['code']}. A model that was live before keeps serving."
            + (f" To retry it from that stage: {waiting.command(key)}" if again else ""),
        )
        self.runs.note(key, notified=True)

    def _notify_of_wait(self, run: Run) -> None:
        wait = waiting.Wait.of(run)
        if wait is None:
            return
        mark = f"{wait.stage} {wait.since}"
        if run.wait_notified != mark:
            self.publish(*waiting.notice(run.key, wait))
            self.runs.note(run.key, wait_notified=mark)

    def publish(self, subject: str, message: str) -> None:
        """Send a notification. Untrusted text in `message` must be on one line already."""
        printable = one_line(subject[:MAX_SUBJECT]).encode("ascii", "replace").decode()
        self.sns.publish(TopicArn=self.topic, Subject=printable, Message=paragraphs(message))

    @contextmanager
    def recorded(self, key: RunKey, stage: Stage) -> Iterator[None]:
        """End the run at a UserError within, or have it wait at a limit that passes.

        Other errors are raised, after the stage was released for the next try by Lambda.
        """
        try:
            yield
        except UserError as error:
            if isinstance(error, LimitReached) and stage in waiting.NAME_OF_TRY:
                self.hold(key, stage, error)
            else:
                self.fail(key, stage, error.code, error.message)
        except Exception:
            self.runs.release(key, stage)
            raise
