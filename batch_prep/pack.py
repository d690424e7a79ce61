"""Pictures in, training JPEGs out: many fetched and every core decoding, all in order."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import BoundedSemaphore
from typing import TypeVar

from batch_prep.entries import Entry, File, Refused, Unreadable
from batch_prep.pieces import ShardWriter
from batch_prep.plan import Plan
from batch_prep.prepare import Prepared, Speed, prepare
from batch_prep.progress import Progress
from batch_prep.staging import Staged, Staging
from droplens.pictures import Limits, PictureError, Preprocessing

# Requests under way at once: enough to hide S3's latency from two to eight cores.
_FETCHERS = 32
# What may be under way, or done and waiting for its turn: so many files, and bytes of files.
_WINDOW = 3 * _FETCHERS
_WINDOW_BYTES = 96 * 1024 * 1024

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


@dataclass(frozen=True, slots=True)
class Packer:
    """Prepares pictures alike, `workers` of them at a time.

    Pillow and the resizer work without Python's lock, so that threads use every core; a worker's
    memory is its picture's pixels.
    """

    preprocessing: Preprocessing
    limits: Limits
    speed: Speed
    workers: int

    def pack(self, plan: Plan, stage: Staging, writer: ShardWriter, progress: Progress) -> None:
        """Write every planned picture, in the order of the plan, and what is skipped."""
        for label, refused in plan.skipped:
            writer.skip(label, refused)
            progress.step()
        cores = BoundedSemaphore(self.workers)
        pictures = [planned.picture for planned in plan.pictures]
        outcomes = _side_by_side(
            pictures, lambda picture: self._ready(picture, stage, cores), lambda one: one.size
        )
        for planned, outcome in zip(plan.pictures, outcomes, strict=True):
            if isinstance(outcome, Refused):
                writer.skip(plan.classes[planned.label], outcome)
            else:
                writer.add(planned, *outcome)
            progress.step()

    def stage(
        self, entries: Iterable[Entry], stage: Staging, progress: Progress
    ) -> list[Entry | Staged]:
        """Read a source that has its own order, and prepare its pictures."""
        cores = BoundedSemaphore(self.workers)
        staged: list[Entry | Staged] = []

        def work(entry: Entry) -> tuple[File, tuple[Prepared, str] | Refused] | Entry:
            if not isinstance(entry, File):
                return entry
            return entry, self._prepared(entry, cores)

        for outcome in _side_by_side(
            entries, work, lambda entry: entry.size if isinstance(entry, File) else 0
        ):
            staged.append(_keep(*outcome, stage) if isinstance(outcome, tuple) else outcome)
            progress.step()
        return staged

    def _ready(
        self, picture: File | Staged, stage: Staging, cores: BoundedSemaphore
    ) -> tuple[Prepared, str] | Refused:
        if isinstance(picture, File):
            return self._prepared(picture, cores)
        if isinstance(picture.outcome, Refused):
            return picture.outcome
        jpeg = stage.read(picture.piece, picture.offset, picture.length)
        return replace(picture.outcome, jpeg=jpeg), picture.version

    def _prepared(self, file: File, cores: BoundedSemaphore) -> tuple[Prepared, str] | Refused:
        """The picture and its file's SHA-256, hexadecimal."""
        try:
            data = file.read()
            with cores:
                prepared = prepare(data, self.preprocessing, self.limits, self.speed)
                return prepared, hashlib.sha256(data).hexdigest()
        except Unreadable as error:
            return Refused(file.name, file.parts, error.code, error.reason)
        except PictureError as error:
            return Refused(file.name, file.parts, error.code, error.message)


def _keep(file: File, outcome: tuple[Prepared, str] | Refused, stage: Staging) -> Staged:
    if isinstance(outcome, Refused):
        return Staged(file.name, file.parts, "", file.size, outcome)
    prepared, sha256 = outcome
    piece, offset = stage.add(prepared.jpeg)
    length = len(prepared.jpeg)
    small = replace(prepared, jpeg=b"")
    return Staged(file.name, file.parts, sha256, file.size, small, piece, offset, length)


def _side_by_side(
    items: Iterable[Item], work: Callable[[Item], Outcome], size: Callable[[Item], int]
) -> Iterator[Outcome]:
    """`work` of every item, in their order, within the window.

    size: the bytes that an item takes while it is under way.
    """
    with ThreadPoolExecutor(_FETCHERS) as pool:
        window: deque[tuple[Future[Outcome], int]] = deque()
        under_way = 0
        try:
            for item in items:
                window.append((pool.submit(work, item), size(item)))
                under_way += window[-1][1]
                while len(window) == _WINDOW or (under_way > _WINDOW_BYTES and len(window) > 1):
                    done, freed = window.popleft()
                    under_way -= freed
                    yield done.result()
            while window:
                yield window.popleft()[0].result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
