"""Stanford Cars in the layout in which it was published, its .mat files written by SciPy."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from tests.support.packing import (
    BUCKET,
    Failure,
    Files,
    contents,
    job,
    jpeg,
    manifest,
    put,
    tarred,
)

# As published: in the order of the class numbers, which is not that of the alphabet everywhere.
NAMES = ["AM General Hummer SUV 2000", "Ram C/V Cargo Van Minivan 2012", "Acura RL Sedan 2012"]
BOX = {"bbox_x1": 3, "bbox_y1": 4, "bbox_x2": 60, "bbox_y2": 50}
Rows = list[dict[str, Any]]


def mat(**variables: Any) -> bytes:
    """MATLAB's default: compressed, struct and cell arrays with one row."""
    data = BytesIO()
    savemat(data, variables, do_compression=True)
    return data.getvalue()


def structs(rows: Rows) -> np.ndarray:
    fields = list(rows[0])
    array = np.empty((1, len(rows)), dtype=[(field, object) for field in fields])
    for place, row in enumerate(rows):
        for field in fields:
            array[0, place][field] = row[field]
    return array


def cell(names: list[str]) -> np.ndarray:
    array = np.empty((1, len(names)), dtype=object)
    array[0, :] = names
    return array


def label(number: int) -> int:
    return number % 3 + 1


def combined_rows(count: int = 18) -> Rows:
    return [
        {
            "relative_im_path": f"car_ims/{number + 1:06d}.jpg",
            **BOX,
            "class": label(number),
            "test": int(number >= 12),
        }
        for number in range(count)
    ]


def combined(rows: Rows | None = None) -> Files:
    """car_ims.tgz and cars_annos.mat: all pictures in one."""
    pictures = {f"car_ims/{number + 1:06d}.jpg": jpeg(200 + number) for number in range(18)}
    annotations = structs(rows or combined_rows())
    return {
        "car_ims.tgz": tarred(pictures, "w:gz"),
        "cars_annos.mat": mat(annotations=annotations, class_names=cell(NAMES)),
    }


def devkit_rows(numbers: range) -> Rows:
    return [
        {**BOX, "class": label(number), "fname": f"{place + 1:05d}.jpg"}
        for place, number in enumerate(numbers)
    ]


def devkit() -> Files:
    """The same pictures in two archives, numbered anew, and the devkit's files."""
    train = {f"cars_train/{n + 1:05d}.jpg": jpeg(200 + n) for n in range(12)}
    test = {f"cars_test/{n - 11:05d}.jpg": jpeg(200 + n) for n in range(12, 18)}
    unlabelled = [{**BOX, "fname": f"{n + 1:05d}.jpg"} for n in range(6)]
    return {
        "cars_train.tgz": tarred(train, "w:gz"),
        "cars_test.tgz": tarred(test, "w:gz"),
        "devkit/README.txt": b"This file gives documentation for the cars 196 dataset.",
        "devkit/cars_meta.mat": mat(class_names=cell(NAMES)),
        "devkit/cars_train_annos.mat": mat(annotations=structs(devkit_rows(range(12)))),
        "devkit/cars_test_annos.mat": mat(annotations=structs(unlabelled)),
        "cars_test_annos_withlabels.mat": mat(annotations=structs(devkit_rows(range(12, 18)))),
    }


def as_archive(files: Files) -> Files:
    kit = {name: data for name, data in files.items() if name.startswith("devkit/")}
    rest = {name: data for name, data in files.items() if name not in kit}
    return {**rest, "car_devkit.tgz": tarred(kit, "w:gz")}


def loose(files: Files) -> Files:
    return {name.removeprefix("devkit/"): data for name, data in files.items()}


def counted(done: dict[str, Any]) -> dict[str, int]:
    return {one["name"]: one["train"] + one["validation"] for one in done["per_class"]}


@pytest.fixture
def expected(tmp_path: Path) -> list[tuple[str, str]]:
    """What class folders with the same pictures become: each picture and its class."""
    files = {f"{label(n)}/{n}.jpg": jpeg(200 + n) for n in range(18)}
    order = {"1": "a", "2": "c", "3": "b"}  # in the order of the names
    named = {f"{order[name[0]]}{name[1:]}": data for name, data in files.items()}
    assert job(put(tmp_path / "folders", named), tmp_path / "expected") == 0
    in_order = dict(zip("abc", sorted(NAMES), strict=True))
    return [(in_order[name], digest) for name, digest in contents(tmp_path / "expected")]


