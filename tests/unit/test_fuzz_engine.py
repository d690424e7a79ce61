"""The fuzzer finds what it is there for, and names it so that it can be had again."""

import os
import random
import signal
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from tests.fuzz import engine
from tests.fuzz.engine import Finding, Target, all_targets, cases, fuzz, mutant, report, run


def target(read: Callable[[bytes], object]) -> Target:
    return Target("made", lambda: {"seed": b"0123456789" * 20}, read, (ValueError,), 0.2, 2**28)


def refuses(_: bytes) -> None:
    raise ValueError("not this one")


def crashes(_: bytes) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def loops(_: bytes) -> None:
    while True:
        pass


def is_slow(_: bytes) -> None:
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass


def hoards(_: bytes) -> None:
    assert bytearray(2**29)


def raises(_: bytes) -> None:
    raise KeyError("two\nlines")


@pytest.mark.parametrize(
    ("read", "problem"),
    [
        (crashes, "killed by SIGSEGV"),
        (loops, "endless"),
        (is_slow, "s of CPU"),
        (hoards, "MemoryError"),
        (raises, "KeyError: 'two\\nlines'"),
    ],
)
def test_what_an_input_does_is_found(
    read: Callable[[bytes], object], problem: str, tmp_path: Path
) -> None:
    def only_at_three(data: bytes) -> None:
        if data == b"3":
            read(data)
        refuses(data)

    begun, find = run(target(only_at_three), [b"1", b"2", b"3", b"4"])
    assert begun == 3
    assert find is not None
    assert find.data == b"3"
    assert problem in find.problem
    told = report(find, tmp_path)
    (kept,) = tmp_path.iterdir()
    assert kept.read_bytes() == b"3"
    assert f"--target made --replay {kept}" in told


def test_what_is_allowed_is_no_find() -> None:
    assert run(target(refuses), [b"1", b"2"]) == (2, None)
    done, finds = fuzz(target(refuses), 0.2)
    assert done > 0
    assert finds == []


def test_finds_are_collected_up_to_ten() -> None:
    finds = fuzz(target(crashes), 60)[1]
    assert len(finds) == 10


def test_case_n_is_the_same_everywhere() -> None:
    """Another order of hashes, and what ran before, change nothing."""
    made = target(refuses)
    first = list(islice(cases(made), 50))
    assert list(islice(cases(made, start=20), 30)) == first[20:]
    assert len(set(first)) > 40
    assert mutant(random.Random("made/0"), [b"0123456789" * 20]) == first[0]


def test_every_target_bears_its_own_seeds_and_has_some() -> None:
    targets = all_targets()
    assert {"zip", "tar", "labels-csv", "mat", "recordio", "http"} <= targets.keys()
    for one in targets.values():
        seeds = one.seeds()
        assert seeds
        assert seeds == one.seeds()
        begun, find = run(one, [*seeds.values(), *engine.corpus(one)])
        assert find is None, find
        assert begun >= len(seeds)


def test_the_corpus_is_of_targets_that_there_are() -> None:
    folders = {path.name for path in engine.CORPUS.iterdir() if path.is_dir()}
    assert folders <= all_targets().keys()


def test_a_find_is_kept_under_its_content(tmp_path: Path) -> None:
    paths = {Finding("zip", "x", data).save(tmp_path) for data in (b"a", b"b", b"a")}
    assert len(paths) == 2
