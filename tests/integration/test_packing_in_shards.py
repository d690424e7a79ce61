"""Shards, staged archives and the join: in any number, one after the other, the same dataset."""

import json
from pathlib import Path
from typing import Any

import pytest

from batch_prep import __main__ as job_module
from batch_prep import storage
from batch_prep.shards import spool
from batch_prep.shards.files import Shard
from batch_prep.storage import Span, folder
from tests.support.packing import (
    BUCKET,
    Failure,
    digests,
    good,
    job,
    jpeg,
    manifest,
    put,
    tarred,
    zipped,
)

FILES = good("abc", each=12) | {
    "a/copy.jpg": good("abc", each=12)["a/3.jpg"],
    "b/words.jpg": b"these are only words",
    "c/notes.txt": b"?",
}


def upload(s3: Any) -> str:
    for name, data in FILES.items():
        s3.put_object(Bucket=BUCKET, Key=f"datasets/letters/{name}", Body=data)
    return f"s3://{BUCKET}/datasets/letters/"


def comparable(url: object) -> dict[str, Any]:
    """A manifest without what is the run's own."""
    own = ("shards", "joined_seconds", "source")
    return {name: value for name, value in manifest(url).items() if name not in own}


@pytest.mark.parametrize("shards", [2, 4, 11])
def test_any_number_of_children_and_a_join_make_what_one_job_makes(
    s3: Any, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    source = upload(s3)
    alone, array = f"s3://{BUCKET}/packed/alone/", f"s3://{BUCKET}/packed/array/"
    assert job(source, alone) == 0
    for child in reversed(range(shards)):
        monkeypatch.setenv("AWS_BATCH_JOB_ARRAY_INDEX", str(child))
        assert job(source, array, "--step", "pack", "--shards", str(shards)) == 0
    monkeypatch.delenv("AWS_BATCH_JOB_ARRAY_INDEX")
    assert not folder(array).exists("dataset.json")
    assert job(source, array, "--step", "join", "--shards", str(shards)) == 0
    assert digests(array) == digests(alone)
    assert comparable(array) == comparable(alone)
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix="packed/array/work/")
    assert listed["KeyCount"] == 0


def test_several_processes_write_what_one_writes(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source = upload(s3)
    one, several = f"s3://{BUCKET}/packed/one/", f"s3://{BUCKET}/packed/several/"
    assert job(source, one, "--workers", "1") == 0
    monkeypatch.setattr(job_module, "WORTH_PROCESSES", 1)
    assert job(source, several, "--workers", "3") == 0
    assert digests(several) == digests(one)
    assert comparable(several) == comparable(one)


def test_a_join_waits_for_every_shard(tmp_path: Path, failure: Failure) -> None:
    source, out = put(tmp_path / "in", FILES), tmp_path / "out"
    assert job(source, out, "--step", "pack", "--shards", "3", "--shard", "1") == 0
    sentence = failure(source, out, "--step", "join", "--shards", "3")
    assert sentence == "Shard 0 of 3 was not packed (2 are missing)."


def test_shards_of_a_dataset_that_changed_are_not_joined(tmp_path: Path, failure: Failure) -> None:
    source, out = put(tmp_path / "in", FILES), tmp_path / "out"
    for shard in range(2):
        put(source, {f"a/late{shard}.jpg": jpeg(300 + shard)})
        assert job(source, out, "--step", "pack", "--shards", "2", "--shard", str(shard)) == 0
    sentence = failure(source, out, "--step", "join", "--shards", "2")
    assert sentence.startswith("The dataset changed while it was being packed")


def test_a_shard_that_is_complete_is_not_packed_again(tmp_path: Path) -> None:
    source, out = put(tmp_path / "in", FILES), tmp_path / "out"
    shard = ("--step", "pack", "--shards", "2", "--shard")
    assert job(source, out, *shard, "0") == 0
    piece = out / Shard(0, 2).path("train.rec")
    before = piece.stat().st_mtime_ns
    assert job(source, out, *shard, "0") == 0
    assert piece.stat().st_mtime_ns == before
    # A picture that was replaced since is another dataset's: its shard is packed anew.
    for name in FILES:
        if name.startswith("c/1"):
            put(source, {name: jpeg(400 + len(name))})
    assert job(source, out, *shard, "0") == 0
    assert job(source, out, *shard, "1") == 0
    assert job(source, out, "--step", "join", "--shards", "2") == 0
    assert job(source, tmp_path / "at once") == 0
    assert digests(out) == digests(tmp_path / "at once")


def test_more_names_than_memory_is_meant_to_hold_make_more_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = put(tmp_path / "in", FILES)
    assert job(source, tmp_path / "one") == 0
    monkeypatch.setattr(job_module, "_MOST_NAMED_AT_ONCE", 10)
    assert job(source, tmp_path / "many") == 0
    assert manifest(tmp_path / "many")["shards"] == 8
    assert digests(tmp_path / "many") == digests(tmp_path / "one")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_beyond_its_budget_of_memory_waits_in_the_destination(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(spool, "_PIECE_BYTES", 10_000)
    monkeypatch.setattr(spool, "_MOST_HELD_BYTES", 20_000)
    monkeypatch.setattr(spool.Staging.__init__, "__defaults__", (20_000,))
    written = []
    write = storage.Bucket.write

    def spy(place: storage.Bucket, path: str, data: bytes) -> None:
        written.append(path)
        write(place, path, data)

    monkeypatch.setattr(storage.Bucket, "write", spy)
    data = zipped(FILES) if kind == "zip" else tarred(FILES)
    source = put(tmp_path / "in", {f"letters.{kind}": data}) / f"letters.{kind}"
    out = f"s3://{BUCKET}/packed/{kind}/"
    assert job(source, out) == 0
    assert sum(path.startswith("work/staged/") for path in written) > 2
    assert job(put(tmp_path / "folders", FILES), tmp_path / "expected") == 0
    assert digests(out) == digests(tmp_path / "expected")
    assert s3.list_objects_v2(Bucket=BUCKET, Prefix=f"packed/{kind}/work/")["KeyCount"] == 0


def test_large_pieces_are_copied_by_s3_itself(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    smallest = 5 * 1024 * 1024
    place = folder(f"s3://{BUCKET}/x/")
    one, other = bytes([1]) * (2 * smallest + 5), bytes(range(256)) * (smallest // 128)
    place.write("one", one)
    place.write("other", other)
    through_here: list[Span] = []
    read_span = storage.Bucket.read_span

    def spy(bucket: storage.Bucket, span: Span, version: str | None = None) -> bytes:
        through_here.append(span)
        return read_span(bucket, span, version)

    monkeypatch.setattr(storage.Bucket, "read_span", spy)
    spans = [Span("one", 0, len(one)), Span("other", 0, 77), Span("other", 99, len(other))]
    place.join("joined", spans)
    assert place.read("joined") == one + other[:77] + other[99:]
    assert sum(span.length for span in through_here) == smallest


def test_a_class_keeps_its_name_when_a_retraining_moves_its_number(tmp_path: Path) -> None:
    source = put(tmp_path / "in", good("bc"))
    assert job(source, tmp_path / "first") == 0
    put(source, {f"a/{n}.jpg": jpeg(500 + n) for n in range(5)})
    assert job(source, tmp_path / "second") == 0
    first, second = (
        json.loads((tmp_path / run / "classes.json").read_text()) for run in ("first", "second")
    )
    assert (first, second) == (["b", "c"], ["a", "b", "c"])
    assert [entry["name"] for entry in manifest(tmp_path / "second")["per_class"]] == second
