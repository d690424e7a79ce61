"""Failed pictures come again later and later: how long a message stays hidden after a failure.

SQS moves a message to the dead-letter queue once it was received maxReceiveCount (50) times. Were
it back at once each time, a minute of a throttled endpoint would use them up. After failure n it
stays hidden for min(FIRST_DELAY x 2^(n-1), LONGEST_DELAY) seconds, of which the second half is
left to chance, so that pictures that failed together do not come back together. The 49 delays
before the last try add up to 5.4 hours at the very least, 8 on average, and 10.8 at most: so long
an endpoint may be away before the first picture has to be moved back by hand (`make redrive`),
and 14 tries are the most that one hour costs.

A message whose invocation was ended by force (out of memory, out of time) comes back after the
queue's visibility timeout, and so do the others of its batch. Which of them was the cause is not
known, but which cannot have been is: for those that came back sooner, each failure was reported.
`grouped` has the others handled one at a time, after all that can be handled together.
"""

import random
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from droplens.runtime.telemetry import logger

if TYPE_CHECKING:
    from types_boto3_sqs.client import SQSClient

FIRST_DELAY = 10
LONGEST_DELAY = 900
# A message for which an invocation had no time left comes again at once, so many times: were an
# endpoint to hang for long, it must not use up its tries meanwhile. The 49 delays lose two minutes
# by it at most.
SOON = 4
# The queue's visibility timeout in seconds, as the template sets it.
VISIBILITY_TIMEOUT_SECONDS = 720
# A message that was received no more often is always handled beside others.
RECEIVES_BESIDE_OTHERS = 2


def delay(times: int, chance: float) -> int:
    """Seconds to hide a message that failed when it was received for the `times`-th time.

    chance: from [0, 1).
    """
    whole = min(FIRST_DELAY << min(times - 1, 16), LONGEST_DELAY)
    return round(whole / 2 + chance * whole / 2)


def receives(record: Mapping[str, Any]) -> int:
    """How often the message was received, this time included."""
    return int(record["attributes"]["ApproximateReceiveCount"])


def may_end_invocations(record: Mapping[str, Any], now: float) -> bool:
    """Whether a message that came back several times may have ended an invocation by force.

    now: seconds since 1970. It cannot have where the visibility timeout has not passed since it was
    received first: only a reported failure shortens the time for which a message is hidden.
    """
    since = now - int(record["attributes"]["ApproximateFirstReceiveTimestamp"]) / 1000
    return receives(record) > RECEIVES_BESIDE_OTHERS and since >= VISIBILITY_TIMEOUT_SECONDS


def grouped(records: Iterable[Mapping[str, Any]], now: float) -> list[list[Mapping[str, Any]]]:
    """A batch as it is handled, group after group: what is safe together, then the others alone.

    now: as in `may_end_invocations`. Those that were received most often come last. What an
    endpoint has failed for longer than the visibility timeout is handled alone too.
    """
    together: list[Mapping[str, Any]] = []
    alone: list[Mapping[str, Any]] = []
    for record in records:
        (alone if may_end_invocations(record, now) else together).append(record)
    alone.sort(key=receives)
    return [*([together] if together else []), *([record] for record in alone)]


class VisibilityBackoff:
    """Hides failed messages of one queue for their delay, and deletes those that are done."""

    def __init__(self, sqs: "SQSClient", queue: str) -> None:
        self.sqs = sqs
        self.queue = queue

    def hide(self, records: Iterable[Mapping[str, Any]], not_begun: Collection[str] = ()) -> None:
        """Hide the messages of these failed records, as Lambda hands them out, at most ten.

        not_begun: ids of those that were not tried, and come again sooner.

        Where SQS does not take that, the messages stay hidden for the queue's own visibility
        timeout: later than need be, but nothing is lost, so that it is no failure.
        """
        entries = [
            {
                "Id": str(number),
                "ReceiptHandle": record["receiptHandle"],
                "VisibilityTimeout": _delay_of(record, not_begun),
            }
            for number, record in enumerate(records)
        ]
        if not entries:
            return
        try:
            answer = self.sqs.change_message_visibility_batch(
                QueueUrl=self.queue,
                Entries=entries,  # type: ignore[arg-type]
            )
        except (ClientError, BotoCoreError) as error:
            logger.warning(
                "failed pictures are retried after the queue's visibility timeout", error=str(error)
            )
            return
        if refused := answer.get("Failed"):
            logger.warning(
                "failed pictures are retried after the queue's visibility timeout", refused=refused
            )

    def delete(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Delete these messages, at most ten, which Lambda would do once the invocation is over.

        What SQS does not take is left to Lambda, and no failure.
        """
        entries = [
            {"Id": str(number), "ReceiptHandle": record["receiptHandle"]}
            for number, record in enumerate(records)
        ]
        if not entries:
            return
        try:
            answer = self.sqs.delete_message_batch(
                QueueUrl=self.queue,
                Entries=entries,  # type: ignore[arg-type]
            )
        except (ClientError, BotoCoreError) as error:
            logger.warning("completed messages are left for Lambda to delete", error=str(error))
            return
        if refused := answer.get("Failed"):
            logger.warning("completed messages are left for Lambda to delete", refused=refused)


def _delay_of(record: Mapping[str, Any], not_begun: Collection[str]) -> int:
    times = receives(record)
    if record.get("messageId") in not_begun and times <= SOON:
        times = 1
    return delay(times, random.random())
