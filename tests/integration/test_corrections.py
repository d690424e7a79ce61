"""Corrections are packed beside a dataset of any form, and have the last word on a label."""

import json
import random
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from droplens.records.recordio import read_records
from tests.support.packing import BUCKET, good, job, jpeg, manifest, put, tarred, zipped

DATASET = good("ab", 5)
NEW = jpeg(90)


def folder(root: Path) -> Path:
    return put(root / "letters", DATASET)


def archive(root: Path) -> Path:
    path = root / "letters.zip"
    path.write_bytes(zipped(DATASET))
    return path


def tarball(root: Path) -> Path:
    path = root / "letters.tar.gz"
    path.write_bytes(tarred(DATASET, "w:gz"))
    return path


def label_list(root: Path) -> Path:
    put(root / "letters", {name.replace("/", "-"): data for name, data in DATASET.items()})
    rows = [f"{name.replace('/', '-')},{name[0]}" for name in DATASET]
    (root / "letters" / "labels.csv").write_text("\n".join(["path,label", *rows]))
    return root / "letters"


def wrapped(root: Path) -> Path:
    return put(root / "letters", {f"all/{name}": data for name, data in DATASET.items()})


def ready_made_split(root: Path) -> Path:
    files = {
        f"{'val' if name.endswith('4.jpg') else 'train'}/{name}": data
        for name, data in DATASET.items()
    }
    return put(root / "letters", files)


FORMS: list[Callable[[Path], Path]] = [
    folder,
    archive,
    tarball,
    label_list,
    wrapped,
    ready_made_split,
]


def packed(
    root: Path, corrections: dict[str, bytes], form: Callable[[Path], Path] = folder, *more: str
) -> Path:
    """Pack a dataset of that form with these corrections; returns the destination."""
    place = put(root / "corrections", corrections) if corrections else root / "corrections"
    place.mkdir(exist_ok=True)
    destination = root / "packed"
    assert job(form(root), destination, "--corrections", str(place), *more) == 0
    return destination


def labels(destination: Path, channel: str) -> dict[str, int]:
    """The label of each record by the last part of its name."""
    lines = (destination / channel / f"{channel}.lst").read_text("utf-8").splitlines()
    rows = [line.split("\t") for line in lines]
    return {name: int(float(label)) for _, label, name in rows}


@pytest.mark.parametrize("form", FORMS)
def test_they_are_trained_on_beside_a_dataset_of_any_form(
    tmp_path: Path, form: Callable[[Path], Path]
) -> None:
    plain = tmp_path / "plain"
    assert job(form(tmp_path), plain) == 0
    destination = packed(tmp_path, {"b/deep/er/new.jpg": NEW}, form)
    found = manifest(destination)
    assert found["classes"] == ["a", "b"]
    assert found["counts"]["corrections"] == 1
    assert found["counts"]["train"] == manifest(plain)["counts"]["train"] + 1
    assert labels(destination, "train")["corrections/b/deep/er/new.jpg"] == 1
    # What models are measured on is the same as without them.
    assert labels(destination, "validation") == labels(plain, "validation")
    assert "corrections" not in manifest(plain)["counts"]


@pytest.mark.parametrize("form", FORMS)
def test_the_same_bytes_under_another_label_lose(
    tmp_path: Path, form: Callable[[Path], Path]
) -> None:
    wrong = {f"b/{number}.jpg": DATASET[f"a/{number}.jpg"] for number in (0, 1)}
    destination = packed(tmp_path, wrong, form)
    found = manifest(destination)
    assert (found["counts"]["overruled"], found["counts"]["conflicts"]) == (2, 0)
    assert {entry["corrected_by"] for entry in found["overruled"]} == {
        "corrections/b/0.jpg",
        "corrections/b/1.jpg",
    }
    assert all(entry["labels"] == ["a"] for entry in found["overruled"])
    assert found["per_class"][0]["train"] + found["per_class"][0]["validation"] == 3
    every = labels(destination, "train") | labels(destination, "validation")
    assert every["corrections/b/0.jpg"] == 1
    assert len(every) == 10


