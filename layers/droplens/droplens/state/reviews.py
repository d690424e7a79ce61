"""The Reviews table in DynamoDB: one item for each prediction that a person is to review.

Its partition key is the image's key, its sort key names classifier, model and version, so that a
conditional put enters a review once. The index `queue` has for each classifier what waits, by
order, and what is decided, by time. The index `sample` has for each model its sample of all images,
with SAMPLE_ATTRIBUTES only: it is always read whole.

Reads of an index are eventually consistent, always: "DynamoDB read consistency", Amazon DynamoDB
Developer Guide. An index therefore only proposes: a review is leased, decided and undone by a
conditional update of its item in the table, where conditions are evaluated on the item as it is.

A decision is one such update. What follows it (the correction's object is copied, the item moves
within the index) can be repeated, and is: the item stays among those that wait until it is done,
and whoever finds it there completes it.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from droplens.aws.errors import error_code
from droplens.aws.s3 import Bucket
from droplens.domain import layout
from droplens.domain.errors import DroplensError, ObjectMissing, UserError
from droplens.domain.review import Reason, Review, SampledReview
from droplens.domain.stored_object import NO_VERSION
from droplens.domain.text import class_name_problem
from droplens.state.runs import utc_now

if TYPE_CHECKING:
    from types_boto3_dynamodb.service_resource import Table

QUEUE_INDEX, SAMPLE_INDEX = "queue", "sample"
# What the index `sample` has of an item beside its keys.
SAMPLE_ATTRIBUTES = ("label", "predicted", "reason", "sampled")
# The attribute by which DynamoDB deletes an item, in seconds since 1970.
EXPIRES = "expires"
# How long a claimed review is offered to nobody else.
LEASE = timedelta(minutes=10)
# Reviews that are counted of a classifier's queue: one request reads them.
MOST_REVIEWS_COUNTED = 1_000

_WAITING, _DECIDED = "waiting", "decided"
_PAGE = 100
_FREE = "(attribute_not_exists(#lease_until) OR #lease_until < :now OR #lease_owner = :reviewer)"


class AlreadyDecided(DroplensError):
    """Somebody has decided it already, in another way. review: as it is decided."""

    def __init__(self, review: Review) -> None:
        self.review = review
        super().__init__(
            "review.decided", f"{review.reviewer} has reviewed {review.key} as {review.label}"
        )


class ReviewMissing(DroplensError):
    """The review is not in the table: its image was removed, or its retention is over."""

    def __init__(self, review: Review) -> None:
        super().__init__("review.missing", f"there is no review of {review.key}")


@dataclass(frozen=True, slots=True)
class Page:
    """Some reviews, and where the next page begins; None where this is the last."""

    reviews: list[Review]
    after: str | None


class Reviews:
    """The Reviews table. Thread-safe: all conditions are texts (`Runs` says why).

    bucket: of the images and corrections; retention_days: after which DynamoDB deletes what is
    entered; 0: never.
    """

    def __init__(
        self,
        table: "Table",
        bucket: Bucket,
        *,
        retention_days: int = 0,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.table = table
        self.bucket = bucket
        self.retention_days = retention_days
        self.clock = clock

    def enter(self, review: Review) -> bool:
        """Put the review into the queue; False if it was entered before, decided or not."""
        item = _to_item(review)
        if self.retention_days:
            kept = review.entered + timedelta(days=self.retention_days)
            item[EXPIRES] = int(kept.timestamp())
        try:
            self.table.put_item(
                Item=item,
                ConditionExpression="attribute_not_exists(image)",
            )
        except ClientError as error:
            return _refused_by_condition(error)
        return True

    def claim(self, classifier: str, reviewer: str, count: int) -> list[Review]:
        """The next `count` reviews for `reviewer`, in the queue's order, leased to nobody else.

        Those that the reviewer holds already are among them, with a new lease, and those that the
        reviewer has released come last. Fewer where the queue has no more.
        """
        claimed: list[Review] = []
        images: set[tuple[str, str]] = set()
        for offered in self._offered(classifier, reviewer):
            if len(claimed) == count:
                break
            review = self._claimed(offered, reviewer)
            # Two models may have predicted the same image; a decision is for both.
            if review is not None and (review.key, review.version) not in images:
                images.add((review.key, review.version))
                claimed.append(review)
        return claimed

    def release(self, review: Review, reviewer: str) -> None:
        """Return a claimed review to the queue, for this reviewer to its end."""
        self._update(
            review,
            "REMOVE #lease_owner, #lease_until ADD #skipped :skipped",
            "#lease_owner = :reviewer",
            {":reviewer": reviewer, ":skipped": {reviewer}},
        )

    def decide(self, review: Review, label: str, reviewer: str) -> Review:
        """Record that the image shows `label`, a class or NONE, and store it as a correction.

        Also for the other models that have predicted this version of the image and wait for a
        review. Safe to repeat. Raises AlreadyDecided, ReviewMissing, and UserError for a label that
        cannot be a class.
        """
        _check_label(review, label)
        decided = self._decided(review, label, reviewer)
        self._settle(decided)
        found = _from_item(decided)
        for other in self._others(found):
            if other.decided is None and found.decided is not None:
                also = self._decide(other, label, reviewer, found.decided)
                if also is not None:
                    self._settle(also)
        return found

    def undo(self, review: Review, reviewer: str) -> Review:
        """Return a decided review to the queue, leased to `reviewer`, and remove its correction.

        review: as `decide` returned it. Safe to repeat. Raises AlreadyDecided where another
        decision was made since, and ReviewMissing.
        """
        undone = self._undo(review, reviewer)
        if undone is None:
            standing = self._get(review)
            found = _from_item(standing)
            if found.decided is not None:
                raise AlreadyDecided(found)
            undone = standing
        self._settle(undone)
        for other in self._others(review):
            if other.decided is not None and other.decided == review.decided:
                also = self._undo(other, reviewer)
                if also is not None:
                    self._settle(also)
        return _from_item(undone)

    def waiting(self, classifier: str) -> Mapping[Reason, int]:
        """The reviews that wait, by reason; at most MOST_REVIEWS_COUNTED are counted."""
        counts = dict.fromkeys(Reason, 0)
        items = self._index(
            QUEUE_INDEX,
            f"{classifier}/{_WAITING}",
            attributes="#reason, #decided",
            most=MOST_REVIEWS_COUNTED,
        )
        for item in items:
            if "decided" not in item:
                counts[Reason(item["reason"])] += 1
        return counts

    def decisions(self, classifier: str, *, after: str | None = None, limit: int = 100) -> Page:
        """The decided reviews, newest first. after: of the page before. Raises ValueError for one
        that is not."""
        query: dict[str, Any] = {
            "IndexName": QUEUE_INDEX,
            "KeyConditionExpression": "#queue = :list",
            "ExpressionAttributeNames": _names("#queue"),
            "ExpressionAttributeValues": {":list": f"{classifier}/{_DECIDED}"},
            "ScanIndexForward": False,
            "Limit": limit,
        }
        if after:
            query["ExclusiveStartKey"] = _cursor(after, classifier)
        response = self.table.query(**query)
        reviews = [_from_item(item) for item in response["Items"]]
        more = response.get("LastEvaluatedKey")
        return Page(reviews, json.dumps(more) if more else None)

    def sample(self, classifier: str, model: str) -> list[SampledReview]:
        """The random sample of a model's images, decided or not."""
        return [
            SampledReview(
                reason=Reason(item["reason"]),
                sampled=float(item["sampled"]),
                predicted=item["predicted"],
                label=item.get("label"),
            )
            for item in self._index(SAMPLE_INDEX, f"{classifier}/{model}")
        ]

    def of_image(self, key: str) -> list[Review]:
        """Every review of the image, of all versions and models, read consistently."""
        query = self._pages(
            KeyConditionExpression="image = :image",
            ExpressionAttributeValues={":image": key},
            ConsistentRead=True,
        )
        return [_from_item(item) for item in query]

    def remove(self, review: Review) -> None:
        """Delete the review. A correction that was decided stays."""
        self.table.delete_item(Key=_key(review))

    def _offered(self, classifier: str, reviewer: str) -> Iterator[Review]:
        """What the index proposes: first what the reviewer has not released."""
        released = []
        now = int(self.clock().timestamp())
        for item in self._index(
            QUEUE_INDEX,
            f"{classifier}/{_WAITING}",
            unless=_FREE,
            values={":now": now, ":reviewer": reviewer},
        ):
            if reviewer in item.get("skipped", ()):
                released.append(_from_item(item))
            else:
                yield _from_item(item)
        yield from released

    def _claimed(self, offered: Review, reviewer: str) -> Review | None:
        """The review, leased to the reviewer; None where it is not to be had, or not any more."""
        now = self.clock()
        item = self._update(
            offered,
            "SET #lease_owner = :reviewer, #lease_until = :until",
            f"attribute_exists(#image) AND #queue = :waiting AND {_FREE}",
            {
                ":reviewer": reviewer,
                ":until": int((now + LEASE).timestamp()),
                ":now": int(now.timestamp()),
                ":waiting": f"{offered.classifier}/{_WAITING}",
            },
        )
        if item is not None and ("decided" in item or "former" in item):
            item = self._settle(item)
        if item is None or "decided" in item or item.get("lease_owner") != reviewer:
            return None
        review = _from_item(item)
        return review if self._is_wanted(review) else None

    def _is_wanted(self, review: Review) -> bool:
        """Whether a person is still to see this prediction; takes it out of the queue if not.

        An image that was deleted or overwritten is not to be seen, and neither is one that a person
        had labelled before this prediction: its model may have been trained on it. Both leave the
        sample, too. Where a model has predicted the image since, that prediction is shown.
        """
        try:
            current = self.bucket.head(review.key).version_id or NO_VERSION
        except ObjectMissing:
            current = None
        others = self._others(review)
        if current != review.version or any(other.decided is not None for other in others):
            self.remove(review)
            return False
        if any(other.entered > review.entered for other in others):
            self._update(
                review,
                "REMOVE #queue, #place, #lease_owner, #lease_until",
                "attribute_exists(#image) AND attribute_not_exists(#decided)",
                {},
            )
            return False
        return True

    def _others(self, review: Review) -> list[Review]:
        """The reviews of the same version of the image, of this classifier's other models."""
        return [
            other
            for other in self.of_image(review.key)
            if (other.version, other.classifier) == (review.version, review.classifier)
            and other.model != review.model
        ]

    def _decided(self, review: Review, label: str, reviewer: str) -> dict[str, Any]:
        """The item with this decision, made now or before. Raises AlreadyDecided, ReviewMissing."""
        while True:
            decided = self._decide(review, label, reviewer, self.clock())
            if decided is not None:
                return decided
            standing = self._get(review)
            found = _from_item(standing)
            if (found.label, found.reviewer) == (label, reviewer):
                return standing
            if found.decided is not None:
                raise AlreadyDecided(found)
            # Another decision was undone between the two requests.

    def _decide(
        self, review: Review, label: str, reviewer: str, now: datetime
    ) -> dict[str, Any] | None:
        return self._update(
            review,
            "SET #label = :label, #reviewer = :reviewer, #decided = :decided ADD #revision :one",
            "attribute_exists(#image) AND attribute_not_exists(#decided)",
            {":label": label, ":reviewer": reviewer, ":decided": _text(now), ":one": 1},
        )

    def _undo(self, review: Review, reviewer: str) -> dict[str, Any] | None:
        if review.decided is None:
            return None
        return self._update(
            review,
            "SET #queue = :waiting, #place = :place, #former = :label, #lease_owner = :reviewer, "
            "#lease_until = :until REMOVE #label, #reviewer, #decided ADD #revision :one",
            "#decided = :decided",
            {
                ":decided": _text(review.decided),
                ":waiting": f"{review.classifier}/{_WAITING}",
                ":place": _in_order(review),
                ":label": review.label,
                ":reviewer": reviewer,
                ":until": int((self.clock() + LEASE).timestamp()),
                ":one": 1,
            },
        )

    def _settle(self, item: dict[str, Any]) -> dict[str, Any] | None:
        """Make the correction's object and the item's place in the index agree with its decision.

        Repeated where the decision has changed meanwhile. Returns the item as it is then; None
        where it was removed.
        """
        former = set()
        while True:
            review = _from_item(item)
            former |= {item["former"]} if "former" in item else set()
            for label in former - {review.label}:
                self.bucket.client.delete_object(
                    Bucket=self.bucket.name, Key=_correction(review, label)
                )
            if review.label is not None:
                self._copy(review, review.label)
            settled = self._settled(review, item["revision"])
            if settled is not None:
                return settled
            if review.label is not None:
                former.add(review.label)
            try:
                item = self._get(review)
            except ReviewMissing:
                return None

    def _settled(self, review: Review, revision: Any) -> dict[str, Any] | None:
        values: dict[str, Any] = {":revision": revision}
        change = "REMOVE #former"
        if review.decided is not None:
            change = (
                "SET #queue = :list, #place = :place REMOVE #former, #lease_owner, #lease_until"
            )
            values[":list"] = f"{review.classifier}/{_DECIDED}"
            values[":place"] = _text(review.decided)
        return self._update(review, change, "#revision = :revision", values)

    def _copy(self, review: Review, label: str) -> None:
        """Copy the version of the image; does nothing where it does not exist any more."""
        with suppress(ObjectMissing):
            self.bucket.copy(review.key, _correction(review, label), review.version)

    def _get(self, review: Review) -> dict[str, Any]:
        found = self.table.get_item(Key=_key(review), ConsistentRead=True).get("Item")
        if found is None:
            raise ReviewMissing(review)
        return dict(found)

    def _index(
        self,
        index: str,
        value: str,
        *,
        unless: str | None = None,
        values: Mapping[str, Any] | None = None,
        attributes: str | None = None,
        most: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """The items of an index with this partition key, in order.

        unless: a filter on them, of which `values` are the values; attributes: that are returned,
        None for all; most: to read.
        """
        text = f"#{index} = :index"
        query: dict[str, Any] = {
            "IndexName": index,
            "KeyConditionExpression": text,
            "ExpressionAttributeNames": _names(f"{text} {unless or ''} {attributes or ''}"),
            "ExpressionAttributeValues": {":index": value, **(values or {})},
        }
        if unless:
            query |= {"FilterExpression": unless, "Limit": _PAGE}
        if attributes:
            query["ProjectionExpression"] = attributes
        if most:
            query["Limit"] = most
        yield from islice(self._pages(**query), most)

    def _pages(self, **query: Any) -> Iterator[dict[str, Any]]:
        more: dict[str, Any] = {}
        while True:
            response = self.table.query(**query, **more)
            yield from response["Items"]
            if "LastEvaluatedKey" not in response:
                return
            more = {"ExclusiveStartKey": response["LastEvaluatedKey"]}

    def _update(
        self, review: Review, change: str, condition: str, values: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """The item after the update; None where the condition does not hold."""
        request: dict[str, Any] = {
            "Key": _key(review),
            "UpdateExpression": change,
            "ConditionExpression": condition,
            "ExpressionAttributeNames": _names(f"{change} {condition}"),
            "ReturnValues": "ALL_NEW",
        }
        if values:  # DynamoDB refuses an empty map
            request["ExpressionAttributeValues"] = dict(values)
        try:
            response = self.table.update_item(**request)
        except ClientError as error:
            _refused_by_condition(error)
            return None
        return dict(response["Attributes"])


def _refused_by_condition(error: ClientError) -> bool:
    """False for a condition that does not hold; any other error is raised."""
    if error_code(error) != "ConditionalCheckFailedException":
        raise error
    return False


def _names(expression: str) -> dict[str, str]:
    """The names of an expression that writes the attribute `x` as `#x`: many are reserved words."""
    return {f"#{name}": name for name in re.findall(r"#(\w+)", expression)}


def _cursor(after: str, classifier: str) -> dict[str, str]:
    found = json.loads(after)
    if not isinstance(found, dict) or found.keys() != {"image", "review", "queue", "place"}:
        raise ValueError("not the end of a page of decisions")
    if not all(isinstance(one, str) and one for one in found.values()):
        raise ValueError("not the end of a page of decisions")
    if found["queue"] != f"{classifier}/{_DECIDED}":
        raise ValueError(f"not the end of a page of {classifier}'s decisions")
    return found


def _check_label(review: Review, label: str) -> None:
    problem = class_name_problem(label)
    if problem is None and (not label or label.startswith(".") or "/" in label or "\\" in label):
        problem = "cannot be a folder"
    if problem is None and len(_correction(review, label).encode()) > layout.MAX_KEY_BYTES:
        problem = "is too long"
    if problem is not None:
        raise UserError("review.label", f"{label!r} is no class for {review.key}: it {problem}")


def _correction(review: Review, label: str) -> str:
    return layout.correction_key(review.classifier, label, review.key)


def _key(review: Review) -> dict[str, str]:
    name = f"{review.classifier}/{review.model}/{review.version}"
    return {"image": review.key, "review": name}


def _in_order(review: Review) -> str:
    """The place in the queue as text, whose order is that of the numbers."""
    return f"{review.order:.6f}"


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")


def _to_item(review: Review) -> dict[str, Any]:
    """The item of a review that waits."""
    item: dict[str, Any] = {
        **_key(review),
        "classifier": review.classifier,
        "version": review.version,
        "model": review.model,
        "reason": review.reason.value,
        "predicted": review.predicted,
        "probability": _decimal(review.probability),
        "result": review.result,
        "order": _decimal(review.order),
        "entered": _text(review.entered),
        "revision": 0,
        "queue": f"{review.classifier}/{_WAITING}",
        "place": _in_order(review),
    }
    if review.sampled is not None:
        item |= {
            "sampled": _decimal(review.sampled),
            "sample": f"{review.classifier}/{review.model}",
        }
    return item


def _decimal(value: float) -> Decimal:
    return Decimal(repr(value))


def _from_item(item: Mapping[str, Any]) -> Review:
    sampled, decided = item.get("sampled"), item.get("decided")
    return Review(
        classifier=item["classifier"],
        key=item["image"],
        version=item["version"],
        model=item["model"],
        reason=Reason(item["reason"]),
        sampled=None if sampled is None else float(sampled),
        predicted=item["predicted"],
        probability=float(item["probability"]),
        result=item["result"],
        order=float(item["order"]),
        entered=datetime.fromisoformat(item["entered"]),
        reviewer=item.get("reviewer"),
        label=item.get("label"),
        decided=None if decided is None else datetime.fromisoformat(decided),
    )
