"""Work spread over processes: in order, and nothing that goes wrong in one is lost."""

import copy
import os
import signal
import time
from collections.abc import Generator, Sequence
from multiprocessing import active_children

import pytest

from batch_prep.errors import JobError, StorageTrouble
from batch_prep.processes import spread
from batch_prep.storage import Bucket


def squares(numbers: Sequence[int]) -> Generator[tuple[int, int], None, None]:
    for number in numbers:
        time.sleep(0.002 * (number % 3))
        yield number * number, os.getpid()


def troubled(numbers: Sequence[int]) -> Generator[int, None, None]:
    for number in numbers:
        if number == 7:
            raise StorageTrouble("s3://pictures/7.jpg could not be read.")
        yield number


def faulty(numbers: Sequence[int]) -> Generator[float, None, None]:
    for number in numbers:
        yield 1 / (number - 3)


def killed(numbers: Sequence[int]) -> Generator[int, None, None]:
    for number in numbers:
        if number == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        yield number


def endless(numbers: Sequence[int]) -> Generator[int, None, None]:
    yield numbers[0]
    while True:
        time.sleep(60)


@pytest.mark.parametrize("processes", [1, 3])
def test_results_come_in_the_order_of_the_items(processes: int) -> None:
    found = list(spread(squares, range(20), processes))
    assert [square for square, _ in found] == [number * number for number in range(20)]
    assert len({pid for _, pid in found}) == processes
    assert found[0][1] == os.getpid()


def test_what_goes_wrong_is_raised_here_after_what_went_well() -> None:
    results = spread(troubled, range(20), 2)
    assert [next(results) for _ in range(7)] == list(range(7))
    with pytest.raises(StorageTrouble, match=r"^s3://pictures/7.jpg could not be read.$"):
        next(results)


def test_what_goes_wrong_in_this_process_is_raised_as_it_is() -> None:
    results = spread(troubled, [1, 2, 7, 3], 2)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(StorageTrouble):
        next(results)
    assert not active_children()


def test_a_fault_of_ours_is_told_as_one() -> None:
    with pytest.raises(JobError, match="Packing failed unexpectedly: ZeroDivisionError"):
        list(spread(faulty, range(20), 2))


def test_a_process_that_is_gone_is_told_of() -> None:
    with pytest.raises(JobError, match=r"ended early \(exit code -9\); it may have run out"):
        list(spread(killed, range(20), 2))


def test_who_stops_asking_leaves_nobody_behind() -> None:
    results = spread(endless, range(4), 2)
    assert [next(results), next(results)] == [0, 1]
    results.close()
    assert not active_children()


def test_a_bucket_is_opened_anew_in_another_process() -> None:
    again = copy.copy(Bucket("pictures", "datasets/cars/"))
    assert again.url == "s3://pictures/datasets/cars/"