def test_one_that_agrees_with_the_dataset_leaves_its_copy_in_its_channel(tmp_path: Path) -> None:
    assert job(folder(tmp_path), tmp_path / "plain") == 0
    same = {f"{name[0]}/same-{name[2:]}": data for name, data in DATASET.items()}
    destination = packed(tmp_path, same)
    found = manifest(destination)
    assert (found["counts"]["duplicates"], found["counts"]["corrections"]) == (10, 0)
    for channel in ("train", "validation"):
        assert labels(destination, channel) == labels(tmp_path / "plain", channel)


def test_corrections_that_disagree_leave_the_picture_out(tmp_path: Path) -> None:
    picture = DATASET["a/0.jpg"]
    destination = packed(tmp_path, {"a/one.jpg": picture, "b/two.jpg": picture})
    found = manifest(destination)
    assert (found["counts"]["conflicts"], found["counts"]["corrections"]) == (3, 0)
    assert found["conflicts"][0]["labels"] == ["a", "b"]


def test_none_of_these_is_a_channel_of_its_own_and_overrules_the_dataset(tmp_path: Path) -> None:
    given = {"_none/cat.jpg": NEW, "_none/wrong.jpg": DATASET["a/0.jpg"]}
    destination = packed(tmp_path, given)
    found = manifest(destination)
    assert found["classes"] == ["a", "b"]
    counts = found["counts"]
    assert (counts["corrections"], counts["none"], counts["overruled"]) == (0, 2, 1)
    assert counts["train"] + counts["validation"] == 9
    # Their label is beyond those of the classes.
    assert set(labels(destination, "none").values()) == {2}
    records = list(read_records(BytesIO((destination / "none" / "none.rec").read_bytes())))
    assert [int(record.label) for record in records] == [2, 2]
    assert found["per_class"][0]["packed"] == 5


def test_a_class_of_corrections_only_is_drawn_like_the_dataset_s(tmp_path: Path) -> None:
    given = {f"c/{number}.jpg": jpeg(60 + number) for number in range(5)}
    found = manifest(packed(tmp_path, given))
    assert found["classes"] == ["a", "b", "c"]
    assert (found["per_class"][2]["train"], found["per_class"][2]["validation"]) == (4, 1)
    assert any("Only corrections have the classes 'c'" in one for one in found["warnings"])


def test_a_folder_in_the_dataset_that_is_called_none_is_a_class(tmp_path: Path) -> None:
    source = put(tmp_path / "letters", {**DATASET, "_none/0.jpg": NEW, "_none/1.jpg": jpeg(91)})
    assert job(source, tmp_path / "packed") == 0
    assert manifest(tmp_path / "packed")["classes"] == ["_none", "a", "b"]


# --- hostile and useless ones


def test_what_cannot_be_used_is_skipped_and_never_refuses_the_dataset(tmp_path: Path) -> None:
    hidden = "a\u202eb"
    bad = {f"b/torn{number}.jpg": b"torn" for number in range(50)}
    given = {
        **bad,
        "b/notes.txt": b"text",
        "b/all.zip": b"PK",
        f"{hidden}/x.jpg": NEW,
        "x" * 200 + "/" + "y" * 200 + "/x.jpg": jpeg(92),
        "beside.jpg": NEW,
        ".hidden/x.jpg": NEW,
        "b/.DS_Store": b"",
        "empty/": b"",
        "_none/torn.jpg": b"torn",
    }
    found = manifest(packed(tmp_path, given))
    assert found["counts"]["skipped"] == 54
    codes = {entry["code"] for entry in found["skipped"]}
    assert codes == {
        "correction.unreadable",
        "correction.not_a_picture",
        "correction.archive",
        "correction.label",
    }
    assert "\u202e" not in json.dumps(found, ensure_ascii=False)
    assert found["classes"] == ["a", "b", "x" * 200]


