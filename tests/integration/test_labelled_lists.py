"""Datasets that a list labels: CSV, SageMaker's JSON Lines and MXNet's .lst, on disk and in S3."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.packing import (
    BUCKET,
    Failure,
    contents,
    good,
    job,
    jpeg,
    manifest,
    put,
)

PLACE = f"s3://{BUCKET}/datasets/letters/"
LABELS = {"a": "Ram C/V Van 2012", "b": "Übergröße, 2. Klasse"}
NUMBERS = {"b": 0, "a": 1}
NAMES = f"{LABELS['b']}\n{LABELS['a']}\n".encode()
# One folder for all: here the path says nothing of the class.
PICTURES = {f"photos/{name.replace('/', '-')}": data for name, data in good().items()}


def label(path: str) -> str:
    return LABELS[path.partition("/")[2][0]]


def number(path: str) -> int:
    return NUMBERS[path.partition("/")[2][0]]


def csv_list(paths: list[str]) -> bytes:
    rows = [f'"{path}","{label(path)}",ignored' for path in paths]
    return ("\r\n".join(["image,label,note", *rows]) + "\r\n").encode("utf-8-sig")


def bare_csv(paths: list[str]) -> bytes:
    """What a spreadsheet in another language writes: semicolons and no header."""
    return "\n".join(f"{path};{label(path)}" for path in paths).encode()


def json_list(paths: list[str]) -> bytes:
    rows: list[Mapping[str, Any]] = [
        {"source-ref": PLACE + path, "class": label(path)} for path in paths
    ]
    return "\n".join(json.dumps(row) for row in rows).encode()


def ground_truth(paths: list[str]) -> bytes:
    rows: list[Mapping[str, Any]] = [
        {
            "source-ref": PLACE + path,
            "my-job": number(path),
            "my-job-metadata": {
                "confidence": 0.94,
                "job-name": "labeling-job/my-job",
                "class-name": label(path),
                "human-annotated": "yes",
                "creation-date": "2026-11-20T09:12:33.000000",
                "type": "groundtruth/image-classification",
            },
        }
        for path in paths
    ]
    return "\n".join(json.dumps(row) for row in rows).encode()


def lst_list(paths: list[str]) -> bytes:
    rows = [f"{row}\t{number(path):f}\t{path}" for row, path in enumerate(paths)]
    return ("\n".join(rows) + "\n").encode()


LISTS = {
    "labels.csv": [csv_list, bare_csv],
    "labels.jsonl": [json_list, ground_truth],
    "labels.lst": [lst_list],
}


@pytest.mark.parametrize(
    ("name", "make"), [(name, make) for name, makers in LISTS.items() for make in makers]
)
def test_every_kind_of_list_gives_what_class_folders_give(
    s3: Any, tmp_path: Path, name: str, make: Any
) -> None:
    folders = {f"{label(path).replace('/', '_')}/{path}": PICTURES[path] for path in PICTURES}
    assert job(put(tmp_path / "folders", folders), tmp_path / "expected") == 0
    for path, data in PICTURES.items():
        s3.put_object(Bucket=BUCKET, Key=f"datasets/letters/{path}", Body=data)
    s3.put_object(Bucket=BUCKET, Key="datasets/letters/classes.txt", Body=NAMES)
    s3.put_object(Bucket=BUCKET, Key=f"datasets/letters/{name}", Body=make(list(PICTURES)))

    for source in (PLACE + name, PLACE):
        destination = tmp_path / source.replace("/", "-")
        assert job(source, destination) == 0
        done = manifest(destination)
        assert done["classes"] == sorted(LABELS.values())
        assert done["skipped"] == []
        assert [
            (label.replace("/", "_"), digest) for label, digest in contents(destination)
        ] == contents(tmp_path / "expected")


def test_a_list_without_names_keeps_its_numbers(tmp_path: Path) -> None:
    source = put(tmp_path / "in", PICTURES | {"labels.lst": lst_list(list(PICTURES))})
    assert job(source / "labels.lst", tmp_path / "out") == 0
    assert manifest(tmp_path / "out")["classes"] == ["0", "1"]


def test_every_row_that_is_left_out_stands_in_the_manifest_with_its_line(
    s3: Any, tmp_path: Path
) -> None:
    paths = [f"photos/{n}.jpg" for n in range(60)]
    lines = ["path,label", *(f"{path},{'ab'[n % 2]}" for n, path in enumerate(paths))]
    lines += [
        "photos/none.jpg,a",  # line 62
        "../secret/0.jpg,a",
        "/photos/0.jpg,a",
        f"s3://{BUCKET}/datasets/secret/0.jpg,a",
        "s3://elsewhere/0.jpg,a",
        f"{PLACE}../secret/0.jpg,a",
        "photos/7.jpg",
        "photos/7.jpg,",
        "photos/1.jpg,b",  # repeats line 3
        "photos/2.jpg,b",  # contradicts line 4
        "photos/notes.txt,a",
        "",
    ]
    files = {path: jpeg(100 + n) for n, path in enumerate(paths)}
    files |= {"labels.csv": "\n".join(lines).encode(), "photos/notes.txt": b"notes"}
    for path, data in files.items():
        s3.put_object(Bucket=BUCKET, Key=f"datasets/letters/{path}", Body=data)
    s3.put_object(Bucket=BUCKET, Key="datasets/secret/0.jpg", Body=jpeg(99))

    assert job(f"{PLACE}labels.csv", tmp_path / "out") == 0
    done = manifest(tmp_path / "out")
    assert done["counts"]["train"] + done["counts"]["validation"] == 59
    told = [(entry["name"], entry["code"], entry["reason"]) for entry in done["skipped"]]
    outside = f"it lies outside the dataset. Only {PLACE} is read"
    for name, code, reason in [
        ("photos/none.jpg", "row.missing", f"line 62 of labels.csv: {PLACE} has no such file"),
        ("../secret/0.jpg", "row.path", "line 63 of labels.csv: its path leads out"),
        ("/photos/0.jpg", "row.path", "line 64 of labels.csv: its path is absolute"),
        (f"s3://{BUCKET}/datasets/secret/0.jpg", "row.elsewhere", "line 65 of labels.csv: "),
        ("s3://elsewhere/0.jpg", "row.elsewhere", f"line 66 of labels.csv: {outside}"),
        ("../secret/0.jpg", "row.path", "line 67 of labels.csv: its path leads out"),
        ("line 68 of labels.csv", "row.malformed", "line 68 of labels.csv: it has 1 cells"),
        ("photos/7.jpg", "row.label", "line 69 of labels.csv: it has no label"),
        ("photos/1.jpg", "list.repeated", "line 3 of labels.csv: line 70 repeats it"),
        ("photos/2.jpg", "row.conflict", "labels.csv gives it several labels, 'a' in line 4, 'b'"),
        ("photos/notes.txt", "file.not_a_picture", "a file ending in .txt"),
    ]:
        assert [one for one in told if one[:2] == (name, code) and one[2].startswith(reason)]
    assert len(told) == 12  # the picture under two labels, once for each


def test_a_list_that_names_mostly_missing_pictures_fails(tmp_path: Path, failure: Failure) -> None:
    rows = [*PICTURES, *(f"photos/a{n}-gone.jpg" for n in range(5))]
    source = put(tmp_path / "in", PICTURES | {"labels.csv": csv_list(rows)})
    sentence = failure(source, tmp_path / "out")
    assert sentence.startswith("5 of 15 pictures (33%) cannot be used")
    assert "line 12 of labels.csv" in sentence


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"labels.csv": b"name,size,kind\na,b,c\n"}, "Line 1 of labels.csv is neither a header"),
        ({"labels.csv": b""}, "labels.csv names no picture."),
        ({"labels.csv": b"path,label\n"}, "labels.csv names no picture."),
        ({"labels.csv": b"a,b\n\xff,b\n"}, "Line 2 of labels.csv is not UTF-8"),
        ({"labels.csv": b"x" * 2_000_000}, "Line 1 of labels.csv is longer than 1,048,576 bytes"),
        ({"labels.csv": b"", "labels.lst": b""}, "holds labels.csv and labels.lst"),
        ({"labels.lst": b"0\t0\tx", "classes.txt": b"a\n\nb\n"}, "Line 2 of classes.txt is empty"),
        ({"labels.lst": b"0\t0\tx", "synset.txt": b"a\na\n"}, "Lines 1 and 2 of synset.txt are"),
    ],
)
def test_what_is_no_list_fails_with_a_sentence(
    tmp_path: Path, failure: Failure, files: dict[str, bytes], sentence: str
) -> None:
    assert sentence in failure(put(tmp_path / "in", PICTURES | files), tmp_path / "out")


def test_a_list_that_is_not_there_fails_with_a_sentence(
    s3: Any, tmp_path: Path, failure: Failure
) -> None:
    sentence = failure(f"{PLACE}labels.csv", tmp_path / "out")
    assert sentence == f"There is no list at {PLACE}labels.csv."
