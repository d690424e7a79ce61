"""Every picture of a channel decoded once, by processes on all cores, into one file of pixels.

An epoch then reads pixels, never JPEGs. The file lies in the system's temporary folder and is held
by the machine's page cache; it needs width x height x 3 bytes a picture.
"""

import logging
import multiprocessing
import os
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from droplens.imaging import prepare
from droplens.records.recordio import Record
from trainer.cpu import cores
from trainer.data.features import Channel, DatasetError, read_channel
from trainer.data.preprocess import Squash

log = logging.getLogger(__name__)

RECORDS_PER_TASK = 32
# Encoded pictures in memory at a time, in tasks.
WAITING_TASKS_PER_CORE = 3


def decode(channel: Channel, squash: Squash) -> NDArray[np.uint8]:
    """uint8 [records, height, width, 3] in the order of the record file, on disk.

    Raises DatasetError, naming the record, where one cannot be read, and where the disk is full.
    """
    shape = (len(channel), squash.height, squash.width, 3)
    if not len(channel):
        return np.empty(shape, np.uint8)
    with tempfile.TemporaryDirectory(prefix="droplens-") as folder:
        path = Path(folder) / "pixels"
        with path.open("wb") as file:
            try:
                # A full disk would otherwise end the process at its first write into the mapping.
                os.posix_fallocate(file.fileno(), 0, int(np.prod(shape)))
            except OSError as error:
                raise DatasetError(
                    f"The {len(channel)} pictures of {channel.path.name} need "
                    f"{np.prod(shape) / 1e9:.1f} GB in {tempfile.gettempdir()}: {error.strerror}."
                ) from None
        _fill(path, shape, channel, squash)
        # The mapping outlives the file's name: nothing is left behind, however training ends.
        return np.memmap(path, np.uint8, "r", shape=shape)


def _fill(path: Path, shape: tuple[int, int, int, int], channel: Channel, squash: Squash) -> None:
    records, name = read_channel(channel.path), channel.path.name
    waiting: deque[Future[None]] = deque()
    # Started anew rather than forked: a copy of a process with PyTorch's threads may hang.
    executor = ProcessPoolExecutor(
        cores(), multiprocessing.get_context("spawn"), initializer=_end_with_parent
    )
    try:
        for first, task in _tasks(records):
            waiting.append(executor.submit(_decode, path, shape, first, task, name, squash))
            if len(waiting) >= cores() * WAITING_TASKS_PER_CORE:
                waiting.popleft().result()
        while waiting:
            waiting.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)
    log.info("decoded channel=%s pictures=%d", channel.name, len(channel))


def _tasks(records: Iterator[Record]) -> Iterator[tuple[int, list[Record]]]:
    first = 0
    while task := list(islice(records, RECORDS_PER_TASK)):
        yield first, task
        first += len(task)


def _decode(
    path: Path,
    shape: tuple[int, int, int, int],
    first: int,
    records: list[Record],
    name: str,
    squash: Squash,
) -> None:
    pixels = np.memmap(path, np.uint8, "r+", shape=shape)
    for index, record in enumerate(records, start=first):
        try:
            pixels[index] = squash.pixels(record.payload)
        except prepare.ImageError as error:
            raise DatasetError(
                f"{name}: record {record.id} cannot be read: {error.message}."
            ) from None


def _end_with_parent() -> None:
    """A worker waits for work for ever; where its parent was killed, none will come."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
