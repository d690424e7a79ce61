"""What a step of the journey gets from the Lambda invocation that it runs in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from droplens.domain import naming
from droplens.domain.run import Run, RunKey, Stage
from droplens.journey.failures import Failures
from droplens.journey.waiting import NAME_OF_TRY, name_of_try
from droplens.runtime.telemetry import logger
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

    def claim_try(
        self, key: RunKey, stage: Stage, stack: str, *, resuming: bool
    ) -> tuple[Run, str] | None:
        """Claim the next try of a stage that creates a resource of SageMaker.

        stack: its name; resuming: whether a run that waits may be claimed. Returns the run as it
        was recorded before, and the resource's name, another one at each try; None where the stage
        is done, or claimed by another invocation.
        """
        run = self.runs.get(key)
        if run is not None:
            name = naming.resource_name(stack, key.classifier, name_of_try(run, stage))
            # Recorded before the resource exists: it is found and removed whatever fails later, and
            # events of earlier tries are recognised by their names.
            recorded: dict[str, Any] = {NAME_OF_TRY[stage]: name}
            if self.runs.claim(key, stage, resuming=resuming, **recorded):
                return run, name
        logger.info("stage is done, or claimed by another invocation")
        self.failures.notify_once(key)
        return None
