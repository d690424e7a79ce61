"""What a step of the journey gets from the Lambda invocation that it runs in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from droplens.journey.failures import Failures
from droplens.state.runs import Runs

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext
    from types_boto3_dynamodb.service_resource import Table
    from types_boto3_sns.client import SNSClient

# The longest time that a step works between two checks of `has_time`.
MARGIN_SECONDS = 180


def _not_continued(event: object) -> None:
    raise RuntimeError(f"this function invokes no other; it was to send {event}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """One Lambda invocation. A step's clients and settings last for many; these for one.

    runs: the Runs table, with this invocation as the owner of its claims; failures: ends runs and
    notifies; seconds_left: until Lambda ends the invocation; invoke: sends an event to the function
    that continues the work, in an invocation of its own.
    """

    runs: Runs
    failures: Failures
    seconds_left: Callable[[], float]
    invoke: Callable[[object], None] = _not_continued

    @classmethod
    def of(
        cls,
        context: "LambdaContext",
        table: "Table",
        sns: "SNSClient",
        topic: str,
        invoke: Callable[[object], None] = _not_continued,
    ) -> Self:
        """The invocation that Lambda describes by `context`.

        table: of the runs; topic: ARN of the notification topic; invoke: see above, for functions
        whose work may be continued.
        """
        runs = Runs.of_invocation(table, context)
        return cls(
            runs=runs,
            failures=Failures(runs, sns, topic),
            seconds_left=lambda: context.get_remaining_time_in_millis() / 1000,
            invoke=invoke,
        )

    def has_time(self) -> bool:
        """Whether a step may begin its next part, or has to leave it to another invocation."""
        return self.seconds_left() > MARGIN_SECONDS
