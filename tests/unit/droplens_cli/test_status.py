"""`make status` says what answers, how runs do and what waits, and no more than a person needs."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from droplens.aws.s3 import Bucket
from droplens.domain import layout
from droplens.domain.review import Reason
from droplens.domain.run import RunKey, Stage, Status
from droplens.state.cards import Cards
from droplens_cli import status
from droplens_cli.errors import CommandError
from droplens_cli.table import table
from tests.support.builders import card, go_live
from tests.support.command import run
from tests.support.deployed_stack import Deployed, deployed  # noqa: F401  a fixture
from tests.support.reviews import review

RUN = "20261122-120000-1a2b3c"


def page(capsys: pytest.CaptureFixture[str]) -> str:
    run("status")
    return capsys.readouterr().out


def live(stack: Deployed, classifier: str) -> None:
    cards = Cards(Bucket(stack.s3, stack.outputs["BucketName"]))
    go_live(cards, card(RUN, classifier))
    cards.make_default_if_first(classifier)
    key = RunKey(classifier, RUN)
    stack.runs.open(key, {"version": "v"})
    stack.runs.end(key, Status.LIVE, accuracy=0.9)


def test_a_new_stack_says_how_to_begin(
    deployed: Deployed,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "stack droplens: CREATE_COMPLETE" in page(capsys)
    assert "No classifier yet" in page(capsys)


def test_it_names_the_live_model_the_newest_run_and_why_that_stands(
    deployed: Deployed,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    live(deployed, "cars")
    failed = RunKey("cars", "20261123-120000-1a2b3c")
    deployed.runs.open(failed, {"version": "w"})
    error = {"stage": "pack", "code": "dataset.too_few", "message": "two\nclasses are needed"}
    deployed.runs.end(failed, Status.FAILED, error=error)
    packing = RunKey("birds", "20261124-120000-1a2b3c")
    deployed.runs.open(packing, {"version": "v", "secret": "not for people"})
    deployed.runs.note(packing, progress={"stage": "packing", "done": 1200, "total": 5000})
    lines = [line.split("  ") for line in page(capsys).splitlines()]
    cells = [[cell.strip() for cell in line if cell] for line in lines]
    assert [
        "cars (default)",
        RUN,
        "90.0 % (9 of 10; 59.6 to 98.2)",
        "2026-11-22 12:30",
        "2",
        "2",
    ] in cells
    assert ["birds", "none yet", "1"] in cells
    assert ["cars", failed.run_id, "failed", "pack failed"] in cells
    [progress] = [line for line in cells if line[:2] == ["birds", packing.run_id]]
    assert progress[2] == "packing"
    assert progress[3] == "pack …"
    assert progress[4].startswith("1,200 of 5,000 pictures, started ")
    assert ["cars: failed: dataset.too_few: two classes are needed"] in cells
    assert "not for people" not in page(capsys)


def test_it_names_the_folders_whose_pictures_wait_and_the_likely_classifier(
    deployed: Deployed,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    live(deployed, "cars")
    deployed.runs.open(RunKey("birds", RUN), {"version": "v"})
    deployed.runs.open(RunKey("fish", RUN), {"version": "v"})
    deployed.runs.end(RunKey("fish", RUN), Status.REFUSED, error={"code": "c", "message": "m"})
    for key in ("a", "cars/a", "carz/a", "carz/b", "birds/a", "fish/a", "My\nDog/a", "empty/"):
        deployed.put(f"input/{key}")
    shown = page(capsys).splitlines()
    begin = next(number for number, line in enumerate(shown) if line.startswith("pictures waiting"))
    waiting = [" ".join(line.split()) for line in shown[begin + 1 : shown.index("", begin)]]
    assert waiting == [
        "input/My Dog/ 1 no classifier has this name",
        "input/birds/ 1 its first model",
        "input/carz/ 2 no classifier has this name; did you mean cars?",
        "input/fish/ 1 a model: the newest run produced none",
    ]


def test_files_without_a_folder_wait_for_the_first_model_of_all(
    deployed: Deployed,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    deployed.put("input/a.jpg")
    assert "input/ (without a folder)  1      the first model of all" in page(capsys)
    live(deployed, "cars")
    assert "without a folder" not in page(capsys)


def test_the_live_accuracy_and_what_waits_for_a_person_are_shown(
    deployed: Deployed,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    live(deployed, "cars")
    assert "reviews of" not in page(capsys)
    for number in range(10):
        deployed.put(f"input/cars/{number}.jpg")
        version = deployed.bucket.head(f"input/cars/{number}.jpg").version_id or "null"
        entered = review(number, version=version, model=RUN, sampled=0.01)
        deployed.reviews.enter(entered)
        deployed.reviews.decide(entered, "red" if number else "blue", "ann")
    deployed.reviews.enter(review(10, model=RUN, reason=Reason.UNSURE))
    rows = [" ".join(line.split()) for line in page(capsys).splitlines()]
    assert "reviews of live accuracy unsure unfamiliar spot checks" in rows
    assert "cars 90.0 % (10 reviewed; 59.6 to 98.2) 1 0 0" in rows
    run("status", "--json")
    [found] = json.loads(capsys.readouterr().out)["classifiers"]
    assert found["reviews"] == {"unsure": 1, "unfamiliar": 0, "spot_check": 0}
    assert found["live_accuracy"]["count"] == 10


def test_of_many_folders_some_are_shown(
    deployed: Deployed,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number in range(status.MOST_FOLDERS + 1):
        deployed.put(f"input/{number:03}/a.jpg")
    assert f"in more folders than these {status.MOST_FOLDERS}" in page(capsys)


def test_queues_are_counted_and_the_dead_letter_queue_has_the_command_that_works_here(
    deployed: Deployed,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "droplens redrive" not in page(capsys)
    deployed.sqs.send_message(QueueUrl=deployed.outputs["PictureDlqUrl"], MessageBody="secret")
    deployed.sqs.send_message(
        QueueUrl=deployed.outputs["PictureQueueUrl"], MessageBody="secret", DelaySeconds=60
    )
    shown = page(capsys)
    rows = [" ".join(line.split()) for line in shown.splitlines()]
    assert "queue visible in flight delayed" in rows
    assert "pictures 0 0 1" in rows
    assert "pictures, dead-letter queue 1 0 0" in rows
    assert "`droplens redrive`" in shown
    assert "secret" not in shown


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (
            {
                "status": "waiting",
                "waits_for": {
                    "stage": Stage.TRAIN,
                    "code": "account.quota",
                    "message": "0 instances",
                    "next_try": 1795000000,
                },
            },
            "at stage train, next attempt 2026-11-18 11:06 UTC: account.quota: 0 instances",
        ),
        ({"status": "awaiting_approval"}, "approval pending"),
        ({"status": "superseded", "replaced_by": RUN}, f"run {RUN} was newer"),
        ({"status": "live"}, ""),
    ],
)
def test_why_a_run_stands_is_a_sentence(item: dict[str, Any], words: str) -> None:
    assert words in status.reason(item)


def test_a_run_says_how_long_it_has_been_at_it() -> None:
    now = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    for hours, words in ((0.1, "6 min"), (5, "5 h"), (24 * 3, "3 days")):
        begun = (now - timedelta(hours=hours)).isoformat()
        assert status.progress({"status": "training", "created_at": begun}, now) == (
            f"started {words} ago"
        )


def test_a_stranger_s_name_is_one_short_line() -> None:
    assert table(("name",), [("a\nb" + "x" * 5000,)]).count("\n") == 1
    assert len(table(("name",), [("x" * 5000,)])) < 300


# --- without a cloud


@pytest.mark.parametrize("command", [("status",), ("rollback", "cars"), ("redrive",)])
def test_a_local_cloud_that_is_down_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(CommandError, match="the local cloud is down: `make up` starts it"):
        run(*command)


@pytest.mark.usefixtures("deployed")
def test_answers_that_name_no_stack_are_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="names no stack: `make deploy` saves"):
        run("status", target=("--config", str(tmp_path / "none.toml")))


def test_a_card_of_another_kind_is_not_taken_for_a_live_model(
    deployed: Deployed,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    deployed.put(layout.card_key("cars", RUN), b"{}")
    assert ["cars", "none yet", "0"] in [
        [cell.strip() for cell in line.split("  ") if cell.strip()]
        for line in page(capsys).splitlines()
    ]
