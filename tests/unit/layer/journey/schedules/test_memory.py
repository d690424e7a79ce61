"""What the schedules run on does what moto does, call by call."""

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from droplens.aws.s3 import Bucket
from droplens.domain.errors import ObjectMissing
from droplens.domain.run import RunKey, Stage, Status
from droplens.domain.stored_object import ListedObject
from droplens.state.runs import Runs
from tests.support.aws_account import BUCKET, Cloud
from tests.unit.layer.journey.schedules.memory import STORED_AT, MemoryS3, MemoryTable

KEYS = ["a/1", "a/1b", "a/2", "b/é", "b/z"]
KNOWN = [RunKey(classifier, run_id) for classifier in ("cars", "birds") for run_id in ("1", "2")]


def said(call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except ObjectMissing as missing:
        return str(missing)


def undated(listed: Iterable[ListedObject | str]) -> list[ListedObject | str]:
    """As stored at the same time: the bucket in memory has no clock."""
    return [one if isinstance(one, str) else replace(one, stored_at=STORED_AT) for one in listed]


@pytest.mark.parametrize("seed", range(3))
def test_a_bucket_in_memory_answers_as_moto_s_does(cloud: Cloud, seed: int) -> None:
    draw = random.Random(seed)
    memory: Any = MemoryS3()
    buckets = [cloud.bucket, Bucket(memory, BUCKET)]
    etags = [None, "0" * 32]

    def seen(bucket: Bucket, step: str, key: str, body: bytes, etag: str | None) -> Any:
        if step == "write":
            return bucket.write_json(key, body, replacing=etag, metadata={"by": key[0]})
        if step == "read":
            found, info = bucket.read(key)
            return found, info.etag, info.bytes, info.metadata
        if step == "changed":
            read = bucket.read_if_changed(key, etag or "none")
            return read and read[0]
        if step == "range":
            return bucket.read_range(key, 1, 3)
        if step == "head":
            return bucket.head(key).etag
        if step == "delete":
            bucket.client.delete_object(Bucket=BUCKET, Key=key)
            return None
        return undated(one for prefix in ("", "a/", "b/") for one in bucket.entries(prefix, key))

    for _ in range(120):
        step = draw.choice(["write", "write", "read", "changed", "range", "head", "delete", "list"])
        key, body, etag = draw.choice(KEYS), b"%d!" % draw.randrange(3), draw.choice(etags)
        first, second = (said(seen, bucket, step, key, body, etag) for bucket in buckets)
        assert first == second, (step, key, etag)
        if step == "head":
            etags = [*etags[:2], *etags[2:][-2:], first]


def test_folders_in_memory_are_listed_as_moto_lists_them(cloud: Cloud) -> None:
    # Nothing is deleted here: moto goes on listing the folders of deleted objects, S3 does not.
    memory: Any = MemoryS3()
    buckets = [cloud.bucket, Bucket(memory, BUCKET)]
    for bucket in buckets:
        for key in [*KEYS, "a/deep/er/1", "top"]:
            bucket.write_json(key, b"{}")
    first, second = (
        [
            undated(bucket.level(prefix, after))
            for prefix in ("", "a/", "b/")
            for after in ("", "a/2")
        ]
        for bucket in buckets
    )
    assert first == second
    assert "a" in first[0]


def remade(runs: Runs, key: RunKey) -> None:
    found = runs.get(key)
    if found and "endpoint" in found.record:
        runs.make_again(found, "third")


@pytest.mark.parametrize("seed", range(4))
def test_a_table_in_memory_answers_as_moto_s_does(cloud: Cloud, seed: int) -> None:
    draw = random.Random(seed)
    memory: Any = MemoryTable()
    tables = [cloud.table, memory]
    steps: list[Callable[[Runs, RunKey], Any]] = [
        lambda runs, key: runs.open(key, {"version": key.run_id}),
        lambda runs, key: runs.claim(key, Stage.TRAIN),
        lambda runs, key: runs.claim(key, Stage.PROMOTE, endpoint="first"),
        lambda runs, key: runs.claim(key, Stage.TRAIN, resuming=True),
        lambda runs, key: runs.finish(key, Stage.TRAIN, accuracy=0.25),
        lambda runs, key: runs.release(key, Stage.PROMOTE),
        lambda runs, key: runs.note(key, endpoint="another", parts=[1, {"two": 2.5}]),
        lambda runs, key: runs.wait(key),
        lambda runs, key: runs.end(key, Status.LIVE, generation=1),
        lambda runs, key: runs.end(key, Status.FAILED, error={"stage": "train"}),
        lambda runs, key: runs.hold(key, Stage.TRAIN, {"stage": "train"}, ("endpoint", "first")),
        lambda runs, key: runs.revive(key, {"stage": "train", "next_try": 5}),
        lambda runs, key: runs.to_be_removed(key, "first"),
        lambda runs, key: runs.is_removed(key, "first"),
        lambda runs, key: runs.needs_none(key),
        lambda runs, key: (found := runs.get(key)) and runs.replace(found, by="2"),
        lambda runs, key: (found := runs.get(key)) and runs.retire(found),
        lambda runs, key: runs.restore(key, "2", 3),
        lambda runs, key: runs.restored(key, Status.REPLACED),
        remade,
        lambda runs, key: runs.newest(key.classifier),
        lambda runs, _: sorted(map(str, runs.needing_attention())),
        lambda runs, key: runs.of(key.classifier),
    ]
    for key in KNOWN:
        for table in tables:
            Runs(table, owner="o", clock=cloud.clock).open(key, {"version": "v"})
    for _ in range(150):
        key, owner = draw.choice(KNOWN), draw.choice(["one", "two"])
        number = draw.randrange(len(steps))
        cloud.clock.turn(draw.choice([1, 1000]))
        first, second = (
            steps[number](Runs(table, owner=owner, clock=cloud.clock), key) for table in tables
        )
        assert first == second, number
        assert cloud.runs().get(key) == Runs(memory, owner="o").get(key), number