@pytest.mark.parametrize(
    "files",
    [
        combined(),
        as_archive(devkit()),
        loose(devkit()),
        {**as_archive(devkit()), **combined()},
    ],
    ids=["combined", "devkit", "loose", "all that was published"],
)
def test_every_published_form_has_the_right_labels_by_name(
    s3: Any, tmp_path: Path, expected: list[tuple[str, str]], files: Files
) -> None:
    for name, data in {**files, "_READY": b""}.items():
        s3.put_object(Bucket=BUCKET, Key=f"datasets/cars/{name}", Body=data)
    assert job(f"s3://{BUCKET}/datasets/cars/", tmp_path / "out") == 0
    done = manifest(tmp_path / "out")
    assert done["classes"] == sorted(NAMES)
    assert counted(done) == dict.fromkeys(sorted(NAMES), 6)
    assert done["skipped"] == []
    assert contents(tmp_path / "out") == expected


def test_test_pictures_without_labels_are_left_out_and_told(tmp_path: Path) -> None:
    files = as_archive(devkit())
    del files["cars_test_annos_withlabels.mat"]
    assert job(put(tmp_path / "in", files), tmp_path / "out") == 0
    done = manifest(tmp_path / "out")
    assert counted(done) == dict.fromkeys(sorted(NAMES), 4)
    assert [(entry["name"], entry["code"]) for entry in done["skipped"]] == [
        ("cars_test.tgz", "list.unlabelled")
    ]


def test_what_archive_and_annotations_disagree_on_is_told(tmp_path: Path) -> None:
    rows = combined_rows(19)  # the last picture is not there
    rows[3]["relative_im_path"] = "car_ims/../../000004.jpg"
    rows[4]["class"] = 4
    rows[5]["class"] = 0
    assert job(put(tmp_path / "in", combined(rows)), tmp_path / "out", "--max-bad", "0.3") == 0
    done = manifest(tmp_path / "out")
    assert sum(counted(done).values()) == 15
    where = " of cars_annos.mat: "
    unnamed = "cars_annos.mat does not name it"
    told = [(entry["code"], entry["reason"]) for entry in done["skipped"]]
    assert sorted(told) == [
        ("list.unnamed", unnamed),
        ("list.unnamed", unnamed),
        ("list.unnamed", unnamed),
        ("row.label", f"annotation 5{where}its class is none of the 3 that have names"),
        ("row.label", f"annotation 6{where}its class is none of the 3 that have names"),
        ("row.missing", f"annotation 19{where}car_ims.tgz holds no such file"),
        ("row.path", f"annotation 4{where}its path leads out of the dataset by '..'"),
    ]


def test_bad_pictures_in_the_archive_keep_their_class(tmp_path: Path) -> None:
    pictures = {f"car_ims/{n + 1:06d}.jpg": jpeg(200 + n) for n in range(18)}
    pictures["car_ims/000001.jpg"] = jpeg(200)[:700]
    files = {**combined(), "car_ims.tgz": tarred(pictures, "w:gz")}
    assert job(put(tmp_path / "in", files), tmp_path / "out") == 0
    [entry] = manifest(tmp_path / "out")["skipped"]
    assert (entry["name"], entry["code"]) == ("car_ims/000001.jpg", "image.unreadable")
    skipped = {one["name"]: one["skipped"] for one in manifest(tmp_path / "out")["per_class"]}
    assert skipped == {NAMES[0]: 1, NAMES[1]: 0, NAMES[2]: 0}


@pytest.mark.parametrize(
    ("without", "given", "sentence"),
    [
        ("cars_annos.mat", {}, "holds Stanford Cars' pictures, but not cars_annos.mat, which"),
        ("", {"cars_annos.mat": b"words"}, "cars_annos.mat cannot be read: it is no MATLAB file"),
        ("", {"cars_annos.mat": mat(other=1)}, "cars_annos.mat has no array 'class_names'."),
        (
            "",
            {"cars_annos.mat": mat(class_names=cell(NAMES))},
            "cars_annos.mat has no array 'annotations'.",
        ),
        ("", {"car_ims.tgz": combined()["car_ims.tgz"][:-900]}, "The archive car_ims.tgz is dam"),
    ],
)
def test_labels_that_cannot_be_had_fail_with_a_sentence(
    tmp_path: Path, failure: Failure, without: str, given: Files, sentence: str
) -> None:
    files = {name: data for name, data in combined().items() if name != without} | given
    assert sentence in failure(put(tmp_path / "in", files), tmp_path / "out")


def test_a_devkit_that_is_missing_is_asked_for(tmp_path: Path, failure: Failure) -> None:
    files = {"cars_train.tgz": devkit()["cars_train.tgz"]}
    sentence = failure(put(tmp_path / "in", files), tmp_path / "out")
    assert sentence.endswith("not cars_meta.mat, which labels them, nor car_devkit.tgz with it.")
