"""Tasks for the processes of the worker pool in its tests.

In a module of its own, since each process imports it: it imports hardly anything.
"""

import os
import signal
import time
from collections.abc import Generator, Sequence
from pathlib import Path

from batch_prep.errors import StorageError


def squares(numbers: Sequence[int]) -> Generator[tuple[int, int], None, None]:
    for number in numbers:
        time.sleep(0.002 * (number % 3))
        yield number * number, os.getpid()


def troubled(numbers: Sequence[int]) -> Generator[int, None, None]:
    for number in numbers:
        if number == 7:
            raise StorageError("s3://pictures/7.jpg could not be read.")
        yield number


def faulty(numbers: Sequence[int]) -> Generator[float, None, None]:
    for number in numbers:
        yield 1 / (number - 3)


def killed(numbers: Sequence[int]) -> Generator[int, None, None]:
    for number in numbers:
        if number == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        yield number


def leaving(numbers: Sequence[int]) -> Generator[int, None, None]:
    yield numbers[0]
    os._exit(3)


def greedy(numbers: Sequence[int]) -> Generator[bytes, None, None]:
    yield bytes(2**62)


def large(numbers: Sequence[int]) -> Generator[bytes, None, None]:
    for _ in numbers:
        yield bytes(1_000_000)


def endless(numbers: Sequence[int]) -> Generator[int, None, None]:
    yield numbers[0]
    while True:
        time.sleep(60)


def killed_once(mark: Path, numbers: Sequence[int]) -> Generator[int, None, None]:
    for number in numbers:
        if number == 5 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        yield number
