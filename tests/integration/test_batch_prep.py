"""The packing job from end to end: folders and archives, on disk and in a real S3 over HTTP."""

import hashlib
import json
import os
import subprocess
import sys
import tracemalloc
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from batch_prep.manifest import write
from batch_prep.shards.merge import to_json
from batch_prep.storage import s3 as s3_storage
from batch_prep.storage.locate import folder_at
from droplens.imaging.prepare import CODES
from droplens.records.digests import find, shortened
from droplens.records.recordio import read_index, read_records
from tests.support import hostile_images
from tests.support.packing import (
    BUCKET,
    CHANNEL_FILES,
    Failure,
    Files,
    digests,
    good,
    job,
    jpeg,
    manifest,
    put,
    tarred,
    zipped,
)
from tests.support.repository import ROOT


def test_a_folder_becomes_records_lists_and_a_manifest(tmp_path: Path) -> None:
    source = put(tmp_path / "in", good())
    out = tmp_path / "out"
    assert job(source, out) == 0

    done = manifest(out)
    assert done["schema"] == "droplens.dataset.v1"
    assert (done["classifier"], done["run_id"], done["source"]) == ("letters", "r1", str(source))
    assert done["classes"] == json.loads((out / "classes.json").read_text()) == ["a", "b"]
    assert done["counts"] == {
        "train": 8,
        "validation": 2,
        "skipped": 0,
        "duplicates": 0,
        "conflicts": 0,
        "near_duplicates": 0,
        "near_conflicts": 0,
        "upscaled": 0,
    }
    assert done["per_class"][0] == {
        "name": "a",
        "files": 5,
        "packed": 5,
        "train": 4,
        "validation": 1,
        "skipped": 0,
        "duplicates": 0,
    }
    assert done["preprocessing"] == {"shorter_side": 48, "crop": None, "quality": 95}
    assert done["split"] == {"validation": 0.2, "seed": 0}
    assert set(done["bytes"]) == {*CHANNEL_FILES, "classes.json"}
    for path, size in done["bytes"].items():
        data = (out / path).read_bytes()
        assert len(data) == size
        # S3 itself may have copied the records together: of them no digest is known here.
        assert done["sha256"].get(path) == (
            None if path.endswith(".rec") else hashlib.sha256(data).hexdigest()
        )
    assert not (out / "work").exists()

    names = set()
    for channel in ("train", "validation"):
        with (out / channel / f"{channel}.rec").open("rb") as file:
            records = list(read_records(file))
        index = read_index((out / channel / f"{channel}.idx").read_text())
        lines = (out / channel / f"{channel}.lst").read_text().splitlines()
        assert len(records) == len(index) == len(lines) == done["counts"][channel]
        for record, (id_, _), line in zip(records, index, lines, strict=True):
            number, label, name = line.split("\t")
            assert record.id == id_ == int(number)
            assert record.label == float(label) == "ab".index(name[0])
            with Image.open(BytesIO(record.payload)) as picture:
                assert min(picture.size) == 48
            names.add(name)
    assert names == set(good())


def test_records_are_listed_by_the_digests_of_their_files(tmp_path: Path) -> None:
    files = good()
    # Of equal files one is packed.
    source = put(tmp_path / "in", files | {"a/again.jpg": files["a/1.jpg"]})
    out = tmp_path / "out"
    assert job(source, out) == 0
    lines = (out / "digests.txt").read_bytes().splitlines()
    wanted = {shortened(hashlib.sha256(data).hexdigest()): data for data in files.values()}
    found = list(find(lines, frozenset(wanted)))
    assert len(lines) == len(found) == len(files)
    for channel in ("train", "validation"):
        rows = (out / channel / f"{channel}.lst").read_text().splitlines()
        named = {int(row.split("\t")[0]): row.split("\t")[2] for row in rows}
        listed = {one.record: wanted[one.digest] for one in found if one.channel == channel}
        assert listed.keys() == named.keys()
        for record, name in named.items():
            assert listed[record] == {**files, "a/again.jpg": files["a/1.jpg"]}[name]


