"""Progress of a stage, reported in the log and in the run's item."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from threading import Event, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

_LOG = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES = 5.0
_SECONDS_BETWEEN_UPDATES = 2.0
# All children of an array write one item, each time as a whole: some 20 KB with 200 children. A
# DynamoDB partition takes 1,000 KB of writes a second.
_UPDATES_A_SECOND = 4

Report = Callable[[str, int, int | None], None]


class Progress:
    """Counts finished items and reports the count at intervals; a context manager.

    stage: one word for the log; total: None where not known; report: called with (stage, done,
    total) every `seconds_between_reports`. Reports run in a thread of their own, so that lines
    continue while a read blocks, and a slow report delays no work.
    """

    def __init__(
        self,
        total: int | None,
        report: Report | None = None,
        stage: str = "packing",
        seconds_between_reports: float = _SECONDS_BETWEEN_UPDATES,
    ) -> None:
        self._total = total
        self._stage = stage
        self._done = 0
        self._started = time.monotonic()
        self._ended = Event()
        self._reports = [(_SECONDS_BETWEEN_LINES, self._line)]
        if report is not None:
            self._reports.append(
                (seconds_between_reports, lambda: report(stage, self._done, self._total))
            )

    def __enter__(self) -> Self:
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        if kind is None:
            self._total = self._done
            for _, write in self._reports:
                write()

    def step(self, count: int = 1) -> None:
        """Count `count` more finished items."""
        self._done += count

    def _watch(self) -> None:
        due = {write: self._started + seconds for seconds, write in self._reports}
        while not self._ended.wait(max(0.0, min(due.values()) - time.monotonic())):
            now = time.monotonic()
            for seconds, write in self._reports:
                if due[write] <= now:
                    write()
                    due[write] = now + seconds

    def _line(self) -> None:
        total = "?" if self._total is None else str(self._total)
        left = self._seconds_left()
        eta = "?" if left is None else f"{left:.0f}s"
        _LOG.info(
            "%s done=%d total=%s rate=%.1f/s eta=%s",
            self._stage,
            self._done,
            total,
            self._rate(),
            eta,
        )

    def _rate(self) -> float:
        return self._done / max(time.monotonic() - self._started, 0.001)

    def _seconds_left(self) -> float | None:
        if self._total is None or not self._done:
            return None
        return max(0, self._total - self._done) / self._rate()


class RunItem:
    """Writes the progress of packing to the run's item in the Runs table.

    shard: None where one job packs everything, which writes `progress`; a child of an array
    writes its own entry of the map `shards`. Progress is only displayed, so an error of the table
    is logged and does not end the job.
    """

    def __init__(self, table: str, classifier: str, run_id: str, shard: int | None = None) -> None:
        self._table = table
        self._key = {"classifier": {"S": classifier}, "run_id": {"S": run_id}}
        self._shard = shard

    @cached_property
    def _client(self) -> "DynamoDBClient":
        # No retries: the next report follows in seconds.
        config = Config(connect_timeout=2, read_timeout=2, retries={"total_max_attempts": 1})
        return boto3.client("dynamodb", config=config)

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Write the progress into the item, if the run exists."""
        counts = {
            "done": {"N": str(done)},
            "total": {"NULL": True} if total is None else {"N": str(total)},
            "at": {"S": datetime.now(UTC).isoformat(timespec="seconds")},
        }
        try:
            if self._shard is None:
                self._set(["progress"], {"stage": {"S": stage}} | counts)
            else:
                self._set_shard(str(self._shard), counts)
        except (ClientError, BotoCoreError) as error:
            _LOG.warning("progress could not be written to table %s: %s", self._table, error)

    def _set_shard(self, shard: str, counts: dict) -> None:
        try:
            self._set(["shards", shard], counts)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ValidationException":
                raise
            # The map does not exist before the first child reports.
            self._set(["shards"], {}, unless_there=True)
            self._set(["shards", shard], counts)

    def _set(self, path: list[str], value: dict, *, unless_there: bool = False) -> None:
        names = {f"#{index}": name for index, name in enumerate(path)}
        target = ".".join(names)
        self._client.update_item(
            TableName=self._table,
            Key=self._key,
            UpdateExpression=f"SET {target} = "
            + (f"if_not_exists({target}, :value)" if unless_there else ":value"),
            ConditionExpression="attribute_exists(run_id)",
            ExpressionAttributeNames=names,
            ExpressionAttributeValues={":value": {"M": value}},
        )


def seconds_between_reports(shards: int) -> float:
    """Interval at which each of `shards` children may write to the run's item."""
    return max(_SECONDS_BETWEEN_UPDATES, shards / _UPDATES_A_SECOND)
