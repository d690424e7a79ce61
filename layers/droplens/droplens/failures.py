"""How a run fails: its record says why, and whoever asked to be told is told once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from droplens.domain.text import one_line, paragraphs
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
        """Bring the run to its end with this reason, unless it has ended; then notify.

        message: may quote whatever a stranger wrote: what is kept of it fits an item and a line.
        """
        follow(key)
        error = {"stage": stage.value, "code": code, "message": one_line(message)}
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
        error = {name: one_line(str(text)) for name, text in run.facts["error"].items()}
        classifier = one_line(key.classifier)
        self.publish(
            f"Droplens: {classifier} {run.status.value} at {error['stage']}",
            f"Run {key.run_id} of classifier {classifier} {run.status.value} "
            f"at stage {error['stage']}.\n\n{error['message']}\n\n"
            f"Code: {error['code']}. A model that was live before goes on answering.",
        )
        self.runs.note(key, notified=True)

    def publish(self, subject: str, message: str) -> None:
        """Send a notification. What strangers wrote must be on one line of `message` already."""
        seen = one_line(subject[:MAX_SUBJECT]).encode("ascii", "replace").decode()
        self.sns.publish(TopicArn=self.topic, Subject=seen, Message=paragraphs(message))

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
