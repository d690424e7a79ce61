"""S3 and one DynamoDB table in memory, with their conditional writes.

Moto is too slow for tests that run thousands of schedules; `test_memory.py` holds these to moto. Of
each there are only the calls, parameters and expressions that the layer uses; whatever else is
asked for raises TypeError or KeyError, and is not taken for done.
"""

# The parameters are boto3's, in its own spelling, and those without effect here are taken too.
# ruff: noqa: N803, ARG002

import hashlib
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from boto3.dynamodb.conditions import AttributeBase, ConditionBase

from tests.support.aws_fakes import refusal

STORED_AT = datetime(2026, 11, 22, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Stored:
    """One version of an object."""

    body: bytes
    version: str
    metadata: Mapping[str, str]

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.body).hexdigest()}"'  # noqa: S324


@dataclass
class MemoryS3:
    """A versioned bucket, as a client sees it."""

    objects: dict[str, Stored] = field(default_factory=dict)
    versions: int = 0

    def copy(self) -> "MemoryS3":
        return replace(self, objects=dict(self.objects))

    def put_object(
        self,
        *,
        Bucket: str,
        Key: str,
        Body: bytes,
        Metadata: Mapping[str, str] | None = None,
        ContentType: str = "",
        IfMatch: str | None = None,
        IfNoneMatch: str | None = None,
    ) -> dict[str, Any]:
        there = self.objects.get(Key)
        if IfNoneMatch is not None and there is not None:
            raise refusal("PreconditionFailed", "PutObject")
        if IfMatch is not None and there is None:
            raise refusal("NoSuchKey", "PutObject")
        if IfMatch is not None and there is not None and IfMatch.strip('"') != _bare(there):
            raise refusal("PreconditionFailed", "PutObject")
        self.versions += 1
        stored = Stored(bytes(Body), f"v{self.versions}", dict(Metadata or {}))
        self.objects[Key] = stored
        return {"ETag": stored.etag, "VersionId": stored.version}

    def get_object(
        self, *, Bucket: str, Key: str, Range: str | None = None, IfNoneMatch: str | None = None
    ) -> dict[str, Any]:
        if Key not in self.objects:
            raise refusal("NoSuchKey", "GetObject")
        stored = self.objects[Key]
        if IfNoneMatch is not None and IfNoneMatch.strip('"') == _bare(stored):
            raise refusal("304", "GetObject")
        body = stored.body
        if Range is not None:
            start, end = Range.removeprefix("bytes=").split("-")
            body = body[int(start) : int(end) + 1]
        return {**_told(stored), "ContentLength": len(body), "Body": io.BytesIO(body)}

    def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        if Key not in self.objects:
            raise refusal("404", "HeadObject")
        return _told(self.objects[Key])

    def delete_object(self, *, Bucket: str, Key: str, IfMatch: str | None = None) -> dict[str, Any]:
        there = self.objects.get(Key)
        if IfMatch is not None and (there is None or IfMatch.strip('"') != _bare(there)):
            raise refusal("NoSuchKey" if there is None else "PreconditionFailed", "DeleteObject")
        self.objects.pop(Key, None)
        return {}

    def list_objects_v2(
        self,
        *,
        Bucket: str,
        Prefix: str = "",
        StartAfter: str = "",
        MaxKeys: int = 1000,
        Delimiter: str = "",
        ContinuationToken: str = "",
    ) -> dict[str, Any]:
        """The token is the last name of the page before; a folder's name ends in the delimiter."""
        names = set()
        for key in self.objects:
            if not key.startswith(Prefix):
                continue
            folder, delimiter, _ = key.removeprefix(Prefix).partition(Delimiter or "\0")
            names.add(Prefix + folder + delimiter if Delimiter and delimiter else key)
        after = max(StartAfter, ContinuationToken)
        found = sorted((name for name in names if name > after), key=str.encode)
        page = found[:MaxKeys]
        keys = [name for name in page if name in self.objects]
        folders = [{"Prefix": name} for name in page if name not in self.objects]
        answer: dict[str, Any] = {"IsTruncated": len(found) > MaxKeys}
        if keys:
            answer["Contents"] = [
                {
                    "Key": key,
                    "ETag": self.objects[key].etag,
                    "Size": len(self.objects[key].body),
                    "LastModified": STORED_AT,
                }
                for key in keys
            ]
        if folders:
            answer["CommonPrefixes"] = folders
        if answer["IsTruncated"]:
            answer["NextContinuationToken"] = page[-1]
        return answer


def _bare(stored: Stored) -> str:
    return stored.etag.strip('"')


def _told(stored: Stored) -> dict[str, Any]:
    return {
        "ETag": stored.etag,
        "VersionId": stored.version,
        "ContentLength": len(stored.body),
        "LastModified": STORED_AT,
        "Metadata": dict(stored.metadata),
    }


