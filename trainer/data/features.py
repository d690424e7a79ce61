"""Extract features of a channel's records by the frozen backbone, in bounded memory."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from droplens.imaging import prepare
from droplens.inference.cores import cores
from droplens.records.recordio import Record, RecordIOError, read_records
from trainer.data.preprocess import Resize

log = logging.getLogger(__name__)

# The backbone's output.
OUTPUT = "features"
# Pixels of one pass's input; the activations take about 150 times as many bytes.
MAX_PIXELS_PER_PASS = 2**20
WAITING_PASSES_PER_CORE = 2
SECONDS_BETWEEN_PROGRESS = 2.0


class DatasetError(ValueError):
    """A channel's content is damaged or contradicts the hyperparameters."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel's record file with its labels.

    labels: int64 [records], class numbers.
    chosen: int64 [records], ascending, the records' numbers in the file where the channel is a part
    of it; None where it is all of it.
    """

    name: str
    path: Path
    labels: NDArray[np.int64]
    chosen: NDArray[np.int64] | None = None

    @classmethod
    def open(cls, name: str, folder: Path, classes: int) -> "Channel":
        """Read the header of every record. Raises DatasetError for a label that is no class."""
        path = _record_file(name, folder)
        labels = []
        for record in read_channel(path):
            if not (record.label.is_integer() and 0 <= record.label < classes):
                raise DatasetError(
                    f"{path.name}: record {record.id} has the label {record.label:g}, expected a "
                    f"whole number from 0 to {classes - 1}."
                )
            labels.append(int(record.label))
        return cls(name, path, np.array(labels, np.int64))

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, chosen: NDArray[np.int64]) -> "Channel":
        """The records of these numbers, ascending, of a channel that is all of its file."""
        return replace(self, labels=self.labels[chosen], chosen=chosen)

    def records(self) -> Iterator[Record]:
        """The records in order. Raises DatasetError where the file is damaged."""
        if self.chosen is None:
            return read_channel(self.path)
        numbers = set(self.chosen.tolist())
        return (
            record for number, record in enumerate(read_channel(self.path)) if number in numbers
        )


def _record_file(name: str, folder: Path) -> Path:
    found = sorted(folder.glob("*.rec"))
    if len(found) != 1:
        raise DatasetError(
            f"Channel {name} must hold one .rec file, found {len(found)} in {folder}."
        )
    return found[0]


def read_channel(path: Path) -> Iterator[Record]:
    """The records of a file in order. Raises DatasetError where it is damaged."""
    with path.open("rb") as stream:
        try:
            yield from read_records(stream)
        except RecordIOError as error:
            raise DatasetError(f"{path.name}: {error}.") from error


def pixels_of(
    channel: Channel, resize: Resize, chosen: NDArray[np.int64]
) -> Iterator[NDArray[np.uint8]]:
    """uint8 [1, height, width, 3] of each chosen record, in the order of the record file."""
    for record in channel.part(chosen).records():
        yield _pixels(record, channel, resize)[None]


def extract(
    graph: Path, channel: Channel, resize: Resize, batch_size: int, output: str = OUTPUT
) -> NDArray[np.float32]:
    """float32 [records, features] in the order of the record file: 47 KB per record."""
    features, done = np.empty((0, 0), np.float32), 0
    for part in extracted(graph, channel, resize, batch_size, output):
        if not done:
            features = np.empty((len(channel), part.shape[1]), np.float32)
        features[done : done + len(part)] = part
        done += len(part)
    return features


def extracted(
    graph: Path, channel: Channel, resize: Resize, batch_size: int, output: str = OUTPUT
) -> Iterator[NDArray[np.float32]]:
    """An output of every pass, float32 [images, features], in the order of the record file.

    Each pass of at most `batch_size` images is decoded and run by one thread, so that all cores are
    used and the numbers do not depend on how many there are.
    """
    # Not above: a process that only decodes images starts without ONNX Runtime.
    from droplens.inference.network import open_session

    session = open_session(graph, threads=1)
    per_pass = min(batch_size, max(1, MAX_PIXELS_PER_PASS // (resize.width * resize.height)))

    def run(records: list[Record]) -> NDArray[np.float32]:
        images = np.stack([_pixels(record, channel, resize) for record in records])
        result: NDArray[np.float32] = session.run([output], {"image": images})[0]
        return result

    done, reported = 0, time.monotonic()
    for result in _in_order(run, _batches(channel.records(), per_pass)):
        yield result
        done += len(result)
        if done == len(channel) or time.monotonic() - reported > SECONDS_BETWEEN_PROGRESS:
            reported = time.monotonic()
            log.info("features channel=%s done=%d total=%d", channel.name, done, len(channel))


def _pixels(record: Record, channel: Channel, resize: Resize) -> NDArray[np.uint8]:
    try:
        return resize.pixels(record.payload)
    except prepare.ImageError as error:
        raise DatasetError(
            f"{channel.path.name}: record {record.id} cannot be read: {error.message}."
        ) from error


def _batches(records: Iterator[Record], size: int) -> Iterator[list[Record]]:
    while batch := list(islice(records, size)):
        yield batch


def _in_order(
    run: Callable[[list[Record]], NDArray[np.float32]], batches: Iterator[list[Record]]
) -> Iterator[NDArray[np.float32]]:
    """Results of `run` in the order of `batches`, with few batches in memory at a time."""
    workers = cores()
    waiting: deque[Future[NDArray[np.float32]]] = deque()
    executor = ThreadPoolExecutor(workers, "features")
    try:
        for batch in batches:
            waiting.append(executor.submit(run, batch))
            if len(waiting) >= workers * WAITING_PASSES_PER_CORE:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)
