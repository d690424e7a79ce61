"""The journey against S3, DynamoDB and CloudWatch Logs as moto serves them."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from demo import DemoError
from demo.dataset import Picture
from demo.journey import Journey, News, Patience
from droplens.domain.run import Status
from droplens_cli.training_log import GROUP, TrainingLog

BUCKET = "droplens-bucket"


@pytest.fixture
def journey() -> Iterator[Journey]:
    """A journey of the classifier "pets" through an empty stack."""
    with mock_aws():
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        runs = boto3.resource("dynamodb").create_table(
            TableName="runs",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": "classifier", "AttributeType": "S"},
                {"AttributeName": "run_id", "AttributeType": "S"},
            ],
            KeySchema=[
                {"AttributeName": "classifier", "KeyType": "HASH"},
                {"AttributeName": "run_id", "KeyType": "RANGE"},
            ],
        )
        yield Journey(
            "pets",
            bucket=BUCKET,
            runs=runs,
            s3=s3,
            logs=boto3.client("logs"),
            patience=Patience(poll=0.001),
            look_inside="look at its log",
        )


def record(journey: Journey, run_id: str, status: str, **facts: Any) -> None:
    journey._runs.put_item(Item={"classifier": "pets", "run_id": run_id, "status": status, **facts})


def keys(journey: Journey) -> list[str]:
    return sorted(journey._keys(""))


@pytest.fixture
def pictures(tmp_path: Path) -> list[Picture]:
    """Three files; the cloud, not the demo, looks into them."""
    made = []
    for label, name in [("cat", "1.png"), ("cat", "more/2.png"), ("dog", "1.png")]:
        path = tmp_path / label / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{label} {name}".encode())
        made.append(Picture(path, label, name))
    return made


def test_a_dataset_is_uploaded_by_class_and_completed_last(
    journey: Journey, pictures: list[Picture]
) -> None:
    uploading = journey.upload(pictures)
    assert [next(uploading) for _ in pictures] == [1, 2, 3]
    assert "datasets/pets/_READY" not in keys(journey)
    assert list(uploading) == []
    assert keys(journey) == [
        "datasets/pets/_READY",
        "datasets/pets/cat/1.png",
        "datasets/pets/cat/more/2.png",
        "datasets/pets/dog/1.png",
    ]
    assert journey.ready_uri == f"s3://{BUCKET}/datasets/pets/_READY"


def test_what_is_held_out_today_does_not_stay_from_yesterday(
    journey: Journey, pictures: list[Picture]
) -> None:
    for _ in journey.upload(pictures):
        pass
    for _ in journey.upload(pictures[1:]):
        pass
    assert "datasets/pets/cat/1.png" not in keys(journey)
    assert "datasets/pets/dog/1.png" in keys(journey)


def test_a_file_that_vanishes_stops_the_upload_before_it_is_complete(
    journey: Journey, pictures: list[Picture]
) -> None:
    pictures[0].path.unlink()
    with pytest.raises(FileNotFoundError):
        list(journey.upload(pictures))
    assert "datasets/pets/_READY" not in keys(journey)


def test_a_run_is_followed_through_its_stages(journey: Journey) -> None:
    record(journey, "20260101-000000-aaaaaa", "live")
    before = journey.newest_run()
    run = "20260101-000001-bbbbbb"
    record(journey, run, "packing")
    news = journey.follow(before)
    assert next(news).status is Status.PACKING
    progress = {"stage": "packing", "done": Decimal(3), "total": Decimal(10)}
    record(journey, run, "packing", progress=progress)
    told = next(news)
    assert (told.done, told.total, told.run_id) == (3, 10, run)
    shards = {"1": {"done": Decimal(2), "total": Decimal(5)}}
    record(journey, run, "packing", shards=shards, packing_shards=Decimal(4))
    told = next(news)
    assert (told.done, told.total) == (2, 20)
    record(journey, run, "deploying", progress=progress)
    told = next(news)
    assert (told.status, told.done) == (Status.DEPLOYING, None)
    record(journey, run, "live")
    assert [told.status for told in news] == [Status.LIVE]


def test_a_younger_run_does_not_distract_from_the_one_that_is_followed(journey: Journey) -> None:
    record(journey, "1", "packing")
    news = journey.follow("")
    assert next(news).run_id == "1"
    record(journey, "2", "packing")
    record(journey, "1", "measuring")
    assert next(news).run_id == "1"


def test_the_training_job_tells_its_progress_and_accuracies(journey: Journey) -> None:
    record(journey, "1", "training", training_job="droplens--pets-1")
    news = journey.follow("")
    assert next(news) == News(Status.TRAINING, item=item(journey, "1"))  # it has not spoken yet
    logs = boto3.client("logs")
    logs.create_log_group(logGroupName=GROUP)
    stream = "droplens--pets-1/algo-1-1"
    logs.create_log_stream(logGroupName=GROUP, logStreamName=stream)

    def say(*lines: str) -> None:
        logs.put_log_events(
            logGroupName=GROUP,
            logStreamName=stream,
            logEvents=[{"timestamp": now(), "message": line} for line in lines],
        )

    say("INFO features channel=train done=5 total=20", "INFO something else")
    told = next(news)
    assert (told.done, told.total, told.said) == (5, 20, "features of the train pictures")
    say("Epoch[0] Train-accuracy=0.99", "Epoch[0] Validation-accuracy=0.875000")
    told = next(news)
    assert (told.done, told.said) == (None, "accuracy 99.0 % train, 87.5 % validation")
    record(journey, "1", "live", training_job="droplens--pets-1")
    assert next(news).said == "accuracy 99.0 % train, 87.5 % validation"


def test_the_training_job_tells_that_it_tries_an_8_bit_variant_while_it_does() -> None:
    tail = TrainingLog(boto3.client("logs", "us-east-1"), "droplens--pets-1")
    tail._take("INFO Epoch[0] Validation-accuracy=1.000000")
    accuracy = tail.said
    tail._take("INFO trying int8: calibrated on 128 pictures, judged on 40")
    assert tail.said == f"{accuracy}; trying whether an 8-bit variant answers as well and faster"
    tail._take("INFO int8 kept: accuracy=1.0000 of fp32=1.0000 p50=4.0 ms of 9.0 ms")
    assert tail.said == accuracy


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (
            "failed",
            {"stage": "pack", "code": "x", "message": "cars/: one class only"},
            "run 1 failed in its step 'pack': cars/: one class only",
        ),
        ("failed", None, "run 1 failed: its record gives no reason"),
        (
            "refused",
            {"stage": "promote", "message": "30.0% of 10 were answered rightly"},
            "run 1 was refused: 30.0% of 10 were answered rightly",
        ),
        ("superseded", None, "run 1 made way for a newer dataset"),
    ],
)
def test_a_run_without_a_live_model_ends_in_plain_words(
    journey: Journey, status: str, error: dict[str, str] | None, words: str
) -> None:
    record(journey, "1", status, **({"error": error} if error else {}))
    news = journey.follow("")
    with pytest.raises(DemoError) as caught:
        list(news)
    assert str(caught.value).startswith(words)


def test_a_run_that_has_to_wait_is_not_watched_for_days(journey: Journey) -> None:
    waits = {"stage": "train", "message": "the quota is 0"}
    record(journey, "1", "waiting", waits_for=waits)
    with pytest.raises(DemoError, match="run 1 has to wait at stage train: the quota is 0"):
        list(journey.follow(""))


def test_a_run_that_never_begins_is_not_awaited_for_ever(journey: Journey) -> None:
    journey.patience = Patience(poll=0.001, run_begins=0.0)
    with pytest.raises(DemoError, match="no run began") as caught:
        list(journey.follow(""))
    assert caught.value.hint == "look at its log"


def test_a_run_that_falls_silent_is_not_awaited_for_ever(journey: Journey) -> None:
    journey.patience = Patience(poll=0.001, run_moves=0.0)
    record(journey, "1", "deploying")
    with pytest.raises(DemoError, match=r"nothing was heard of run 1 \(deploying\)"):
        list(journey.follow(""))


def test_pictures_of_the_exam_are_answered_in_the_order_they_come(
    journey: Journey, pictures: list[Picture]
) -> None:
    exam = {"one.png": pictures[0], "two.png": pictures[2]}
    assert list(journey.ask("demo-1", exam)) == [1, 2]
    assert keys(journey) == ["input/pets/demo-1/one.png", "input/pets/demo-1/two.png"]
    answers = journey.answers("demo-1", exam)
    put_result(journey, "results/pets/demo-1/two.png.json")
    assert next(answers)[0] == "two.png"
    put_result(journey, "results/pets/demo-1/one.png.json")
    assert list(answers) == [("one.png", {"key": "results/pets/demo-1/one.png.json"})]


def test_a_picture_that_gets_no_answer_is_left_out(
    journey: Journey, pictures: list[Picture]
) -> None:
    journey.patience = Patience(poll=0.001, answer=0.05)
    put_result(journey, "results/pets/demo-1/one.png.json")
    assert [name for name, _ in journey.answers("demo-1", ["one.png", "two.png"])] == ["one.png"]


def put_result(journey: Journey, key: str) -> None:
    boto3.client("s3").put_object(Bucket=BUCKET, Key=key, Body=json.dumps({"key": key}))


def item(journey: Journey, run_id: str) -> dict[str, Any]:
    found = journey._get_run(run_id)
    assert found is not None
    return found


def now() -> int:
    """Milliseconds since 1970, as CloudWatch Logs counts."""
    return int(datetime.now(UTC).timestamp() * 1000)


def test_the_report_is_the_runs_own_and_may_be_missing(journey: Journey) -> None:
    key = "reports/pets/run-1/index.html"
    journey._s3.put_object(Bucket=BUCKET, Key=key, Body=b"<!doctype html>")
    assert journey.report("run-1") == b"<!doctype html>"
    assert journey.report("run-2") is None
