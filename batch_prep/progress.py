"""How far packing has come: a line in the log, and the run's item where a table is named."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

_LOG = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES = 3.0
_SECONDS_BETWEEN_UPDATES = 2.0

Report = Callable[[int, int | None], None]


class Progress:
    """Counts files and reports (done, total) now and then. total: None where not known."""

    def __init__(self, total: int | None, report: Report | None = None) -> None:
        self._total = total
        self._report = report
        self._done = 0
        self._started = self._lined = self._reported = time.monotonic()

    def step(self) -> None:
        """One more file is done."""
        self._done += 1
        now = time.monotonic()
        if now - self._lined >= _SECONDS_BETWEEN_LINES:
            self._lined = now
            self._line(now)
        if self._report and now - self._reported >= _SECONDS_BETWEEN_UPDATES:
            self._reported = now
            self._report(self._done, self._total)

    def finish(self) -> None:
        """Every file is done: their number is the total."""
        self._total = self._done
        self._line(time.monotonic())
        if self._report:
            self._report(self._done, self._total)

    def _line(self, now: float) -> None:
        rate = self._done / max(now - self._started, 0.001)
        total = "?" if self._total is None else str(self._total)
        eta = "?" if self._total is None else f"{(self._total - self._done) / rate:.0f}s"
        _LOG.info("packing done=%d total=%s rate=%.1f/s eta=%s", self._done, total, rate, eta)


class RunItem:
    """The run's item in the Runs table, told how far its packing is.

    A run shows progress for people only: that the table cannot be reached does not end the job.
    """

    def __init__(self, table: str, classifier: str, run_id: str) -> None:
        self._table = table
        self._key = {"classifier": {"S": classifier}, "run_id": {"S": run_id}}

    @cached_property
    def _client(self) -> "DynamoDBClient":
        # Packing waits meanwhile: a table that does not answer at once is given up on.
        patience = Config(connect_timeout=2, read_timeout=2, retries={"total_max_attempts": 1})
        return boto3.client("dynamodb", config=patience)

    def __call__(self, done: int, total: int | None) -> None:
        """Write the progress into the item, if the run exists."""
        progress = {
            "stage": {"S": "packing"},
            "done": {"N": str(done)},
            "total": {"NULL": True} if total is None else {"N": str(total)},
            "at": {"S": datetime.now(UTC).isoformat(timespec="seconds")},
        }
        try:
            self._client.update_item(
                TableName=self._table,
                Key=self._key,
                UpdateExpression="SET progress = :progress",
                ConditionExpression="attribute_exists(run_id)",
                ExpressionAttributeValues={":progress": {"M": progress}},
            )
        except (ClientError, BotoCoreError) as error:
            _LOG.warning("progress could not be written to table %s: %s", self._table, error)