def test_a_list_that_names_others_files_reads_only_corrections(tmp_path: Path) -> None:
    """Its paths are keys below the classifier's own corrections, however they are written."""
    (tmp_path / "secret.jpg").write_bytes(NEW)
    rows = [
        {"path": path, "bytes": 10, "etag": "x"}
        for path in (
            "../secret.jpg",
            "/etc/passwd",
            "b/../../secret.jpg",
            "C:/b/x.jpg",
            "b/gone.jpg",
        )
    ]
    destination = tmp_path / "packed"
    put(destination, {"corrections.jsonl": "\n".join(map(json.dumps, rows)).encode()})
    found = manifest(packed(tmp_path, {}))
    assert "corrections" not in found["counts"]
    assert {entry["code"] for entry in found["skipped"]} == {"correction.path", "correction.gone"}


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"path": 5}', b'{"bytes": 1}'])
def test_a_damaged_list_fails_with_a_sentence(tmp_path: Path, body: bytes, capsys: Any) -> None:
    destination = tmp_path / "packed"
    put(destination, {"corrections.jsonl": body})
    place = put(tmp_path / "corrections", {"b/new.jpg": NEW})
    assert job(folder(tmp_path), destination, "--corrections", str(place)) == 1
    assert "corrections.jsonl is damaged" in capsys.readouterr().err


# --- many jobs, and S3


def test_shards_agree_on_the_list_while_people_go_on_correcting(s3: Any, tmp_path: Path) -> None:
    for name, data in DATASET.items():
        s3.put_object(Bucket=BUCKET, Key=f"datasets/letters/{name}", Body=data)

    def correct(path: str, data: bytes) -> str:
        key = f"corrections/letters/{path}"
        return str(s3.put_object(Bucket=BUCKET, Key=key, Body=data)["ETag"]).strip('"')

    def run(destination: str, *more: str) -> int:
        return job(
            f"s3://{BUCKET}/datasets/letters/",
            f"s3://{BUCKET}/{destination}",
            "--corrections",
            f"s3://{BUCKET}/corrections/letters/",
            *more,
        )

    given = {f"b/{number}.jpg": jpeg(50 + number) for number in range(6)} | {"_none/n.jpg": NEW}
    rows = [
        {"path": path, "bytes": len(data), "etag": correct(path, data)}
        for path, data in given.items()
    ]
    listed = "\n".join(map(json.dumps, rows)).encode()
    for destination in ("whole/", "shards/"):
        key = f"{destination}corrections.jsonl"
        s3.put_object(Bucket=BUCKET, Key=key, Body=listed)
    assert run("whole/") == 0
    order = list(range(3))
    random.Random(5).shuffle(order)
    for shard in order:
        assert run("shards/", "--step", "pack", "--shards", "3", "--shard", str(shard)) == 0
        correct(f"a/later-{shard}.jpg", jpeg(70 + shard))
    assert run("shards/", "--step", "join", "--shards", "3") == 0
    whole, shards = (manifest(f"s3://{BUCKET}/{name}/") for name in ("whole", "shards"))
    assert shards["counts"] == whole["counts"]
    assert shards["counts"]["corrections"] == 6
    assert shards["digest"] == whole["digest"]


def test_one_that_is_replaced_or_removed_meanwhile_is_skipped(s3: Any) -> None:
    for name, data in DATASET.items():
        s3.put_object(Bucket=BUCKET, Key=f"datasets/letters/{name}", Body=data)
    s3.put_object(Bucket=BUCKET, Key="corrections/letters/b/new.jpg", Body=NEW)
    rows = [
        {"path": "b/new.jpg", "bytes": len(NEW), "etag": "0" * 32},
        {"path": "b/gone.jpg", "bytes": len(NEW), "etag": "0" * 32},
    ]
    body = "\n".join(map(json.dumps, rows)).encode()
    s3.put_object(Bucket=BUCKET, Key="changed/corrections.jsonl", Body=body)
    code = job(
        f"s3://{BUCKET}/datasets/letters/",
        f"s3://{BUCKET}/changed/",
        "--corrections",
        f"s3://{BUCKET}/corrections/letters/",
    )
    assert code == 0
    found = manifest(f"s3://{BUCKET}/changed/")
    assert {entry["code"] for entry in found["skipped"]} == {
        "correction.changed",
        "correction.gone",
    }
