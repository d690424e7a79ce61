"""Progress: lines in the log, and the run's item."""

import logging
from collections.abc import Iterator
from queue import Queue

import boto3
import pytest
from moto import mock_aws

from batch_prep import progress
from batch_prep.progress import Progress, RunItem, seconds_between_reports

TABLE = "runs"
KEY = {"classifier": {"S": "cars"}, "run_id": {"S": "r1"}}


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


def test_the_last_line_says_how_many_there_were(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Progress(total=None) as counted:
        counted.step()
        counted.step(2)
    (line,) = caplog.messages
    assert line.startswith("packing done=3 total=3 rate=")
    assert line.endswith("eta=0s")


def test_lines_and_reports_come_while_nothing_is_done(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.01)
    caplog.set_level(logging.INFO)
    heard: Queue[tuple[str, int, int | None]] = Queue()
    with Progress(8, lambda *told: heard.put(told), "joining", 0.01):
        assert heard.get(timeout=30) == heard.get(timeout=30) == ("joining", 0, 8)
        assert heard.get(timeout=30)
    assert caplog.messages[0] == "joining done=0 total=8 rate=0.0/s eta=?"


def test_a_stage_that_fails_is_not_reported_as_done() -> None:
    told: list[tuple[str, int, int | None]] = []
    with pytest.raises(ValueError, match="x"), Progress(2, lambda *args: told.append(args)):
        raise ValueError("x")
    assert not told


def test_the_runs_item_is_told(table: None) -> None:
    client = boto3.client("dynamodb")
    client.put_item(TableName=TABLE, Item=KEY | {"status": {"S": "packing"}})
    RunItem(TABLE, "cars", "r1")("packing", 3, 8)
    item = client.get_item(TableName=TABLE, Key=KEY)["Item"]
    assert item["status"] == {"S": "packing"}
    told = item["progress"]["M"]
    assert (told["stage"], told["done"], told["total"]) == (
        {"S": "packing"},
        {"N": "3"},
        {"N": "8"},
    )
    assert told["at"]["S"].endswith("+00:00")


def test_the_children_of_an_array_tell_it_side_by_side(table: None) -> None:
    client = boto3.client("dynamodb")
    client.put_item(TableName=TABLE, Item=KEY)
    for shard, done in ((0, 1), (11, 5), (0, 2)):
        RunItem(TABLE, "cars", "r1", shard)("packing", done, 8)
    item = client.get_item(TableName=TABLE, Key=KEY)["Item"]
    shards = {shard: told["M"]["done"] for shard, told in item["shards"]["M"].items()}
    assert shards == {"0": {"N": "2"}, "11": {"N": "5"}}
    assert "progress" not in item


def test_many_children_report_seldom() -> None:
    assert [seconds_between_reports(shards) for shards in (1, 4, 200)] == [2, 2, 50]


def test_a_run_that_does_not_exist_is_not_made(
    table: None, caplog: pytest.LogCaptureFixture
) -> None:
    RunItem(TABLE, "cars", "r1")("packing", 3, None)
    assert "Item" not in boto3.client("dynamodb").get_item(TableName=TABLE, Key=KEY)
    assert "progress could not be written" in caplog.text


def test_a_table_that_is_away_does_not_end_the_job(caplog: pytest.LogCaptureFixture) -> None:
    with mock_aws():
        RunItem("no-such-table", "cars", "r1")("packing", 1, 2)
    assert "no-such-table" in caplog.text
