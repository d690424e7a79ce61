"""Failed pictures come again later and later: how long a message stays hidden after a failure.

SQS moves a message to the dead-letter queue once it was received maxReceiveCount (50) times. Were
it back at once each time, a minute of a throttled endpoint would use them up. After failure n it
stays hidden for min(FIRST_DELAY x 2^(n-1), LONGEST_DELAY) seconds, of which the second half is
left to chance, so that pictures that failed together do not come back together. The 49 delays
before the last try add up to 5.4 hours at the very least, 8 on average, and 10.8 at most: so long
an endpoint may be away before the first picture has to be moved back by hand (`make redrive`),
and 14 tries are the most that one hour costs.
"""

import random
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from droplens.telemetry import logger

if TYPE_CHECKING:
    from types_boto3_sqs.client import SQSClient

FIRST_DELAY = 10
LONGEST_DELAY = 900
# A message for which an invocation had no time left comes again at once, so many times: were an
# endpoint to hang for long, it must not use up its tries meanwhile. The 49 delays lose two minutes
# by it at most.
SOON = 4


def delay(receives: int, chance: float) -> int:
    """Seconds to hide a message that failed when it was received for the `receives`-th time.

    chance: from [0, 1).
    """
    whole = min(FIRST_DELAY << min(receives - 1, 16), LONGEST_DELAY)
    return round(whole / 2 + chance * whole / 2)


class Postponer:
    """Hides failed messages of one queue for their delay."""

    def __init__(self, sqs: "SQSClient", queue: str) -> None:
        self.sqs = sqs
        self.queue = queue

    def postpone(
        self, records: Iterable[Mapping[str, Any]], not_begun: Collection[str] = ()
    ) -> None:
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
            logger.warning("failed pictures come again by the queue's own time", error=str(error))
            return
        if refused := answer.get("Failed"):
            logger.warning("failed pictures come again by the queue's own time", refused=refused)


def _delay_of(record: Mapping[str, Any], not_begun: Collection[str]) -> int:
    receives = int(record["attributes"]["ApproximateReceiveCount"])
    if record.get("messageId") in not_begun and receives <= SOON:
        receives = 1
    return delay(receives, random.random())
