"""Decode every image of a channel once, by processes on all cores, into one file of pixels.

Epochs then read pixels instead of JPEGs. The file is in the system's temporary folder, cached by
the kernel's page cache; it takes width x height x 3 bytes per image.
"""

import logging
import multiprocessing
import os
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from droplens.imaging import prepare
from droplens.inference.cores import cores
from droplens.records.recordio import Record
from trainer.data.features import Channel, DatasetError, read_channel
from trainer.data.preprocess import Resize
from trainer.supervise import end_with_parent

log = logging.getLogger(__name__)

RECORDS_PER_TASK = 32
# Tasks of encoded images in memory at a time.
WAITING_TASKS_PER_CORE = 3


def decode(channel: Channel, resize: Resize) -> NDArray[np.uint8]:
    """uint8 [records, height, width, 3] in the order of the record file, on disk.

    Raises DatasetError where a record cannot be decoded, with its id, and where the disk is full.
    """
    with tempfile.TemporaryDirectory(prefix="droplens-") as folder:
        # The mapping stays valid after the file is unlinked, so no file remains when training ends.
        return decode_into(Path(folder) / "pixels", channel, resize)


def decode_into(path: Path, channel: Channel, resize: Resize) -> NDArray[np.uint8]:
    """As `decode`, in a file of these bytes that other processes can map."""
    shape = (len(channel), resize.height, resize.width, 3)
    if not len(channel):
        return np.empty(shape, np.uint8)
    with path.open("wb") as file:
        try:
            # On a full disk, the first write to the mapping would end the process by SIGBUS.
            os.posix_fallocate(file.fileno(), 0, int(np.prod(shape)))
        except OSError as error:
            raise DatasetError(
                f"The {len(channel)} pictures of {channel.path.name} need "
                f"{np.prod(shape) / 1e9:.1f} GB in {tempfile.gettempdir()}: {error.strerror}."
            ) from None
    _fill(path, shape, channel, resize)
    return np.memmap(path, np.uint8, "r", shape=shape)


def _fill(path: Path, shape: tuple[int, int, int, int], channel: Channel, resize: Resize) -> None:
    records, name = read_channel(channel.path), channel.path.name
    if len(channel) <= RECORDS_PER_TASK:  # sooner done than a process is started
        _decode(path, shape, 0, list(records), name, resize)
        log.info("decoded channel=%s pictures=%d", channel.name, len(channel))
        return
    waiting: deque[Future[None]] = deque()
    # Spawned: a fork of a process with PyTorch's threads may hang.
    executor = ProcessPoolExecutor(
        cores(), multiprocessing.get_context("spawn"), initializer=end_with_parent
    )
    try:
        for first, task in _tasks(records):
            waiting.append(executor.submit(_decode, path, shape, first, task, name, resize))
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
    resize: Resize,
) -> None:
    pixels = np.memmap(path, np.uint8, "r+", shape=shape)
    for index, record in enumerate(records, start=first):
        try:
            pixels[index] = resize.pixels(record.payload)
        except prepare.ImageError as error:
            raise DatasetError(
                f"{name}: record {record.id} cannot be read: {error.message}."
            ) from None
