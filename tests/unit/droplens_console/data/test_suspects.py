"""Suspects are shown with their images, and decided by corrections that packing understands."""

import hashlib
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from batch_prep.storage.locate import folder_at
from droplens.domain.layout import NONE_CLASS
from droplens.domain.run import Run, RunKey
from droplens_console.data.suspects import NoSuspects, SuspectDesk
from droplens_console.data.training_images import OriginalMissing
from tests.support.deployed_stack import Deployed, deployed  # noqa: F401  a fixture
from tests.support.packing import good, job, manifest, put, tarred, zipped

RUN = RunKey("letters", "20261122-120000-1a2b3c")
CLASSIFIER, RUN_ID = RUN.classifier, RUN.run_id
FILES = good("abc")


def run_of(dataset: str = f"datasets/{CLASSIFIER}/") -> Run:
    return Run.from_record(
        {
            **RUN.as_key(),
            "status": "live",
            "dataset": {"key": dataset, "version": "v", "etag": "e"},
            "created_at": "2026-11-22T12:00:00+00:00",
            "updated_at": "2026-11-22T12:00:00+00:00",
        }
    )


def desk_of(stack: Deployed, dataset: str = f"datasets/{CLASSIFIER}/") -> SuspectDesk:
    """A desk of a console that was just started."""
    return SuspectDesk(stack.bucket, {RUN: run_of(dataset)}.__getitem__)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records of FILES, as the packing job makes them."""
    folder = tmp_path_factory.mktemp("packed")
    assert job(put(folder / "source", FILES), folder / "packed") == 0
    return folder / "packed"


@pytest.fixture
def rows(packed: Path) -> list[dict[str, Any]]:
    """Every training image of class "a", said to be more like "b"."""
    listing = folder_at(str(packed)).read("train/train.lst").decode().splitlines()
    names = {int(record): name for record, _, name in (line.split("\t") for line in listing)}
    return [
        {
            "channel": "train",
            "record": record,
            "name": name,
            "label": "a",
            "likely": "b",
            "probability": 0.1,
            "likely_probability": 0.8,
        }
        for record, name in sorted(names.items())
        if name.startswith("a/")
    ]


@pytest.fixture
def stack(deployed: Deployed, packed: Path, rows: list[dict[str, Any]]) -> Deployed:  # noqa: F811
    """The run's records and suspects, and the dataset as a folder and as archives."""
    prefix = f"packed/{CLASSIFIER}/{RUN_ID}/"
    for path in packed.rglob("*"):
        if path.is_file():
            deployed.put(f"{prefix}{path.relative_to(packed)}", path.read_bytes())
    corrected = rows[0] | {"record": 999, "name": "corrections/a/one.jpg"}
    lines = [json.dumps(row) + "\n" for row in (*rows, corrected)]
    deployed.put(f"{prefix}suspects.jsonl", "".join(lines).encode())
    for name, data in FILES.items():
        deployed.put(f"datasets/{CLASSIFIER}/{name}", data)
    deployed.put(f"datasets/{CLASSIFIER}.zip", zipped(FILES))
    deployed.put(f"datasets/{CLASSIFIER}.tgz", tarred(FILES, "w:gz"))
    return deployed


def corrections(stack: Deployed) -> dict[str, bytes]:
    """The corrections' bytes by class; at most one in each."""
    prefix = f"corrections/{CLASSIFIER}/"
    found = {
        entry.key.removeprefix(prefix).partition("/")[0]: stack.bucket.read(entry.key)[0]
        for entry in stack.bucket.entries(prefix)
    }
    assert len(found) == len(list(stack.bucket.entries(prefix)))
    return found


def test_what_no_correction_has_labelled_is_asked_about(
    stack: Deployed, rows: list[dict[str, Any]]
) -> None:
    desk = desk_of(stack)
    left, decided = desk.open(RUN)
    assert [one.record for one in left] == [row["record"] for row in rows]
    assert decided == 0
    assert (left[0].label, left[0].likely, left[0].probability) == ("a", "b", 0.1)
    assert desk.classes(RUN) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "dataset",
    [
        f"datasets/{CLASSIFIER}/",
        f"datasets/{CLASSIFIER}/labels.csv",
        f"datasets/{CLASSIFIER}.zip",
        f"datasets/{CLASSIFIER}.tgz",
    ],
)
def test_a_decision_is_a_correction_of_the_original_file(stack: Deployed, dataset: str) -> None:
    desk = desk_of(stack, dataset)
    first = desk.open(RUN)[0][0]
    desk.decide(RUN, first.record, "b")
    assert corrections(stack) == {"b": FILES[first.name]}
    left, decided = desk_of(stack, dataset).open(RUN)  # remembered by nothing but the bucket
    assert decided == 1
    assert first.record not in [one.record for one in left]
    desk.decide(RUN, first.record, NONE_CLASS)  # a later decision replaces the earlier one
    assert corrections(stack) == {NONE_CLASS: FILES[first.name]}
    desk.undo(RUN, first.record)
    assert corrections(stack) == {}
    assert desk.open(RUN)[1] == 0