def test_the_same_dataset_is_packed_alike_from_wherever_it_comes(tmp_path: Path, s3: Any) -> None:
    files = good()
    wrapped = {f"letters/{name}": data for name, data in files.items()}
    for name, data in files.items():
        s3.put_object(Bucket=BUCKET, Key=f"datasets/letters/{name}", Body=data)
    s3.put_object(Bucket=BUCKET, Key="datasets/letters/_READY", Body=b"")
    s3.put_object(Bucket=BUCKET, Key="datasets/letters.zip", Body=zipped(wrapped))
    s3.put_object(Bucket=BUCKET, Key="datasets/letters.tar.gz", Body=tarred(files, "w:gz"))
    put(tmp_path, {"letters.zip": zipped(files), "letters.tar": tarred(wrapped)})
    put(tmp_path / "letters", files)
    sources = [
        tmp_path / "letters",
        tmp_path / "letters.zip",
        tmp_path / "letters.tar",
        f"s3://{BUCKET}/datasets/letters/",
        f"s3://{BUCKET}/datasets/letters",
        f"s3://{BUCKET}/datasets/letters.zip",
        f"s3://{BUCKET}/datasets/letters.tar.gz",
    ]
    done = []
    for number, source in enumerate(sources):
        destination = f"s3://{BUCKET}/packed/letters/{number}/"
        assert job(source, destination) == 0
        done.append(manifest(destination))
    for one in done:
        assert one["digest"] == done[0]["digest"]
        assert one["counts"] == done[0]["counts"]
        assert one["classes"] == done[0]["classes"]
    packed = [digests(f"s3://{BUCKET}/packed/letters/{number}/") for number in range(len(sources))]
    wrapped_names = ("train/train.lst", "validation/validation.lst")
    for one in packed:
        for path in set(one).difference(wrapped_names):
            assert one[path] == packed[0][path]


def test_an_upload_larger_than_one_part_arrives_whole(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = 5 * 1024 * 1024
    monkeypatch.setattr(s3_storage, "_PART_BYTES", part)
    data = os.urandom(2 * part + 123)
    place = folder_at(f"s3://{BUCKET}/x/")
    with place.writer("large") as file:
        for start in range(0, len(data), 1_000_000):
            file.write(data[start : start + 1_000_000])
    assert place.read("large") == data
    with place.open("large") as stream:
        stream.seek(part - 3)
        assert stream.read(10) == data[part - 3 : part + 7]


def test_an_archive_replaced_while_it_is_read_is_noticed(
    s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_storage, "_READ_AHEAD_BYTES", 1000)
    place = folder_at(f"s3://{BUCKET}/datasets/")
    place.write("x.tar", bytes(5000))
    with place.open("x.tar") as stream:
        assert stream.read(1000) == bytes(1000)
        place.write("x.tar", b"1" * 5000)
        with pytest.raises(Exception, match=r"Could not read s3://pictures/datasets/x\.tar"):
            stream.read(1000)


def test_awkward_keys_are_packed_or_refused_with_a_reason(s3: Any, tmp_path: Path) -> None:
    keys = ["a/é 😀 100%.jpg", "a/#?&+=.jpg", "a//doubled.jpg", "b/./dotted.jpg", "b/../up.jpg"]
    files = good() | {key: jpeg(50 + number) for number, key in enumerate(keys)}
    for key, data in files.items():
        s3.put_object(Bucket=BUCKET, Key=f"datasets/letters/{key}", Body=data)
    assert job(f"s3://{BUCKET}/datasets/letters/", tmp_path) == 0
    done = manifest(tmp_path)
    assert done["counts"]["train"] + done["counts"]["validation"] == 12
    assert {entry["name"]: entry["code"] for entry in done["skipped"]} == dict.fromkeys(
        keys[2:], "file.path"
    )


def test_no_file_ends_a_dataset(tmp_path: Path) -> None:
    """Not in processes of their own either, of which a job on Linux has one for each core."""
    hostile = {
        f"b/hostile {number}": data
        for number, (_, data) in enumerate(
            (*hostile_images.troubled(), *hostile_images.certainly_hostile())
        )
    }
    costly, verdicts = {}, {}
    for name, data, verdict in hostile_images.costly():
        if len(data) < 8 * hostile_images.MIB:
            costly[f"a/{name}"], verdicts[f"a/{name}"] = data, verdict
    source = put(tmp_path / "in", good(each=20) | hostile | costly)
    options = ["--classifier", "letters", "--run-id", "r1", "--workers", "2", "--max-bad", "1"]
    places = ["--source", str(source), "--destination", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "batch_prep", *places, *options],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT}/layers/droplens"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    packed = manifest(tmp_path / "out")
    codes = {entry["name"]: entry["code"] for entry in packed["skipped"]}
    assert set(codes.values()) <= CODES
    assert not codes.keys() & good(each=20).keys()
    assert {name: codes.get(name, "picture") for name in costly} == verdicts


