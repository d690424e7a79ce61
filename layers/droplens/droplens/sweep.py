"""The sweep: find the pictures that are to be answered and put them on the queue.

S3 is the state, and events only hurry it: pictures that came before their first model, and
pictures whose events were lost, are found by walking input/ and results/ side by side. Both
listings come sorted, so memory does not grow with their length, and a million answered pictures
take some two thousand calls.
"""

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby, islice
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
READERS = 16
# Results that are kept in memory because their pictures may still come.
AHEAD = 10 * PAGE
# A larger object among the results is none: five classes' names and a key are a few kilobytes.
MAX_RESULT_BYTES = 256 * 1024

ALL, UNSURE, NONE = "all", "unsure", "none"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a sweep has come: the last picture looked at, how many were enqueued, whether that
    is all."""

    cursor: str = ""
    found: int = 0
    finished: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """One sweep of a classifier's pictures.

    is_default: whether the classifier also answers pictures that name none.
    reclassify: which answered pictures are to be answered again, "all", "unsure" or "none".
    """

    bucket: Bucket
    classifier: str
    router: Router
    is_default: bool
    sqs: "SQSClient"
    queue: str
    reclassify: str = NONE

    def run(self, progress: Progress, may_go_on: Callable[[], bool]) -> Progress:
        """Enqueue pictures from `progress` on, a page at a time.

        may_go_on: asked after each page, so that every attempt gets ahead.
        """
        own = f"{layout.INPUT}{self.classifier}/"
        listed = self.bucket.entries(layout.INPUT if self.is_default else own, progress.cursor)
        # Pictures that name the classifier lose its name in their results' keys: among the others
        # they would be out of order.
        for _, entries in groupby(listed, key=lambda entry: entry.key.startswith(own)):
            results = Results(self.bucket, self.classifier)
            for page in _batched(entries, PAGE):
                found = self._enqueue(self._wanted(filter(self._is_ours, page), results))
                progress = Progress(page[-1].key, progress.found + found)
                if not may_go_on():
                    return progress
        return replace(progress, finished=True)

    def _is_ours(self, entry: ListedObject) -> bool:
        ours = self.router.classifier_for(entry.key) == self.classifier
        return ours and layout.is_picture_key(entry.key)

    def _wanted(
        self, pictures: Iterable[ListedObject], results: "Results"
    ) -> Iterable[ListedObject]:
        if self.reclassify == ALL:
            return pictures
        asked = [(picture, results.has(picture.key)) for picture in pictures]
        if self.reclassify == NONE:
            return (picture for picture, answered in asked if not answered)
        with ThreadPoolExecutor(READERS) as pool:
            unsure = list(pool.map(lambda pair: not pair[1] or self._is_unsure(pair[0].key), asked))
        return (picture for (picture, _), again in zip(asked, unsure, strict=True) if again)

    def _is_unsure(self, key: str) -> bool:
        """Whether the picture's result is an answer that was not confident, or none of ours."""
        for place in (layout.result_key, layout.other_result_key):
            try:
                body, _ = self.bucket.read_at_most(place(key, self.classifier), MAX_RESULT_BYTES)
            except ObjectMissing:
                continue
            if body is not None and (confident := _is_confident(body, key)) is not None:
                return not confident
        return True

    def _enqueue(self, pictures: Iterable[ListedObject]) -> int:
        count = 0
        for batch in _batched(pictures, SEND_BATCH):
            messages = [picture_message(self.bucket.name, picture) for picture in batch]
            _send(self.sqs, self.queue, messages)
            count += len(batch)
        return count


def _is_confident(result: bytes, key: str) -> bool | None:
    """Whether the result of the picture `key` need not be asked again: it is confident, or a
    rejection. None for what is not this picture's result, whoever wrote it there."""
    try:
        found = json.loads(result)
        if found["image"]["key"] != key:
            return None
        return found["status"] != "classified" or bool(found["prediction"]["confident"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


class Results:
    """Which pictures of a classifier have a result, asked in the order of the pictures' keys.

    The results' order is another one where a key begins like the next ("a-b.json" comes before
    "a.json"), but the difference is local: results are read ahead, and forgotten once no picture
    that is still to come can have them.
    """

    def __init__(self, bucket: Bucket, classifier: str) -> None:
        self.bucket = bucket
        self.classifier = classifier
        self._ahead: OrderedDict[str, None] = OrderedDict()
        self._read_to = ""
        self._forgotten_to = ""
        self._more = True

    def has(self, picture: str) -> bool:
        """Whether the picture has a result object."""
        key = layout.result_key(picture, self.classifier)
        bound = layout.result_bound(picture, self.classifier)
        if not key.startswith(bound):
            return self._exists(key)  # it stands out of the order
        self._forget(bound)
        while self._more and self._read_to < key:
            if len(self._ahead) > AHEAD:
                return self._exists(key)  # the results of many a picture lie in between
            self._read()
        return key in self._ahead

    def _forget(self, bound: str) -> None:
        self._forgotten_to = bound
        while self._ahead and next(iter(self._ahead)) <= bound:
            self._ahead.popitem(last=False)

    def _read(self) -> None:
        # Results that nobody will ask for are not even listed.
        start = max(self._read_to, self._forgotten_to)
        page, self._more = self.bucket.page(f"{layout.RESULTS}{self.classifier}/", start)
        self._ahead.update((entry.key, None) for entry in page)
        if page:
            self._read_to = page[-1].key

    def _exists(self, key: str) -> bool:
        try:
            self.bucket.head(key)
        except ObjectMissing:
            return False
        return True


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
