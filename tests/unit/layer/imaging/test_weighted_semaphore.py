"""Threads share a room of so many units, and nobody waits for ever."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from droplens.imaging.weighted_semaphore import WeightedSemaphore


def test_no_more_is_taken_than_there_is() -> None:
    room, lock = WeightedSemaphore(10), threading.Lock()
    now = most = 0

    def take(units: int) -> None:
        nonlocal now, most
        with room.held(units):
            with lock:
                now += units
                most = max(most, now)
            threading.Event().wait(0.001)
            with lock:
                now -= units

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(take, [1, 3, 5, 7, 9] * 20))
    assert now == 0
    assert most <= 10


def test_small_demands_are_met_side_by_side() -> None:
    room, together = WeightedSemaphore(3), threading.Barrier(3, timeout=30)

    def take() -> int:
        with room.held(1):
            return together.wait()

    with ThreadPoolExecutor(3) as pool:
        assert len({future.result() for future in [pool.submit(take) for _ in range(3)]}) == 3


def test_a_demand_above_all_of_it_takes_all_of_it() -> None:
    room = WeightedSemaphore(5)
    with room.held(500):
        pass
    with room.held(5):
        pass


def test_what_failed_gives_its_room_back() -> None:
    room = WeightedSemaphore(1)
    with pytest.raises(ValueError, match="no"), room.held(1):
        raise ValueError("no")
    with room.held(1):
        pass