def test_every_skipped_file_stands_in_the_manifest_with_its_reason(tmp_path: Path) -> None:
    strip = BytesIO()
    Image.new("RGB", (2000, 3)).save(strip, "PNG")
    files = good(each=20) | {
        "a/empty.jpg": b"",
        "a/words.jpg": b"these are only words",
        "b/half.jpg": jpeg(90)[:900],
        "b/strip.png": strip.getvalue(),
        "b/notes.txt": b"not a picture at all",
        "b/.DS_Store": b"?",
        "README.md": b"?",
    }
    assert job(put(tmp_path / "in", files), tmp_path / "out") == 0
    done = manifest(tmp_path / "out")
    assert {entry["name"]: entry["code"] for entry in done["skipped"]} == {
        "a/empty.jpg": "image.empty",
        "a/words.jpg": "image.unreadable",
        "b/half.jpg": "image.unreadable",
        "b/notes.txt": "file.not_a_picture",
        "b/strip.png": "image.too_narrow",
    }
    assert all(entry["reason"] for entry in done["skipped"])
    assert done["counts"]["skipped"] == 5
    assert [one["skipped"] for one in done["per_class"]] == [2, 3]


def test_the_aspect_ratios_of_the_packed_pictures_are_told(tmp_path: Path) -> None:
    sizes = [(60, 60), (60, 120), (90, 60), (90, 60), (120, 60)]
    files = {
        f"{label}/{number}.jpg": jpeg(80 + 5 * place + number, size)
        for place, label in enumerate("ab")
        for number, size in enumerate(sizes)
    }
    assert job(put(tmp_path / "in", files), tmp_path / "out") == 0
    ratios = manifest(tmp_path / "out")["aspect_ratios"]
    assert ratios == {"p0": 0.5, "p5": 0.5, "p50": 1.5, "p95": 2.0, "p100": 2.0}


def test_duplicates_small_pictures_and_single_ones_are_told(tmp_path: Path) -> None:
    files = good() | {
        "a/copy.jpg": good()["a/0.jpg"],
        "a/both.jpg": jpeg(70),
        "b/both.jpg": jpeg(70),
        "b/small.jpg": jpeg(71, (20, 30)),
        "c/alone.jpg": jpeg(72),
    }
    assert job(put(tmp_path / "in", files), tmp_path / "out") == 0
    done = manifest(tmp_path / "out")
    (duplicate,) = done["duplicates"]
    assert set(duplicate.values()) == {"a/copy.jpg", "a/0.jpg"}
    (conflict,) = done["conflicts"]
    assert conflict.pop("labels") == ["a", "b"]
    assert set(conflict.values()) == {"a/both.jpg", "b/both.jpg"}
    assert [one["packed"] - one["train"] - one["validation"] for one in done["per_class"]] == [
        2,  # the copy, and the one in both
        1,
        0,
    ]
    assert done["counts"]["upscaled"] == 1
    assert done["warnings"] == [
        "The class 'c' has a single picture: it is trained on, but not measured."
    ]


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_a_path_out_of_an_archive_is_refused_and_written_nowhere(tmp_path: Path, kind: str) -> None:
    files = {"../evil.jpg": jpeg(80), "/tmp/evil.jpg": jpeg(81), **good()}  # noqa: S108
    data = zipped(files) if kind == "zip" else tarred(files, "w:gz" if "gz" in kind else "w")
    put(tmp_path / "in", {f"letters.{kind}": data})
    before = set(tmp_path.rglob("*"))
    assert job(tmp_path / "in" / f"letters.{kind}", tmp_path / "out") == 0
    done = manifest(tmp_path / "out")
    assert {entry["name"]: entry["code"] for entry in done["skipped"]} == {
        "../evil.jpg": "member.path",
        "/tmp/evil.jpg": "member.path",  # noqa: S108
    }
    assert done["counts"]["train"] + done["counts"]["validation"] == len(good())
    new = {path for path in set(tmp_path.rglob("*")) - before if "out" not in path.parts}
    assert not [path for path in new if "evil" in path.name]
    assert not list((tmp_path / "out").rglob("*evil*"))


