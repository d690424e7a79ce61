"""The scheduler finds what only some schedules bring about, and brings it about again."""

from typing import Any

import pytest

from tests.unit.layer.journey.schedules.scheduler import (
    Chooser,
    Delays,
    Drawn,
    Pausing,
    Scheduler,
    enumerated,
)


class Cell:
    """A number that is read and written by calls of their own."""

    def __init__(self) -> None:
        self.number = 0

    def read(self) -> int:
        return self.number

    def write(self, *, number: int) -> None:
        self.number = number


def counted(choose: Chooser, tasks: int = 2) -> tuple[Scheduler, Cell]:
    """So many tasks that each add one to what they have read."""
    scheduler, cell = Scheduler(choose), Cell()
    client: Any = Pausing(cell, scheduler, "cell")

    def add() -> None:
        client.write(number=client.read() + 1)

    for number in range(tasks):
        scheduler.spawn(f"task {number}", add)
    scheduler.run()
    return scheduler, cell


def test_without_a_delay_tasks_run_one_after_the_other() -> None:
    scheduler, cell = counted(Delays({}), tasks=3)
    assert cell.number == 3
    assert scheduler.trace == [
        f"task {number}: cell.{call}" for number in range(3) for call in ("read", "write")
    ]


def test_one_delay_finds_a_lost_update_and_its_schedule_repeats_it() -> None:
    cells: list[Cell] = []

    def run(choose: Chooser) -> Scheduler:
        scheduler, cell = counted(choose)
        cells.append(cell)
        return scheduler

    found = [dict(delays) for delays, _ in enumerated(run, 1) if cells[-1].number == 1]
    assert found
    for delays in found:
        first, second = counted(Delays(delays)), counted(Delays(delays))
        assert first[1].number == 1
        assert first[0].trace == second[0].trace


def test_no_schedule_is_enumerated_twice() -> None:
    traces = []

    def run(choose: Chooser) -> Scheduler:
        scheduler, _ = counted(choose)
        traces.append(tuple(scheduler.trace))
        return scheduler

    seen = [tuple(sorted(delays.items())) for delays, _ in enumerated(run, 3)]
    assert len(seen) == len(set(seen))
    # Two reads and two writes, each task's in their order.
    assert len(set(traces)) == 6


def test_a_seed_draws_the_same_schedule_again() -> None:
    traces = [counted(Drawn(seed, share=0.5), tasks=4)[0].trace for seed in (1, 1, 2)]
    assert traces[0] == traces[1]
    assert traces[0] != traces[2]


def test_what_a_task_begins_is_run_too_and_what_one_raises_is_kept() -> None:
    scheduler, done = Scheduler(Delays({})), []

    def first() -> None:
        scheduler.spawn("second", lambda: done.append("second"))
        raise ValueError("on purpose")

    scheduler.spawn("first", first)
    scheduler.run()
    assert done == ["second"]
    [(name, error)] = scheduler.errors
    assert name == "first"
    assert isinstance(error, ValueError)


def test_whoever_is_no_task_is_not_interrupted() -> None:
    scheduler = Scheduler(lambda *_: pytest.fail("there is nothing to choose"))
    assert Pausing(Cell(), scheduler, "cell").read() == 0
