"""Progress: lines in the log, and the run's item."""

import logging
from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws

from batch_prep import progress
from batch_prep.progress import Progress, RunItem

TABLE = "runs"
KEY = {"classifier": {"S": "cars"}, "run_id": {"S": "r1"}}


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report at every step."""
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0)
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_UPDATES", 0)


@pytest.fixture
def table() -> Iterator[None]:
    with mock_aws():
        boto3.client("dynamodb").create_table(
            TableName=TABLE,
            KeySchema=[
                {"AttributeName": "classifier", "KeyType": "HASH"},
                {"AttributeName": "run_id", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[
                {"AttributeName": "classifier", "AttributeType": "S"},
                {"AttributeName": "run_id", "AttributeType": "S"},
            ],
            BillingMode="PAY_PER_REQUEST",
        )
        yield


def test_a_line_says_how_far_it_is_and_how_long_it_takes(
    always: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    counted = Progress(total=2)
    counted.step()
    counted.step()
    assert caplog.messages[0].startswith("packing done=1 total=2 rate=")
    assert caplog.messages[1].endswith("eta=0s")


def test_without_a_known_total_there_is_no_estimate(
    always: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    counted = Progress(total=None)
    counted.step()
    assert "done=1 total=?" in caplog.messages[0]
    assert caplog.messages[0].endswith("eta=?")
    counted.finish()
    assert "done=1 total=1" in caplog.messages[1]


def test_reports_are_not_made_at_every_step() -> None:
    reports: list[tuple[int, int | None]] = []
    counted = Progress(1000, lambda done, total: reports.append((done, total)))
    for _ in range(1000):
        counted.step()
    counted.finish()
    assert reports[-1] == (1000, 1000)
    assert len(reports) < 10


def test_the_runs_item_is_told(table: None) -> None:
    client = boto3.client("dynamodb")
    client.put_item(TableName=TABLE, Item=KEY | {"status": {"S": "packing"}})
    RunItem(TABLE, "cars", "r1")(3, 8)
    item = client.get_item(TableName=TABLE, Key=KEY)["Item"]
    assert item["status"] == {"S": "packing"}
    told = item["progress"]["M"]
    assert (told["stage"], told["done"], told["total"]) == (
        {"S": "packing"},
        {"N": "3"},
        {"N": "8"},
    )
    assert told["at"]["S"].endswith("+00:00")


def test_a_run_that_does_not_exist_is_not_made(
    table: None, caplog: pytest.LogCaptureFixture
) -> None:
    RunItem(TABLE, "cars", "r1")(3, None)
    assert "Item" not in boto3.client("dynamodb").get_item(TableName=TABLE, Key=KEY)
    assert "progress could not be written" in caplog.text


def test_a_table_that_is_away_does_not_end_the_job(caplog: pytest.LogCaptureFixture) -> None:
    with mock_aws():
        RunItem("no-such-table", "cars", "r1")(1, 2)
    assert "no-such-table" in caplog.text
