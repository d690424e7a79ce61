"""Datasets that come with a split, from folders, archives and lists to records."""

import json
from pathlib import Path
from typing import Any

import pytest

from batch_prep.storage.locate import folder_at
from droplens.records.recordio import read_records
from tests.support.packing import (
    BUCKET,
    Files,
    digests,
    job,
    jpeg,
    manifest,
    put,
    tarred,
    zipped,
)

TOPS = {"train": 4, "val": 2, "test": 1}


def pictures(**tops: int) -> Files:
    """So many pictures of each of two classes in each of these folders, none twice."""
    numbers = iter(range(1000))
    return {
        f"{top}/{label}/{n}.jpg": jpeg(next(numbers))
        for top, count in tops.items()
        for label in "ab"
        for n in range(count)
    }


def lists(out: Any) -> dict[str, list[str]]:
    """The pictures of each channel that has records."""
    place = folder_at(str(out))

    def lines(channel: str) -> list[str]:
        return place.read(f"{channel}/{channel}.lst").decode().splitlines()

    return {
        channel: sorted(line.split("\t")[2] for line in lines(channel))
        for channel in ("train", "validation", "test")
        if place.exists(f"{channel}/{channel}.lst")
    }


def expected(files: Files, **channels: str) -> dict[str, list[str]]:
    return {
        channel: sorted(name for name in files if name.split("/")[-3] == top)
        for channel, top in channels.items()
    }


@pytest.mark.parametrize("kind", ["folder", "zip", "tar.gz", "wrapped", "wrapped zip"])
def test_a_split_is_kept_from_wherever_it_comes(tmp_path: Path, kind: str) -> None:
    files = pictures(**TOPS)
    if kind.startswith("wrapped"):
        files = {f"export/{name}": data for name, data in files.items()}
    if kind.endswith("zip"):
        source = tmp_path / "letters.zip"
        source.write_bytes(zipped(files))
    elif kind == "tar.gz":
        source = tmp_path / "letters.tar.gz"
        source.write_bytes(tarred(files, "w:gz"))
    else:
        source = put(tmp_path / "in", files)
    out = tmp_path / "out"
    assert job(source, out) == 0
    assert lists(out) == expected(files, train="train", validation="val", test="test")
    done = manifest(out)
    assert done["classes"] == ["a", "b"]
    counts = {name: done["counts"][name] for name in ("train", "validation", "test")}
    assert counts == {"train": 8, "validation": 4, "test": 2}
    assert [one["test"] for one in done["per_class"]] == [1, 1]
    assert done["split"]["given"] == {
        "train": "'train/'",
        "validation": "'val/'",
        "test": "'test/'",
    }
    assert done["warnings"] == []
    assert "test/test.rec" in done["bytes"]
    with (out / "test" / "test.rec").open("rb") as records:
        assert sorted(record.label for record in read_records(records)) == [0, 1]
    assert not (out / "work").exists()


def test_test_pictures_validate_where_nothing_else_does(tmp_path: Path) -> None:
    files = pictures(train=4, test=2)
    assert job(put(tmp_path / "in", files), tmp_path / "out") == 0
    assert lists(tmp_path / "out") == expected(files, train="train", validation="test")
    assert "test" not in manifest(tmp_path / "out")["counts"]


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_packing_a_split_in_shards_equals_packing_it_at_once(
    s3: Any, tmp_path: Path, shards: int
) -> None:
    for name, data in pictures(**TOPS).items():
        s3.put_object(Bucket=BUCKET, Key=f"datasets/letters/{name}", Body=data)
    source = f"s3://{BUCKET}/datasets/letters/"
    assert job(source, tmp_path / "whole") == 0
    for shard in range(shards):
        step = ["--step", "pack", "--shards", str(shards), "--shard", str(shard)]
        assert job(source, tmp_path / "parts", *step) == 0
    assert job(source, tmp_path / "parts", "--step", "join", "--shards", str(shards)) == 0
    assert digests(tmp_path / "parts") == digests(tmp_path / "whole")
    test = "test/test.rec"
    assert (tmp_path / "parts" / test).read_bytes() == (tmp_path / "whole" / test).read_bytes()


@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl"])
def test_a_list_may_have_a_split(tmp_path: Path, name: str) -> None:
    files = pictures(**TOPS)
    rows = [(f"photos/{n}.jpg", *path.split("/")[:2]) for n, path in enumerate(files)]
    bare = dict(zip((row[0] for row in rows), files.values(), strict=True))
    if name == "labels.csv":
        text = "\n".join(["path,split,label", *(",".join(row) for row in rows)])
    else:
        text = "\n".join(
            json.dumps({"source-ref": path, "split": split, "class": label})
            for path, split, label in rows
        )
    source = put(tmp_path / "in", bare | {name: text.encode()})
    assert job(source, tmp_path / "out") == 0
    assert lists(tmp_path / "out") == {
        channel: sorted(path for path, split, _ in rows if split == top)
        for channel, top in {"train": "train", "validation": "val", "test": "test"}.items()
    }
    done = manifest(tmp_path / "out")
    assert done["read_as"].startswith(f"labels of {name}; the split is the dataset's own")


def test_a_picture_that_is_trained_on_is_not_measured_with(tmp_path: Path) -> None:
    files = pictures(**TOPS)
    copies = {"val/a/copy.jpg": "train/a/0.jpg", "test/b/copy.jpg": "val/b/1.jpg"}
    files |= {copy: files[original] for copy, original in copies.items()}
    assert job(put(tmp_path / "in", files), tmp_path / "out") == 0
    done = manifest(tmp_path / "out")
    assert {one["name"]: one["same_as"] for one in done["duplicates"]} == copies
    counts = {name: done["counts"][name] for name in ("train", "validation", "test")}
    assert counts == {"train": 8, "validation": 4, "test": 2}
    assert done["warnings"] == [
        (
            "2 pictures that the dataset's split holds out are copies of pictures in another part "
            "of it: they are left out, as they would flatter the model."
        )
    ]


def test_a_class_that_is_only_held_out_is_named(tmp_path: Path, failure: Any) -> None:
    files = pictures(train=3, val=2) | {"val/c/x.jpg": jpeg(500)}
    sentence = failure(put(tmp_path / "in", files), tmp_path / "out")
    assert sentence == (
        "The class 'c' has no readable picture to train on: the dataset's split holds all of them "
        "out."
    )


def test_classes_that_differ_in_case_or_spaces_only_are_warned_of(tmp_path: Path) -> None:
    files = {
        f"{label}/{n}.jpg": jpeg(10 * place + n)
        for place, label in enumerate(("Audi S5", "audi  s5", "bmw"))
        for n in range(3)
    }
    assert job(put(tmp_path / "in", files), tmp_path / "out") == 0
    assert manifest(tmp_path / "out")["warnings"] == [
        (
            "The classes 'Audi S5' and 'audi  s5' differ in case or spaces only: if they are one "
            "class, name them alike."
        )
    ]


def test_what_looks_like_a_mistake_is_in_the_log_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = pictures(train=3, val=2) | {"train/a/.DS_Store": b"?"}
    assert job(put(tmp_path / "in", files), tmp_path / "out") == 0
    (warning,) = manifest(tmp_path / "out")["warnings"]
    assert "'train/a/.DS_Store'" in warning
    assert warning in caplog.messages