def test_the_next_packing_follows_the_decisions(
    stack: Deployed, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    desk = desk_of(stack)
    kept, moved, dropped = (row["record"] for row in rows[:3])
    desk.decide(RUN, kept, "a")
    desk.decide(RUN, moved, "c")
    desk.decide(RUN, dropped, NONE_CLASS)
    corrected = tmp_path / "corrections"
    for entry in stack.bucket.entries(f"corrections/{CLASSIFIER}/"):
        name = entry.key.removeprefix(f"corrections/{CLASSIFIER}/")
        put(corrected, {name: stack.bucket.read(entry.key)[0]})
    source = put(tmp_path / "source", FILES)
    assert job(source, tmp_path / "again", "--corrections", str(corrected)) == 0
    listings = [
        folder_at(str(tmp_path / "again")).read(f"{channel}/{channel}.lst").decode()
        for channel in ("train", "validation")
    ]
    labels = [
        "abc"[int(float(line.split("\t")[1]))]
        for listing in listings
        for line in listing.splitlines()
    ]
    each = len(FILES) // 3
    assert Counter(labels) == {"a": each - 2, "b": each, "c": each + 1}
    counts = manifest(tmp_path / "again")["counts"]
    assert counts["none"] == 1
    assert counts["overruled"] == 2


def test_a_run_is_read_once_for_all_images_of_a_page(
    stack: Deployed, rows: list[dict[str, Any]]
) -> None:
    asked: list[RunKey] = []

    def read(key: RunKey) -> Run:
        asked.append(key)
        return run_of()

    desk = SuspectDesk(stack.bucket, read)
    records = [row["record"] for row in rows[:4]]
    with ThreadPoolExecutor(len(records)) as threads:
        images = list(threads.map(lambda record: desk.image(RUN, record), records))
    assert len(set(images)) == len(records)
    assert asked == [RUN]


def test_both_images_are_shown(stack: Deployed, rows: list[dict[str, Any]]) -> None:
    evaluation = {
        "classes": [{"name": "a"}, {"name": "b"}, {"name": "c"}],
        "answers": [
            {"record": 0, "truth": 1, "top": [[1, 0.6]]},
            {"record": 1, "truth": 1, "top": [[1, 0.9]]},
        ],
    }
    stack.put(f"reports/{CLASSIFIER}/{RUN_ID}/evaluation.json", json.dumps(evaluation).encode())
    desk = desk_of(stack)
    images = [desk.image(RUN, rows[0]["record"]), desk.image(RUN, rows[1]["record"])]
    images.append(desk.typical(RUN, "b"))
    assert len({hashlib.sha256(image).digest() for image in images}) == 3
    assert {Image.open(BytesIO(image)).format for image in images} == {"JPEG"}
    with pytest.raises(NoSuspects):
        desk.typical(RUN, "c")
    with pytest.raises(NoSuspects):
        desk.image(RUN, 12345)


def test_what_cannot_be_decided_says_why(stack: Deployed) -> None:
    desk = desk_of(stack)
    first = desk.open(RUN)[0][0]
    with pytest.raises(ValueError, match="no class 'z'"):
        desk.decide(RUN, first.record, "z")
    with pytest.raises(NoSuspects):
        desk.decide(RUN, 12345, "b")
    stack.s3.delete_object(Bucket=stack.bucket.name, Key=f"datasets/{CLASSIFIER}/{first.name}")
    stack.put(f"datasets/{CLASSIFIER}.zip", b"PK torn")
    stack.put(f"datasets/{CLASSIFIER}.tgz", tarred({"a/other.jpg": b"x"}, "w:gz"))
    for end in ("/", ".zip", ".tgz"):
        with pytest.raises(OriginalMissing):
            desk_of(stack, f"datasets/{CLASSIFIER}{end}").decide(RUN, first.record, "b")
    assert corrections(stack) == {}


def test_a_run_without_a_list_has_none(deployed: Deployed) -> None:  # noqa: F811
    with pytest.raises(NoSuspects, match="no list"):
        desk_of(deployed).open(RUN)


def test_a_run_whose_records_were_forgotten_has_none(stack: Deployed) -> None:
    records = f"packed/{CLASSIFIER}/{RUN_ID}/train/train.rec"
    stack.s3.delete_object(Bucket=stack.bucket.name, Key=records)
    with pytest.raises(NoSuspects, match="were removed"):
        desk_of(stack).open(RUN)