_MISSING = object()
_CLAUSE = re.compile(r"\b(SET|REMOVE|ADD|DELETE)\b")
# Of a clause: a name, and in some a value, which may be for an attribute that is not there only.
_ACTION = re.compile(r"(?P<name>[#\w]+)(?: = | |)(?P<once>if_not_exists\(#\w+, )?(?P<value>:\w+)?")


@dataclass
class MemoryTable:
    """The Runs table, as boto3's Table sees it: reads are consistent, writes are one at a time.

    A write puts a new item in the old one's place, so that copies may share what they hold.
    """

    items: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def copy(self) -> "MemoryTable":
        return MemoryTable(dict(self.items))

    def get_item(self, *, Key: Mapping[str, str], ConsistentRead: bool) -> dict[str, Any]:
        item = self.items.get(_key(Key))
        return {} if item is None else {"Item": dict(item)}

    def put_item(self, *, Item: dict[str, Any], ConditionExpression: ConditionBase) -> None:
        self._check(ConditionExpression, self.items.get(_key(Item), {}), "PutItem")
        self.items[_key(Item)] = dict(Item)

    def update_item(
        self,
        *,
        Key: Mapping[str, str],
        UpdateExpression: str,
        ConditionExpression: ConditionBase,
        ExpressionAttributeNames: Mapping[str, str],
        ExpressionAttributeValues: Mapping[str, Any],
    ) -> None:
        before = self.items.get(_key(Key), {})
        self._check(ConditionExpression, before, "UpdateItem")
        item = dict(before) or dict(Key)
        names, values = ExpressionAttributeNames, ExpressionAttributeValues
        parts = _CLAUSE.split(UpdateExpression)
        for verb, text in zip(parts[1::2], parts[2::2], strict=True):
            for action in _ACTION.finditer(text):
                name = names.get(action["name"], action["name"])
                if verb == "SET" and action["once"] and name in item:
                    continue
                if verb == "SET":
                    item[name] = values[action["value"]]
                elif verb == "REMOVE":
                    item.pop(name, None)
                elif verb == "ADD":
                    item[name] = set(item.get(name, ())) | values[action["value"]]
                elif left := set(item.get(name, ())) - values[action["value"]]:
                    item[name] = left
                else:
                    item.pop(name, None)  # DynamoDB keeps no empty set
        self.items[_key(Key)] = item

    def query(
        self,
        *,
        KeyConditionExpression: ConditionBase | str,
        ExpressionAttributeValues: Mapping[str, str] | None = None,
        IndexName: str | None = None,
        ScanIndexForward: bool = True,
        ConsistentRead: bool = False,
        Limit: int | None = None,
    ) -> dict[str, Any]:
        if isinstance(KeyConditionExpression, str):
            assert KeyConditionExpression == "classifier = :classifier"
            assert ExpressionAttributeValues is not None
            name, value = "classifier", ExpressionAttributeValues[":classifier"]
        else:
            attribute, value = KeyConditionExpression.get_expression()["values"]
            name = attribute.name
        found = [dict(item) for _, item in sorted(self.items.items()) if item.get(name) == value]
        if not ScanIndexForward:
            found.reverse()
        return {"Items": found[:Limit]}

    def _check(self, condition: ConditionBase, item: Mapping[str, Any], operation: str) -> None:
        if not holds(condition, item):
            raise refusal("ConditionalCheckFailedException", operation)


def _key(of: Mapping[str, Any]) -> tuple[str, str]:
    return of["classifier"], of["run_id"]


def holds(condition: ConditionBase, item: Mapping[str, Any]) -> bool:
    """Whether a condition of boto3's is true of an item.

    A comparison with an attribute that is not there is false, so that NOT of it is true.
    """
    told = condition.get_expression()
    operator, values = told["operator"], told["values"]
    if operator in ("AND", "OR"):
        return (all if operator == "AND" else any)(holds(value, item) for value in values)
    if operator == "NOT":
        return not holds(values[0], item)
    found = _at(values[0], item)
    if operator in ("attribute_exists", "attribute_not_exists"):
        return (found is not _MISSING) == (operator == "attribute_exists")
    if operator == "<>":
        return found is _MISSING or found != values[1]
    return found is not _MISSING and _COMPARED[operator](found, values[1])


_COMPARED: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": lambda found, value: found == value,
    "<": lambda found, value: found < value,
    "IN": lambda found, values: found in values,
}


def _at(attribute: AttributeBase, item: Mapping[str, Any]) -> Any:
    found: Any = item
    for name in attribute.name.split("."):
        if not isinstance(found, Mapping) or name not in found:
            return _MISSING
        found = found[name]
    return found