@pytest.mark.parametrize("archived", [False, True])
def test_a_dataset_larger_than_allowed_fails_with_a_sentence(
    tmp_path: Path, archived: bool, failure: Failure
) -> None:
    source = put(tmp_path / "in", good() | {"notes.txt": b"not counted"})
    if archived:
        source = tmp_path / "in.zip"
        source.write_bytes(zipped(good()))
    sentence = failure(source, tmp_path / "out", "--max-pictures", str(len(good()) - 1))
    assert sentence.startswith("The dataset has more than 9 pictures")
    assert job(source, tmp_path / "enough", "--max-pictures", str(len(good()))) == 0


def test_one_class_fails_with_a_sentence(tmp_path: Path, failure: Failure) -> None:
    sentence = failure(put(tmp_path / "in", good("a")), tmp_path / "out")
    assert sentence.startswith("The dataset has one class ('a'), but a classifier needs")


@pytest.mark.parametrize(
    "empty", [{"c/": b""}, {"c/words.jpg": b"only words"}, {"c/notes.txt": b"only words"}]
)
def test_a_class_with_nothing_to_learn_from_fails_with_a_sentence(
    tmp_path: Path, empty: Files, failure: Failure
) -> None:
    sentence = failure(put(tmp_path / "in", good() | empty), tmp_path / "out")
    assert sentence.startswith("The class 'c' has no readable picture")


def test_a_folder_marker_in_s3_is_an_empty_class(s3: Any, tmp_path: Path, failure: Failure) -> None:
    for key, data in (good() | {"": b"", "c/": b""}).items():
        s3.put_object(Bucket=BUCKET, Key=f"datasets/letters/{key}", Body=data)
    sentence = failure(f"s3://{BUCKET}/datasets/letters/", tmp_path / "out")
    assert sentence == "The class 'c' has no readable picture: its folder is empty."


def test_nothing_readable_fails_with_a_sentence(tmp_path: Path, failure: Failure) -> None:
    words = {"a/1.jpg": b"words", "b/2.jpg": b"words"}
    sentence = failure(put(tmp_path / "in", words), tmp_path / "out")
    assert sentence.startswith("The dataset has no readable picture; the first of 2 skipped is")


def test_too_many_bad_pictures_fail_with_a_sentence(tmp_path: Path, failure: Failure) -> None:
    files = good() | {f"a/bad{number}.jpg": b"" for number in range(3)}
    sentence = failure(put(tmp_path / "in", files), tmp_path / "out")
    assert sentence.startswith("3 of 13 pictures (23%) cannot be used, more than the 20%")


@pytest.mark.parametrize("name", ["nowhere", "nowhere/", "nowhere.zip", "nowhere.tar.gz"])
def test_a_missing_source_fails_with_a_sentence(
    tmp_path: Path, name: str, failure: Failure
) -> None:
    sentence = failure(f"{tmp_path}/{name}", tmp_path / "out")
    assert "There is no" in sentence
    assert str(tmp_path / "nowhere") in sentence


@pytest.mark.parametrize("key", ["datasets/nowhere/", "datasets/nowhere.zip"])
def test_a_missing_source_in_s3_fails_with_a_sentence(
    s3: Any, tmp_path: Path, key: str, failure: Failure
) -> None:
    sentence = failure(f"s3://{BUCKET}/{key}", tmp_path / "out")
    assert "There is no" in sentence
    assert f"s3://{BUCKET}/{key}" in sentence


def test_trouble_with_s3_fails_with_a_sentence_and_may_be_tried_again(
    s3: Any, tmp_path: Path, failure: Failure
) -> None:
    sentence = failure("s3://no-such-bucket/datasets/x/", tmp_path / "out", exit_code=75)
    assert sentence.startswith("Could not list s3://no-such-bucket/datasets/x/")


def test_a_damaged_archive_fails_with_its_name_and_place(tmp_path: Path, failure: Failure) -> None:
    cut = tarred(good(), "w:gz")[:-5000]
    put(tmp_path / "in", {"letters.tgz": cut})
    sentence = failure(tmp_path / "in" / "letters.tgz", tmp_path / "out")
    assert sentence.startswith("The archive letters.tgz is damaged at or after b/")


