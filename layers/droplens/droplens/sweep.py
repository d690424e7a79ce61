"""The sweep: find the pictures that have no answer and put them on the queue.

S3 is the state, and events only hurry it: pictures that came before their first model, and
pictures whose events were lost, are found by walking input/ and results/ side by side. Both
listings come sorted, so memory does not grow with their length.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from droplens import layout
from droplens.errors import RetryLater
from droplens.events import OBJECT_CREATED
from droplens.routing import Router
from droplens.storage import Bucket, ListedObject, ObjectMissing

if TYPE_CHECKING:
    from types_boto3_sqs.client import SQSClient

T = TypeVar("T")

PAGE = 1000
SEND_BATCH = 10  # SQS takes no more in one call


def sweep(
    bucket: Bucket, classifier: str, router: Router, is_default: bool, sqs: "SQSClient", queue: str
) -> int:
    """Enqueue every picture of `classifier` without a result; returns how many there were."""
    prefix = layout.INPUT if is_default else f"{layout.INPUT}{classifier}/"
    pictures = (
        entry
        for entry in bucket.entries(prefix)
        if layout.is_picture_key(entry.key) and router.classifier_for(entry.key) == classifier
    )
    count = 0
    for batch in _batched(unanswered(bucket, classifier, pictures), SEND_BATCH):
        _send(sqs, queue, [picture_message(bucket.name, entry) for entry in batch])
        count += len(batch)
    return count


def unanswered(
    bucket: Bucket, classifier: str, pictures: Iterable[ListedObject]
) -> Iterator[ListedObject]:
    """Those of `pictures`, sorted by key, that have no result object."""
    for page in _batched(pictures, PAGE):
        results = sorted(layout.result_key(entry.key, classifier) for entry in page)
        answered = _existing(bucket, classifier, results)
        for entry in page:
            if layout.result_key(entry.key, classifier) not in answered:
                yield entry


def picture_message(bucket: str, entry: ListedObject) -> dict[str, Any]:
    """What S3's own event would say of the picture, as far as classify_image needs it."""
    return {
        "source": "droplens.sweep",
        "detail-type": OBJECT_CREATED,
        "detail": {
            "bucket": {"name": bucket},
            "object": {"key": entry.key, "size": entry.bytes, "etag": entry.etag},
        },
    }


def _existing(bucket: Bucket, classifier: str, keys: list[str]) -> set[str]:
    """Which of the sorted `keys` exist, by one listing that spans them.

    Where other objects lie in between by the thousand, asking for each key is cheaper.
    """
    wanted = set(keys)
    found: set[str] = set()
    # StartAfter excludes its argument: stop one character short of the first key.
    between = bucket.entries(f"{layout.RESULTS}{classifier}/", start_after=keys[0][:-1])
    for seen, entry in enumerate(between):
        if entry.key in wanted:
            found.add(entry.key)
        if entry.key >= keys[-1]:
            break
        if seen > 10 * PAGE:
            return found | {key for key in wanted - found if _exists(bucket, key)}
    return found


def _exists(bucket: Bucket, key: str) -> bool:
    try:
        bucket.head(key)
    except ObjectMissing:
        return False
    return True


def _send(sqs: "SQSClient", queue: str, messages: list[dict[str, Any]]) -> None:
    answer = sqs.send_message_batch(
        QueueUrl=queue,
        Entries=[
            {"Id": str(index), "MessageBody": json.dumps(message)}
            for index, message in enumerate(messages)
        ],
    )
    if answer.get("Failed"):
        raise RetryLater("sweep.send", f"SQS refused {len(answer['Failed'])} messages")


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
