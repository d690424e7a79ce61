"""Datasets as other tools export them, by the structures that their documentation has.

Hugging Face: Datasets, "Create an image dataset". Roboflow: "Multiclass Classification CSV", as
Datumaro documents it. Label Studio: "Export annotations", formats CSV, JSON and JSON_MIN.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.packing import (
    Failure,
    Files,
    contents,
    good,
    job,
    jpeg,
    manifest,
    put,
    zipped,
)

LABELS = {"a": "cat", "b": "dog"}


def flat(first: int, each: int) -> dict[str, tuple[str, bytes]]:
    """Pictures in one folder: the label and the bytes of each, by its name there."""
    return {
        f"{label}-{n}.jpg": (LABELS[label], jpeg(first + 10 * place + n))
        for place, label in enumerate("ab")
        for n in range(each)
    }


SPLITS = {
    "train": flat(0, 5),
    "valid": flat(100, 2),
    "test": flat(200, 1),
}


def in_splits(name: str, text: Any) -> Files:
    files: Files = {}
    for split, pictures in SPLITS.items():
        files[f"{split}/{name}"] = text({path: label for path, (label, _) in pictures.items()})
        files |= {f"{split}/{path}": data for path, (_, data) in pictures.items()}
    return files


def metadata_csv(rows: dict[str, str]) -> bytes:
    return "".join(["file_name,label\n", *(f"{p},{label}\n" for p, label in rows.items())]).encode()


def metadata_jsonl(rows: dict[str, str]) -> bytes:
    lines = [json.dumps({"file_name": p, "label": label, "note": 1}) for p, label in rows.items()]
    return "\n".join(lines).encode()


def one_hot(rows: dict[str, str]) -> bytes:
    lines = [f"{p}, {int(label == 'cat')}, {int(label == 'dog')}" for p, label in rows.items()]
    return "\n".join(["filename, cat, dog", *lines]).encode()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.csv", metadata_csv),
        ("metadata.jsonl", metadata_jsonl),
        ("_classes.csv", one_hot),
    ],
)
def test_label_files_in_the_folders_of_a_split_keep_it(
    tmp_path: Path, name: str, text: Any
) -> None:
    source = put(tmp_path / "in", in_splits(name, text) | {"README.roboflow.txt": b"?"})
    assert job(source, tmp_path / "out") == 0
    done = manifest(tmp_path / "out")
    assert done["classes"] == ["cat", "dog"]
    counts = {channel: done["counts"][channel] for channel in ("train", "validation", "test")}
    assert counts == {"train": 10, "validation": 4, "test": 2}
    assert done["skipped"] == done["warnings"] == []
    assert f"train/{name}" in done["read_as"]


@pytest.mark.parametrize(
    ("name", "text"), [("metadata.csv", metadata_csv), ("metadata.jsonl", metadata_jsonl)]
)
def test_a_label_file_at_the_top_gives_what_class_folders_give(
    tmp_path: Path, name: str, text: Any
) -> None:
    pictures = flat(0, 5)
    files: Files = {name: text({path: label for path, (label, _) in pictures.items()})}
    files |= {path: data for path, (_, data) in pictures.items()}
    assert job(put(tmp_path / "in", files), tmp_path / "out") == 0
    folders = {f"{label}/{path}": data for path, (label, data) in pictures.items()}
    assert job(put(tmp_path / "folders", folders), tmp_path / "expected") == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("metadata.csv", b"file_name,text\na/0.jpg,a caption\n"),
        ("metadata.jsonl", b'{"file_name": "a/0.jpg", "text": "a caption"}'),
        ("metadata.jsonl", b"no JSON at all"),
    ],
)
def test_a_file_of_captions_leaves_the_class_folders(
    tmp_path: Path, name: str, data: bytes
) -> None:
    assert job(put(tmp_path / "in", good() | {name: data}), tmp_path / "out") == 0
    assert manifest(tmp_path / "out")["classes"] == ["a", "b"]


def test_several_classes_or_none_in_a_row_cost_the_row(tmp_path: Path) -> None:
    files = in_splits("_classes.csv", one_hot)
    files["train/_classes.csv"] += b"\nboth.jpg, 1, 1\nnone.jpg, 0, 0\nshort.jpg, 1"
    assert job(put(tmp_path / "in", files), tmp_path / "out") == 0
    assert [(one["code"], one["reason"]) for one in manifest(tmp_path / "out")["skipped"]] == [
        ("row.label", "line 12 of train/_classes.csv: it has not one label but 2: cat, dog"),
        ("row.label", "line 13 of train/_classes.csv: it has not one label but 0: none"),
        ("row.malformed", "line 14 of train/_classes.csv: it has 2 cells, expected 3"),
    ]


def test_a_label_file_in_an_archive_is_not_passed_over_in_silence(
    tmp_path: Path, failure: Failure
) -> None:
    (tmp_path / "in.zip").write_bytes(zipped(in_splits("_classes.csv", one_hot)))
    sentence = failure(tmp_path / "in.zip", tmp_path / "out")
    assert sentence.startswith("train/_classes.csv seems to label the pictures beside it")


PHOTOS = dict(flat(0, 5).items())


def studio_csv(where: str) -> bytes:
    rows = [
        f"{where}{path},{n},{label},1,{n},2026-03-09T21:52:49Z,2026-03-09T21:52:49Z,4.2"
        for n, (path, (label, _)) in enumerate(PHOTOS.items())
    ]
    head = "image,id,choice,annotator,annotation_id,created_at,updated_at,lead_time"
    return "\n".join([head, *rows]).encode()


def studio_json(where: str) -> bytes:
    def result(label: str) -> dict[str, Any]:
        value = {"choices": [label]}
        return {"from_name": "choice", "to_name": "image", "type": "choices", "value": value}

    skipped = {"was_cancelled": True, "result": [result("other")]}
    return json.dumps(
        [
            {
                "id": n,
                "data": {"image": where + path},
                "annotations": [skipped, {"was_cancelled": False, "result": [result(label)]}],
                "predictions": [{"result": [result("guess")]}],
            }
            for n, (path, (label, _)) in enumerate(PHOTOS.items())
        ],
        indent=1,
    ).encode()


def studio_json_min(where: str) -> bytes:
    return json.dumps(
        [
            {"image": where + path, "id": n, "choice": label, "annotator": 1, "lead_time": 4.2}
            for n, (path, (label, _)) in enumerate(PHOTOS.items())
        ]
    ).encode()


STUDIO = [
    ("labels.csv", studio_csv),
    ("labels.json", studio_json),
    ("labels.json", studio_json_min),
]


@pytest.mark.parametrize(("name", "make"), STUDIO)
@pytest.mark.parametrize(
    ("where", "lies"),
    [
        ("", "{}"),
        # As it was uploaded: under a name of Label Studio's, and as its owner has it.
        ("/data/upload/3/0a1b2c3d-", "upload/3/0a1b2c3d-{}"),
        ("/data/upload/3/0a1b2c3d-", "photos/{}"),
        ("/data/local-files/?d=photos/", "photos/{}"),
    ],
)
def test_label_studio_s_exports_are_read(
    tmp_path: Path, name: str, make: Any, where: str, lies: str
) -> None:
    files = {lies.format(path): data for path, (_, data) in PHOTOS.items()} | {name: make(where)}
    assert job(put(tmp_path / "in", files), tmp_path / "out") == 0
    done = manifest(tmp_path / "out")
    assert [(one["name"], one["packed"]) for one in done["per_class"]] == [("cat", 5), ("dog", 5)]
    assert done["skipped"] == []


def test_an_upload_s_name_that_two_files_have_is_nobody_s(tmp_path: Path) -> None:
    files = {f"photos/{path}": data for path, (_, data) in PHOTOS.items()}
    files |= {"more/a-0.jpg": jpeg(300), "labels.csv": studio_csv("/data/upload/3/0a1b2c3d-")}
    assert job(put(tmp_path / "in", files), tmp_path / "out") == 0
    assert [(one["name"], one["code"]) for one in manifest(tmp_path / "out")["skipped"]] == [
        ("upload/3/0a1b2c3d-a-0.jpg", "row.missing")
    ]


def test_tasks_that_give_no_single_label_are_told_by_number(tmp_path: Path) -> None:
    tasks = json.loads(studio_json(""))
    tasks += [
        {"data": {"image": "none.jpg"}, "annotations": []},
        {"image": "both.jpg", "choice": {"choices": ["cat", "dog"]}},
        {"data": {"text": "no picture"}, "annotations": []},
        "nothing",
    ]
    files = {path: data for path, (_, data) in PHOTOS.items()}
    source = put(tmp_path / "in", files | {"labels.json": json.dumps(tasks).encode()})
    assert job(source, tmp_path / "out", "--max-bad", "0.5") == 0
    assert sorted(
        (one["code"], one["reason"]) for one in manifest(tmp_path / "out")["skipped"]
    ) == [
        ("list.unlabelled", "task 11 of labels.json: nobody has labelled it"),
        ("row.label", "task 12 of labels.json: it has not one label but 2: cat, dog"),
        (
            "row.malformed",
            (
                "task 13 of labels.json: it has none of path, file, filename, file_name, image, "
                "image_path, picture, key"
            ),
        ),
        ("row.malformed", "task 14 of labels.json: it is no JSON object"),
    ]


@pytest.mark.parametrize("data", [b"no JSON", b'{"image": "a.jpg"}', b"[" * 100_000])
def test_a_document_that_is_no_list_of_tasks_ends_the_job(
    tmp_path: Path, data: bytes, failure: Failure
) -> None:
    sentence = failure(put(tmp_path / "in", good() | {"labels.json": data}), tmp_path / "out")
    assert sentence.startswith("labels.json is no")
