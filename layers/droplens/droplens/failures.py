"""How a run fails: its record says why, and whoever asked to be told is told once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from droplens.errors import UserError
from droplens.runs import RunKey, Runs, Stage, Status
from droplens.telemetry import count, follow, logger

if TYPE_CHECKING:
    from types_boto3_sns.client import SNSClient

# SNS takes 100 characters of printable ASCII as a subject.
MAX_SUBJECT = 100


class Failures:
    """Ends runs that cannot go on. topic: ARN of the notification topic."""

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
        """Bring the run to its end with this reason, unless it has ended; then notify."""
        follow(key)
        error = {"stage": stage.value, "code": code, "message": message}
        if self.runs.end(key, status, error=error, **facts):
            logger.error("run ended", extra={"status": status.value, "reason": error})
            count(f"Run{status.value.capitalize()}")
        self.notify_once(key)

    def notify_once(self, key: RunKey) -> None:
        """Tell of a run's recorded end, unless that was done.

        The mark is written after the message went out: a crash in between tells twice, never
        not at all.
        """
        run = self.runs.get(key)
        if run is None or "error" not in run.facts or run.facts.get("notified"):
            return
        error = run.facts["error"]
        self.publish(
            f"Droplens: {key.classifier} {run.status.value} at {error['stage']}",
            f"Run {key.run_id} of classifier {key.classifier} {run.status.value} "
            f"at stage {error['stage']}.\n\n{error['message']}\n\n"
            f"Code: {error['code']}. A model that was live before goes on answering.",
        )
        self.runs.note(key, notified=True)

    def publish(self, subject: str, message: str) -> None:
        """Send a notification."""
        ascii_subject = subject.encode("ascii", "replace").decode()[:MAX_SUBJECT]
        self.sns.publish(TopicArn=self.topic, Subject=ascii_subject, Message=message)

    @contextmanager
    def recorded(self, key: RunKey, stage: Stage) -> Iterator[None]:
        """Turn a UserError of this stage into the run's end.

        Other errors go on to Lambda, whose next try must find the stage free.
        """
        try:
            yield
        except UserError as error:
            self.fail(key, stage, error.code, error.message)
        except Exception:
            self.runs.release(key, stage)
            raise
