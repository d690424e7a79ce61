"""The sweep of input/: images that need a classification are put on the queue.

It finds images that were dropped before the first model, and images whose events were lost, by a
merge of the listings of input/ and results/. Both are sorted, so memory does not grow with
their length, and a million classified images take about two thousand calls.
"""

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from droplens.aws.events import OBJECT_CREATED
from droplens.aws.s3 import Bucket
from droplens.classify.former_results import MAX_RESULT_BYTES, former_results
from droplens.domain import layout
from droplens.domain.errors import ObjectMissing, RetryLater
from droplens.domain.stored_object import ListedObject

if TYPE_CHECKING:
    from types_boto3_sqs.client import SQSClient

T = TypeVar("T")

PAGE = 1000
SEND_BATCH = 10  # SQS takes no more in one call
READERS = 16
# Results kept in memory, whose images may come later in the listing.
AHEAD = 10 * PAGE

ALL, UNSURE, NONE = "all", "unsure", "none"


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a sweep. cursor: the last key read; found: images enqueued; finished: whether
    all keys are read."""

    cursor: str = ""
    found: int = 0
    finished: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """One sweep of a classifier's images.

    default: the default classifier, or None. Images in this classifier's folder with a result of
    the default classifier are enqueued too, so that it is replaced.
    reclassify: which classified images are to be classified again, "all", "unsure" or "none".
    """

    bucket: Bucket
    classifier: str
    default: str | None
    sqs: "SQSClient"
    queue: str
    reclassify: str = NONE

    def run(self, progress: Progress, may_go_on: Callable[[], bool]) -> Progress:
        """Enqueue images from `progress` on, a page at a time.

        may_go_on: called after each page, so that every attempt makes progress.
        """
        for images in self._walks(progress.cursor):
            results, former = Results(self.bucket, self.classifier), self._former()
            for page in _batched(images, PAGE):
                listed = [entry for entry in page if layout.is_image_key(entry.key)]
                again = {entry.key for entry in listed if former and former.has(entry.key)}
                again = self._answered_by_default(again)
                wanted = {entry.key for entry in self._wanted(listed, results)} | again
                found = self._enqueue((entry for entry in listed if entry.key in wanted), again)
                progress = Progress(page[-1].key, progress.found + found)
                if not may_go_on():
                    return progress
        return replace(progress, finished=True)

    def _walks(self, cursor: str) -> Iterator[Iterator[ListedObject]]:
        """The images after `cursor`: for the default classifier first those without a folder.

        Two listings, since result keys lack the name of the classifier's folder: in one listing
        the order of images and results would differ.
        """
        own = f"{layout.INPUT}{self.classifier}/"
        begun = cursor.startswith(own)
        if self.default == self.classifier and not begun:
            level = self.bucket.level(layout.INPUT, cursor)
            yield (entry for entry in level if isinstance(entry, ListedObject))
        yield self.bucket.entries(own, cursor if begun else "")

    def _former(self) -> "Results | None":
        """The default classifier's results, where they may be of images in this one's folder."""
        if self.default in (None, self.classifier):
            return None
        return Results(self.bucket, str(self.default))

    def _answered_by_default(self, keys: set[str]) -> set[str]:
        """The keys of those images that have a result of the default classifier."""

        def has_former(key: str) -> bool:
            return any(True for _ in former_results(self.bucket, key, str(self.default)))

        if not keys:
            return keys
        in_order = sorted(keys)
        with ThreadPoolExecutor(READERS) as pool:
            found = pool.map(has_former, in_order)
            return {key for key, has in zip(in_order, found, strict=True) if has}

    def _wanted(self, images: Iterable[ListedObject], results: "Results") -> Iterable[ListedObject]:
        if self.reclassify == ALL:
            return images
        with_state = [(image, results.has(image.key)) for image in images]
        if self.reclassify == NONE:
            return (image for image, answered in with_state if not answered)
        with ThreadPoolExecutor(READERS) as pool:
            unsure = list(
                pool.map(lambda pair: not pair[1] or self._is_unsure(pair[0].key), with_state)
            )
        return (image for (image, _), again in zip(with_state, unsure, strict=True) if again)

    def _is_unsure(self, key: str) -> bool:
        """Whether the image's result is not confident, or there is no valid result."""
        for place in (layout.result_key, layout.other_result_key):
            try:
                body, _ = self.bucket.read_at_most(place(key, self.classifier), MAX_RESULT_BYTES)
            except ObjectMissing:
                continue
            if body is not None and (confident := _is_confident(body, key)) is not None:
                return not confident
        return True

    def _enqueue(self, images: Iterable[ListedObject], again: set[str]) -> int:
        """Returns the number of images. again: keys whose result of the default classifier is to
        be removed."""
        count = 0
        for batch in _batched(images, SEND_BATCH):
            messages = [
                image_message(self.bucket.name, image, answered_by_default=image.key in again)
                for image in batch
            ]
            _send(self.sqs, self.queue, messages)
            count += len(batch)
        return count


def _is_confident(result: bytes, key: str) -> bool | None:
    """Whether the result of the image `key` is confident or a rejection; None for an object that
    is not a result of this image."""
    try:
        found = json.loads(result)
        if found["image"]["key"] != key:
            return None
        return found["status"] != "classified" or bool(found["prediction"]["confident"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


class Results:
    """Whether images of a classifier have a result, for images in the order of their keys.

    The order of results differs where one key is a prefix of another ("a-b.json" sorts before
    "a.json"), but only locally: results are read ahead, and dropped once no later image can have
    them.
    """

    def __init__(self, bucket: Bucket, classifier: str) -> None:
        self.bucket = bucket
        self.classifier = classifier
        self._ahead: OrderedDict[str, None] = OrderedDict()
        self._read_to = ""
        self._forgotten_to = ""
        self._more = True

    def has(self, image: str) -> bool:
        """Whether the image has a result object."""
        key = layout.result_key(image, self.classifier)
        bound = layout.result_bound(image, self.classifier)
        if not key.startswith(bound):
            return self._exists(key)  # a digest only: not in the order of images
        self._forget(bound)
        while self._more and self._read_to < key:
            if len(self._ahead) > AHEAD:
                return self._exists(key)  # too many results in between
            self._read()
        return key in self._ahead

    def _forget(self, bound: str) -> None:
        self._forgotten_to = bound
        while self._ahead and next(iter(self._ahead)) <= bound:
            self._ahead.popitem(last=False)

    def _read(self) -> None:
        # Skip results that no later image can have.
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


def image_message(
    bucket: str, entry: ListedObject, *, answered_by_default: bool = False
) -> dict[str, Any]:
    """A message in the form of S3's event for the image, with what classify_image reads of it.

    answered_by_default: as in `ObjectCreated`.
    """
    return {
        "source": "droplens.sweep",
        "detail-type": OBJECT_CREATED,
        "detail": {
            "bucket": {"name": bucket},
            "object": {"key": entry.key, "size": entry.bytes, "etag": entry.etag},
            **({"answered_by_default": True} if answered_by_default else {}),
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
