"""Prepare files as training JPEGs: fetch many at once, decode on every core, keep their order."""

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from batch_prep.image.prepare import Prepared, prepare
from batch_prep.progress import Progress
from batch_prep.shards.files import ShardWriter
from batch_prep.shards.pool import WorkerPool
from batch_prep.shards.split import Plan
from batch_prep.shards.spool import Spool, Spooled
from batch_prep.sources.corrections import refused_correction
from batch_prep.sources.entries import Entry, File, Refused, Unreadable
from droplens.imaging.prepare import ImageError, Limits, Preprocessing

# Requests in flight: enough to hide S3's latency from two to eight cores.
_FETCHERS = 64
# Files in flight, or prepared and waiting for their turn; and their size together.
_WINDOW = 3 * _FETCHERS
_WINDOW_BYTES = 96 * 1024 * 1024
# Fewer images are packed by one process in the time that another takes to start.
WORTH_PROCESSES = 300

Item = TypeVar("Item")
Result = TypeVar("Result")
# An image with its file's SHA-256 in hexadecimal, or why there is none.
Outcome = tuple[Prepared, str] | Refused
PackingPool = WorkerPool[File, Outcome]


@dataclass(frozen=True, slots=True)
class Packer:
    """Prepares images with the same settings, `workers` of them at a time.

    workers: processes of a pool that was started, otherwise threads. Processes are faster: Pillow
        and the resizer release Python's lock, but the rest holds it for a fifth of an image's time.
        Files are read by other threads than those that decode, so that memory of decoding is
        reused within one thread for each core; a single worker decodes in the reading threads.
    sharing: how many packers share this machine; each takes its part of requests and memory.
    """

    preprocessing: Preprocessing
    limits: Limits
    workers: int
    sharing: int = 1

    def worker_pool(self, *, forked: bool = False) -> PackingPool:
        """A pool for `pack`, not started yet; forked: as in `WorkerPool`."""
        alone = replace(self, workers=1, sharing=self.workers)
        processes = self.workers if self.workers > 1 else 0
        return WorkerPool(alone._of_files, processes, forked=forked, fallback=_fallback)

    def pack(
        self, spool: Spool, pool: PackingPool, plan: Plan, writer: ShardWriter, progress: Progress
    ) -> None:
        """Write every planned image, in the order of the plan, and the skipped files."""
        for label, refused in plan.skipped:
            writer.skip(label, refused)
            progress.step()
        for planned, outcome in zip(plan.images, self._outcomes(plan, spool, pool), strict=True):
            if isinstance(outcome, Refused) and planned.image.corrected:
                writer.skip("", refused_correction(outcome))
            elif isinstance(outcome, Refused):
                writer.skip(plan.classes[planned.label], outcome)
            else:
                writer.add(planned, *outcome)
            progress.step()

    def spool(
        self, entries: Iterable[Entry], spool: Spool, progress: Progress
    ) -> list[Entry | Spooled]:
        """Prepare the images of a source that can only be read in its own order, once."""
        spooled: list[Entry | Spooled] = []

        def begin(entry: Entry, cores: Executor | None) -> Callable[[], Outcome | None]:
            return self._begin(entry, cores) if isinstance(entry, File) else lambda: None

        def size(entry: Entry) -> int:
            return entry.size if isinstance(entry, File) else 0

        for entry, outcome in self._side_by_side(entries, begin, size):
            if isinstance(entry, File) and outcome is not None:
                spooled.append(_keep(entry, outcome, spool))
            else:
                spooled.append(entry)
            progress.step()
        return spooled

    def _outcomes(self, plan: Plan, spool: Spool, pool: PackingPool) -> Iterator[Outcome]:
        images = [planned.image for planned in plan.images]
        spooled = [image for image in images if isinstance(image, Spooled)]
        if spooled:  # either all images of a plan are spooled or none
            return (_from_spool(image, spool) for image in spooled)
        files = [image for image in images if isinstance(image, File)]
        return pool.map(files) if pool.is_started else self._of_files(files)

    def _of_files(self, files: Sequence[File]) -> Generator[Outcome, None, None]:
        for _, outcome in self._side_by_side(files, self._begin, lambda file: file.size):
            yield outcome

    def _begin(self, file: File, cores: Executor | None) -> Callable[[], Outcome]:
        """Read the file now; the returned function waits for, or does, the preparation."""
        try:
            data = file.read()
        except Unreadable as error:
            refused = Refused(file.name, file.parts, error.code, error.reason)
            return lambda: refused
        if cores is None:
            return partial(self._prepared, file, data)
        return cores.submit(self._prepared, file, data).result

    def _prepared(self, file: File, data: bytes) -> Outcome:
        try:
            prepared = prepare(data, self.preprocessing, self.limits)
        except ImageError as error:
            return Refused(file.name, file.parts, error.code, error.message)
        return prepared, hashlib.sha256(data).hexdigest()

    def _side_by_side(
        self,
        items: Iterable[Item],
        begin: Callable[[Item, Executor | None], Callable[[], Result]],
        size: Callable[[Item], int],
    ) -> Iterator[tuple[Item, Result]]:
        """Every item with its result, in the order of the items, within the window.

        begin: called by many threads at once; it returns the function that returns the result, and
        may submit work to the executor, which has a thread for each core, or is None with a single
        worker. size: the bytes that an item takes while it is in flight.
        """
        files_at_once = max(8, _WINDOW // self.sharing)
        bytes_at_once = _WINDOW_BYTES // self.sharing
        with ExitStack() as stack:
            fetchers = _threads(stack, max(4, _FETCHERS // self.sharing))
            cores = _threads(stack, self.workers) if self.workers > 1 else None
            window: deque[tuple[Item, Future[Callable[[], Result]]]] = deque()
            in_flight = 0
            for item in items:
                window.append((item, fetchers.submit(begin, item, cores)))
                in_flight += size(item)
                while len(window) == files_at_once or (
                    in_flight > bytes_at_once and len(window) > 1
                ):
                    yield _ended(*window[0])
                    in_flight -= size(window.popleft()[0])
            while window:
                yield _ended(*window.popleft())


def _threads(stack: ExitStack, count: int) -> ThreadPoolExecutor:
    """An executor of `count` threads; leaving the stack cancels what has not begun."""
    pool = stack.enter_context(ThreadPoolExecutor(count))
    stack.callback(pool.shutdown, wait=False, cancel_futures=True)
    return pool


def _ended(item: Item, begun: Future[Callable[[], Result]]) -> tuple[Item, Result]:
    return item, begun.result()()


def _from_spool(image: Spooled, spool: Spool) -> Outcome:
    if isinstance(image.outcome, Refused):
        return image.outcome
    jpeg = spool.read(image.chunk, image.offset, image.length)
    return replace(image.outcome, jpeg=jpeg), image.version


def _fallback(file: File, how: str) -> Outcome:
    """The outcome of an image that twice ended the process that decoded it."""
    reason = f"the picture ends the process that decodes it ({how})"
    return Refused(file.name, file.parts, "image.unreadable", reason)


def _keep(file: File, outcome: Outcome, spool: Spool) -> Spooled:
    if isinstance(outcome, Refused):
        return Spooled(
            file.name,
            file.parts,
            "",
            file.size,
            outcome,
            split=file.split,
            corrected=file.corrected,
        )
    prepared, sha256 = outcome
    chunk, offset = spool.add(prepared.jpeg)
    length = len(prepared.jpeg)
    small = replace(prepared, jpeg=b"")
    return Spooled(
        file.name,
        file.parts,
        sha256,
        file.size,
        small,
        chunk,
        offset,
        length,
        file.split,
        file.corrected,
    )
