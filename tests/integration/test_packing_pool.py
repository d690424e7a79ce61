"""Work spread over processes: in order, and nothing that goes wrong in one is lost."""

import copy
import json
import os
import subprocess
import sys
import time
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import pytest

from batch_prep.errors import JobError, StorageError
from batch_prep.shards.pool import WorkerPool
from batch_prep.storage.s3 import S3Folder
from tests.support import needs
from tests.support.pool_work import (
    endless,
    faulty,
    greedy,
    killed,
    killed_once,
    leaving,
    squares,
    troubled,
)
from tests.support.repository import ROOT

# Forks two processes, which have been started before there is a thread, as a job does.
FORKING = """
import json, sys, time
from batch_prep.shards.pool import WorkerPool
from tests.support.pool_work import large, squares

def pids():
    with open("/proc/thread-self/children") as children:
        return [int(pid) for pid in children.read().split()]

with WorkerPool(squares if "squares" in sys.argv else large, 2, forked=True) as pool:
    pool.start()
    print(json.dumps(pids()), flush=True)
    if "squares" in sys.argv:
        print(json.dumps([list(pool.map(range(20))), list(pool.map(range(3)))]))
    elif "busy" in sys.argv:
        next(pool.map(range(1000)))
        print("waiting", flush=True)
        time.sleep(60)
    elif "idle" in sys.argv:
        print("waiting", flush=True)
        time.sleep(60)
print(json.dumps(pids()))
"""
# Is stopped while it forks, by a handler that raises as that of the job does.
STOPPED = """
import os, signal
from batch_prep.shards.pool import WorkerPool
from tests.support.pool_work import squares

def stop(*_):
    raise SystemExit(143)

signal.signal(signal.SIGTERM, stop)
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGTERM))
with WorkerPool(squares, 2, forked=True) as pool:
    pool.start()
"""
linux = needs.only_with("linux", sys.platform == "linux", "jobs fork on Linux only")


@pytest.mark.parametrize("processes", [1, 3])
def test_results_come_in_the_order_of_the_items(processes: int) -> None:
    with WorkerPool(squares, processes) as pool:
        pool.start()
        found = list(pool.map(range(20)))
    assert [square for square, _ in found] == [number * number for number in range(20)]
    pids = {pid for _, pid in found}
    assert len(pids) == processes
    assert os.getpid() not in pids


def test_the_same_processes_take_more_items_afterwards() -> None:
    with WorkerPool(squares, 2) as pool:
        pool.start()
        pool.start()
        first, second, none = (list(pool.map(range(count))) for count in (8, 3, 0))
    assert [square for square, _ in second] == [0, 1, 4]
    assert {pid for _, pid in second} == {pid for _, pid in first}
    assert none == []


def test_no_process_is_started_before_it_is_asked_for() -> None:
    with WorkerPool(squares, 2) as pool:
        assert not pool.is_started
        assert not active_children()
        pool.start()
        assert pool.is_started
        assert len(active_children()) == 2
    assert not active_children()


def test_what_goes_wrong_is_raised_here_after_what_went_well() -> None:
    with WorkerPool(troubled, 2) as pool:
        pool.start()
        results = pool.map(range(20))
        assert [next(results) for _ in range(7)] == list(range(7))
        with pytest.raises(StorageError, match=r"^s3://pictures/7.jpg could not be read.$"):
            next(results)


def test_a_fault_of_ours_is_told_as_one() -> None:
    with WorkerPool(faulty, 2) as pool:
        pool.start()
        with pytest.raises(JobError, match="Packing failed unexpectedly: ZeroDivisionError"):
            list(pool.map(range(20)))


def test_a_process_that_is_gone_is_told_of() -> None:
    with WorkerPool(killed, 2) as pool:
        pool.start()
        with pytest.raises(JobError, match=r"was killed\): .* parameter PackingMemoryMiB\.$"):
            list(pool.map(range(20)))
        with pytest.raises(JobError, match=r"PackingMemoryMiB"):
            list(pool.map(range(20)))


def test_a_process_that_ends_by_itself_is_told_of_without_a_guess() -> None:
    with WorkerPool(leaving, 1) as pool:
        pool.start()
        with pytest.raises(JobError, match=r"ended early \(exit code 3\)\.$"):
            list(pool.map(range(20)))


def test_a_process_that_is_refused_memory_names_the_parameter() -> None:
    with WorkerPool(greedy, 1) as pool:
        pool.start()
        with pytest.raises(JobError, match=r"given no more\): .* parameter PackingMemoryMiB\.$"):
            list(pool.map(range(20)))


def told(number: int, how: str) -> int:
    assert "exit code -9" in how
    return -number


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_an_item_that_ends_its_process_is_left_out_and_the_others_are_not(processes: int) -> None:
    with WorkerPool(killed, processes, fallback=told) as pool:
        pool.start()
        assert list(pool.map(range(12))) == [0, 1, 2, 3, 4, -5, 6, 7, 8, 9, 10, 11]
        assert list(pool.map([6, 5, 5, 7])) == [6, -5, -5, 7]
    assert not active_children()


def test_an_item_whose_process_was_killed_once_is_tried_again(tmp_path: Path) -> None:
    with WorkerPool(partial(killed_once, tmp_path / "killed"), 2, fallback=told) as pool:
        pool.start()
        assert list(pool.map(range(8))) == list(range(8))


def test_who_stops_asking_leaves_nobody_behind() -> None:
    with WorkerPool(endless, 2) as pool:
        pool.start()
        results = pool.map(range(4))
        assert [next(results), next(results)] == [0, 1]
    assert not active_children()


def test_a_bucket_is_opened_anew_in_another_process() -> None:
    again = copy.copy(S3Folder("pictures", "datasets/cars/"))
    assert again.url == "s3://pictures/datasets/cars/"


def forking(*words: str) -> "subprocess.Popen[str]":
    path = os.pathsep.join(map(str, (ROOT, ROOT / "layers" / "droplens")))
    return subprocess.Popen(
        [sys.executable, "-c", FORKING, *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@linux
def test_forked_processes_do_the_same() -> None:
    with forking("squares") as job:
        said, _ = job.communicate(timeout=60)
    assert job.returncode == 0
    pids, (first, second), left = map(json.loads, said.splitlines())
    assert [square for square, _ in first] == [number * number for number in range(20)]
    assert [square for square, _ in second] == [0, 1, 4]
    assert {pid for _, pid in first} == set(pids)
    assert left == []


@linux
@pytest.mark.parametrize("doing", ["idle", "busy"])
def test_forked_processes_end_with_a_job_that_is_killed(doing: str) -> None:
    with forking(doing) as job:
        assert job.stdout is not None
        pids = json.loads(job.stdout.readline())
        assert job.stdout.readline() == "waiting\n"
        assert [is_running(pid) for pid in pids] == [True, True]
        job.kill()
    end = time.monotonic() + 30
    while any(map(is_running, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(is_running, pids))


@linux
def test_a_stop_in_the_midst_of_a_fork_is_not_lost() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STOPPED],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'layers/droplens'}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (143, "")
