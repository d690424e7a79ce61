"""Exponential backoff for failed SQS messages, by their visibility timeout.

SQS moves a message to the dead-letter queue once it was received maxReceiveCount (50) times. With
immediate retries a minute of a throttled endpoint would use them up. After failure n a message is
hidden for min(FIRST_DELAY x 2^(n-1), LONGEST_DELAY) seconds, of which the second half is jitter,
so that images that failed together are not retried together. The 49 delays before the last receive
add up to 5.4 hours at least, 8 on average, and 10.8 at most: so long may an endpoint be unavailable
before the first image has to be redriven by hand (`make redrive`). One hour takes at most 14
receives.

A message whose invocation was killed (out of memory, timeout) is visible again after the queue's
visibility timeout, and so are the others of its batch. Which of them was the cause is not known,
but a message that was visible earlier cannot have been: its failure was reported. `grouped` has the
others handled one at a time, after all that can be handled together.
"""

import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from droplens.runtime.telemetry import logger

if TYPE_CHECKING:
    from types_boto3_sqs.client import SQSClient

FIRST_DELAY = 10
LONGEST_DELAY = 900
# A message that an invocation had no time to try is hidden for FIRST_DELAY only, up to this many
# receives. The limit keeps an endpoint that hangs from using up the receives; the 49 delays become
# shorter by two minutes at most.
QUICK_RECEIVES = 4
# The queue's visibility timeout in seconds, as the template sets it.
VISIBILITY_TIMEOUT_SECONDS = 720
# A message with no more receives is always handled together with others.
RECEIVES_BESIDE_OTHERS = 2


def delay(times: int, chance: float) -> int:
    """Seconds to hide a message after the failure of its `times`-th receive.

    chance: random, in [0, 1).
    """
    whole = min(FIRST_DELAY << min(times - 1, 16), LONGEST_DELAY)
    return round(whole / 2 + chance * whole / 2)


def receives(record: Mapping[str, Any]) -> int:
    """How often the message was received, including this time."""
    return int(record["attributes"]["ApproximateReceiveCount"])


def may_end_invocations(record: Mapping[str, Any], now: float) -> bool:
    """Whether a message that was received several times may have crashed an invocation.

    now: seconds since 1970. It cannot have where the visibility timeout has not passed since its
    first receive: only a reported failure shortens the time for which a message is hidden.
    """
    since = now - int(record["attributes"]["ApproximateFirstReceiveTimestamp"]) / 1000
    return receives(record) > RECEIVES_BESIDE_OTHERS and since >= VISIBILITY_TIMEOUT_SECONDS


def grouped(records: Iterable[Mapping[str, Any]], now: float) -> list[list[Mapping[str, Any]]]:
    """A batch as groups to handle one after another: the safe messages, then each other alone.

    now: as in `may_end_invocations`. Those with the most receives come last. Messages that an
    endpoint has failed for longer than the visibility timeout are handled alone too.
    """
    together: list[Mapping[str, Any]] = []
    alone: list[Mapping[str, Any]] = []
    for record in records:
        (alone if may_end_invocations(record, now) else together).append(record)
    alone.sort(key=receives)
    return [*([together] if together else []), *([record] for record in alone)]


class VisibilityBackoff:
    """Hides the failed messages of one queue for their delay; deletes completed ones."""

    def __init__(self, sqs: "SQSClient", queue: str) -> None:
        self.sqs = sqs
        self.queue = queue

    def hide(self, records: Iterable[Mapping[str, Any]], not_begun: Collection[str] = ()) -> None:
        """Hide the messages of failed records of a Lambda event, at most ten.

        not_begun: ids of those that were not tried, which are retried sooner.

        Where SQS refuses, which is only logged, the messages stay hidden for the queue's own
        visibility timeout.
        """
        entries = [
            {
                "Id": str(number),
                "ReceiptHandle": record["receiptHandle"],
                "VisibilityTimeout": _delay_of(record, not_begun),
            }
            for number, record in enumerate(records)
        ]
        self._send(
            entries,
            lambda: self.sqs.change_message_visibility_batch(
                QueueUrl=self.queue,
                Entries=entries,  # type: ignore[arg-type]
            ),
            "failed pictures are retried after the queue's visibility timeout",
        )

    def delete(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Delete completed messages, at most ten, before the invocation ends.

        A refusal is only logged: Lambda deletes them after the invocation.
        """
        entries = [
            {"Id": str(number), "ReceiptHandle": record["receiptHandle"]}
            for number, record in enumerate(records)
        ]
        self._send(
            entries,
            lambda: self.sqs.delete_message_batch(
                QueueUrl=self.queue,
                Entries=entries,  # type: ignore[arg-type]
            ),
            "completed messages are left for Lambda to delete",
        )

    def _send(
        self,
        entries: Sequence[Mapping[str, Any]],
        send: Callable[[], Mapping[str, Any]],
        refused: str,
    ) -> None:
        """Send a batch request, if it has entries. A refusal is only logged, as `refused`."""
        if not entries:
            return
        try:
            response = send()
        except (ClientError, BotoCoreError) as error:
            logger.warning(refused, error=str(error))
            return
        if failed := response.get("Failed"):
            logger.warning(refused, refused=failed)


def _delay_of(record: Mapping[str, Any], not_begun: Collection[str]) -> int:
    times = receives(record)
    if record.get("messageId") in not_begun and times <= QUICK_RECEIVES:
        times = 1
    return delay(times, random.random())
