"""Photos are dropped under keys of their own, and their results are printed as they arrive."""

import json
from pathlib import Path
from typing import Any

import pytest

from droplens.aws.s3 import Bucket
from droplens.domain import layout
from droplens.state.cards import Cards
from droplens_cli import classify
from droplens_cli.app import main
from droplens_cli.errors import CommandError, ExitCode
from tests.support.builders import card, go_live
from tests.support.command import run
from tests.support.deployed_stack import Deployed, deployed  # noqa: F401  a fixture

MODEL = {"run_id": "20261122-120000-1a2b3c", "endpoint": "e", "accuracy": 0.9}


def result(key: str, **more: Any) -> dict[str, Any]:
    image = {"bucket": "b", "key": key, "etag": "0" * 32, "version_id": None, "bytes": 5}
    return {
        "schema": "droplens.result.v2",
        "status": "classified",
        "image": image,
        "classifier": "cars",
        "prediction": {
            "label": "audi",
            "probability": 0.7,
            "confident": False,
            "familiar": True,
            "familiarity": 0.4,
        },
        "candidates": ["audi", "bmw"],
        "model": MODEL,
        "classified_at": "2026-11-22T12:00:00Z",
    } | more


@pytest.fixture
def answering(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> Deployed:  # noqa: F811
    """The stack with "cars" live, whose pictures are answered as soon as they are dropped."""
    cards = Cards(Bucket(deployed.s3, deployed.outputs["BucketName"]))
    go_live(cards, card(MODEL["run_id"], "cars"))  # type: ignore[arg-type]
    cards.make_default_if_first("cars")
    drop = classify.drop

    def dropped_and_answered(*arguments: Any) -> list[classify.Dropped]:
        dropped = drop(*arguments)
        for one in dropped:
            if "late" in one.key:
                continue
            answer = result(one.key)
            if "broken" in one.key:
                error = {"code": "image.unreadable", "message": "not\na picture"}
                answer = result(one.key, status="rejected", error=error)
                del answer["prediction"]
            deployed.put(one.result, json.dumps(answer).encode())
        return dropped

    monkeypatch.setattr(classify, "drop", dropped_and_answered)
    return deployed


def photo(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"bytes")
    return path


def test_photos_are_classified_and_printed(
    answering: Deployed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo(tmp_path, "in/a.jpg")
    photo(tmp_path, "in/deeper/a.jpg")
    photo(tmp_path, "in/.hidden/a.jpg")
    assert run("classify", str(tmp_path / "in"), "--as", "cars") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].split() == [
        str(tmp_path / "in/a.jpg"),
        *("audi", "70.0", "%", "unsure", "or", "bmw"),
    ]
    dropped = [one.key for one in answering.bucket.entries("input/cars/cli-")]
    assert len(dropped) == 2
    assert dropped[0].endswith("/0001-a.jpg")


def test_the_default_classifier_answers_photos_in_no_folder(
    answering: Deployed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("classify", str(photo(tmp_path, "a.jpg")), "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["photo"] == str(tmp_path / "a.jpg")
    assert printed["candidates"] == ["audi", "bmw"]
    [key] = [one.key for one in answering.bucket.entries("input/")]
    assert layout.first_folder(key) is None


@pytest.mark.parametrize("name", ["ü é.jpg", "a" * 240 + ".jpg", "..%2f..jpg", "=1+1.jpg"])
def test_odd_names_make_plain_keys(answering: Deployed, tmp_path: Path, name: str) -> None:
    assert run("classify", str(photo(tmp_path, name))) == 0
    [key] = [one.key for one in answering.bucket.entries("input/")]
    assert key.isascii()
    assert len(key) < 160
    assert key.endswith(".jpg")


def test_a_rejected_photo_has_an_exit_code_of_its_own(
    answering: Deployed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = photo(tmp_path, "broken.jpg")
    code = main(["--stack", "droplens", "classify", str(broken), str(photo(tmp_path, "a.jpg"))])
    assert code == ExitCode.BAD_INPUT
    said = capsys.readouterr()
    assert "image.unreadable: not a picture" in said.out
    assert "1 of 2 photos were rejected" in said.err


def test_a_result_that_does_not_come_is_a_timeout(
    answering: Deployed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = photo(tmp_path, "late.jpg")
    code = main(["--stack", "droplens", "classify", str(late), "--timeout", "0.1"])
    assert code == ExitCode.TIMEOUT
    said = capsys.readouterr()
    assert "no result yet" in said.out
    assert "it will be at results/cars/cli-" in said.err


def test_without_a_live_model_nothing_is_sent(deployed: Deployed, tmp_path: Path) -> None:  # noqa: F811
    path = str(photo(tmp_path, "a.jpg"))
    for options in ([], ["--as", "cars"]):
        with pytest.raises(CommandError, match=r"no live model|no model is live") as failed:
            run("classify", path, *options)
        assert failed.value.code is ExitCode.NO_TARGET
    assert list(deployed.bucket.entries("")) == []


def test_what_is_no_photo_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="does not exist"):
        classify.photographs([tmp_path / "none.jpg"])
    with pytest.raises(CommandError, match="there is no file in"):
        classify.photographs([tmp_path])
    with (tmp_path / "large.tif").open("wb") as file:
        file.truncate(26 * 1024 * 1024)
    with pytest.raises(CommandError, match="the limit is 26,214,400"):
        classify.photographs([tmp_path])