def test_a_complete_destination_is_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = put(tmp_path / "in", good()), tmp_path / "out"
    assert job(source, out) == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert job(source, out, "--run-id", "r2") == 1
    assert capsys.readouterr().err.endswith("already holds a packed dataset.\n")
    # A second attempt of the run that packed it finds its work done.
    assert job(source, out) == 0
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_an_interrupted_packing_is_done_again(tmp_path: Path) -> None:
    source, out = put(tmp_path / "in", good()), tmp_path / "out"
    assert job(source, out) == 0
    (out / "dataset.json").unlink()
    (out / "train" / "train.rec").write_bytes(b"half")
    assert job(source, out) == 0
    assert job(source, tmp_path / "at once") == 0
    assert digests(out) == digests(tmp_path / "at once")


def test_the_job_runs_as_the_container_starts_it(tmp_path: Path, repo_root: Path) -> None:
    source = put(tmp_path / "in", good())
    command = [sys.executable, "-m", "batch_prep", "--source", str(source)]
    command += ["--destination", str(tmp_path / "out"), "--classifier", "x", "--run-id", "r1"]
    path = os.pathsep.join(map(str, (repo_root, repo_root / "layers" / "droplens")))
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "packing done=10 total=10" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("packed classes=2 train=8 validation=2")

    command[-1] = "r2"
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert again.stderr.splitlines()[-1].endswith("already holds a packed dataset.")


def test_photographs_are_packed_whole(photographs: Path, tmp_path: Path) -> None:
    assert job(photographs, tmp_path) == 0
    done = manifest(tmp_path)
    files = sum(1 for path in photographs.rglob("*.jpg"))
    assert done["counts"]["train"] + done["counts"]["validation"] == files
    assert done["counts"]["skipped"] == 0
    assert all(
        one["validation"] == round(0.2 * (one["validation"] + one["train"]))
        for one in done["per_class"]
    )


FORGED = 'cars\n{"level": "INFO", "message": "packed"}\n\nSign in at evil.example\x1b[2J'


@pytest.mark.parametrize("name", [FORGED, "c" * 3000, "c" * 600_000])
def test_a_class_name_forges_nothing(tmp_path: Path, failure: Failure, name: str) -> None:
    """In the last line on stderr, in failure.json and in the log the fixture finds one sentence."""
    files = {f"{name}/{number}.jpg": jpeg(number) for number in range(2)}
    (tmp_path / "cars.tgz").write_bytes(tarred(files, "w:gz"))
    sentence = failure(tmp_path / "cars.tgz", tmp_path / "out")
    assert sentence.isprintable()
    assert len(sentence) <= 2000
    assert name[:4] in sentence


def test_long_lists_go_on_in_files_beside_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "MOST_LISTED", 3)
    bad = {f"a/bad{number}.jpg": b"no picture %d" % number for number in range(5)}
    twice = {f"b/again{number}.jpg": jpeg(10 + number % 2) for number in range(4)}
    source = put(tmp_path / "in", good() | bad | twice)
    assert job(source, tmp_path / "out", "--max-bad", "0.9") == 0
    done = manifest(tmp_path / "out")
    assert done["continued"] == {"skipped": "skipped.jsonl", "duplicates": "duplicates.jsonl"}
    assert (len(done["skipped"]), done["counts"]["skipped"]) == (3, 5)
    for key, path in done["continued"].items():
        lines = (tmp_path / "out" / path).read_text().splitlines()
        entries = [json.loads(line) for line in lines]
        if key == "skipped":  # in the order of the reports
            entries.sort(key=lambda entry: entry["name"])
        assert entries[:3] == done[key]
        assert len(entries) == done["counts"][key]
    assert not list((tmp_path / "out").glob("near*"))
    assert not list((tmp_path / "out").glob("conf*"))


def test_a_manifest_of_many_bad_files_is_parsed_in_a_function(tmp_path: Path) -> None:
    """600,000 rows took 406 MB, of the 512 that start_training has."""
    row = {"name": "x" * 1024, "code": "file.not_a_picture", "reason": "y" * 500}
    lists: dict[str, Any] = dict.fromkeys(write._LISTS, [row] * 600_000)
    lists |= {"warnings": ["w" * 400] * 50_000}
    lists |= {"skipped": [row] * write.MOST_LISTED, "counts": {"skipped": 600_000}}
    shown, files = write.split(lists)
    assert {len(entries) for entries in files.values()} == {600_000}
    assert shown["continued"].keys() == {*write._LISTS, "skipped"}
    text = to_json(shown)
    tracemalloc.start()
    json.loads(text)
    assert tracemalloc.get_traced_memory()[1] < 256 * 2**20
    tracemalloc.stop()
