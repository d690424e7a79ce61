"""Pictures in, training JPEGs out: many fetched and every core decoding, all in order."""

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
from batch_prep.shards.pool import Crew
from batch_prep.shards.split import Plan
from batch_prep.shards.spool import Staged, Staging
from batch_prep.sources.entries import Entry, File, Refused, Unreadable
from droplens.imaging.prepare import ImageError, Limits, Preprocessing

# Requests under way at once: enough to hide S3's latency from two to eight cores.
_FETCHERS = 64
# What may be under way, or done and waiting for its turn: so many files, and bytes of files.
_WINDOW = 3 * _FETCHERS
_WINDOW_BYTES = 96 * 1024 * 1024
# Fewer pictures are packed before another process has started.
WORTH_PROCESSES = 300

Item = TypeVar("Item")
Result = TypeVar("Result")
# A picture and its file's SHA-256, hexadecimal; or why there is none.
Outcome = tuple[Prepared, str] | Refused
PackingCrew = Crew[File, Outcome]


@dataclass(frozen=True, slots=True)
class Packer:
    """Prepares pictures alike, `workers` of them at a time.

    workers: processes, where a crew of them was started, else threads: Pillow and the
        resizer work without Python's lock, but what is left of a picture's work holds it for a
        fifth of the time. Reading has threads of its own, so that what decoding takes and gives
        back stays with one thread for each core; a single worker decodes where it is called.
    sharing: of so many that share this machine, each takes its part of requests and memory.
    """

    preprocessing: Preprocessing
    limits: Limits
    workers: int
    sharing: int = 1

    def crew(self, *, forked: bool = False) -> PackingCrew:
        """Processes for `pack`, of which none is started yet; forked: as in `Crew`."""
        alone = replace(self, workers=1, sharing=self.workers)
        processes = self.workers if self.workers > 1 else 0
        return Crew(alone._of_files, processes, forked=forked, lost=_lost)

    def pack(
        self, stage: Staging, crew: PackingCrew, plan: Plan, writer: ShardWriter, progress: Progress
    ) -> None:
        """Write every planned picture, in the order of the plan, and what is skipped."""
        for label, refused in plan.skipped:
            writer.skip(label, refused)
            progress.step()
        for planned, outcome in zip(plan.pictures, self._outcomes(plan, stage, crew), strict=True):
            if isinstance(outcome, Refused):
                writer.skip(plan.classes[planned.label], outcome)
            else:
                writer.add(planned, *outcome)
            progress.step()

    def stage(
        self, entries: Iterable[Entry], stage: Staging, progress: Progress
    ) -> list[Entry | Staged]:
        """Read a source that has its own order, and prepare its pictures."""
        staged: list[Entry | Staged] = []

        def begin(entry: Entry, cores: Executor | None) -> Callable[[], Outcome | None]:
            return self._begin(entry, cores) if isinstance(entry, File) else lambda: None

        def size(entry: Entry) -> int:
            return entry.size if isinstance(entry, File) else 0

        for entry, outcome in self._side_by_side(entries, begin, size):
            if isinstance(entry, File) and outcome is not None:
                staged.append(_keep(entry, outcome, stage))
            else:
                staged.append(entry)
            progress.step()
        return staged

    def _outcomes(self, plan: Plan, stage: Staging, crew: PackingCrew) -> Iterator[Outcome]:
        pictures = [planned.picture for planned in plan.pictures]
        staged = [picture for picture in pictures if isinstance(picture, Staged)]
        if staged:  # and then all of them are
            return (_staged_before(picture, stage) for picture in staged)
        files = [picture for picture in pictures if isinstance(picture, File)]
        return crew.spread(files) if crew.is_started else self._of_files(files)

    def _of_files(self, files: Sequence[File]) -> Generator[Outcome, None, None]:
        for _, outcome in self._side_by_side(files, self._begin, lambda file: file.size):
            yield outcome

    def _begin(self, file: File, cores: Executor | None) -> Callable[[], Outcome]:
        """Read the file here; the rest is for one of the cores, or for who asks for it."""
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
        """Every item with its result, in their order, within the window.

        begin: is called for many items at once, and gives what gives the result; it may leave work
        to the executor, which has a thread for each core where there are several. size: the bytes
        that an item takes while it is under way.
        """
        files_at_once = max(8, _WINDOW // self.sharing)
        bytes_at_once = _WINDOW_BYTES // self.sharing
        with ExitStack() as stack:
            fetchers = _threads(stack, max(4, _FETCHERS // self.sharing))
            cores = _threads(stack, self.workers) if self.workers > 1 else None
            window: deque[tuple[Item, Future[Callable[[], Result]]]] = deque()
            under_way = 0
            for item in items:
                window.append((item, fetchers.submit(begin, item, cores)))
                under_way += size(item)
                while len(window) == files_at_once or (
                    under_way > bytes_at_once and len(window) > 1
                ):
                    yield _ended(*window[0])
                    under_way -= size(window.popleft()[0])
            while window:
                yield _ended(*window.popleft())


def _threads(stack: ExitStack, count: int) -> ThreadPoolExecutor:
    """So many threads, until the stack is left; what they have not begun by then is dropped."""
    pool = stack.enter_context(ThreadPoolExecutor(count))
    stack.callback(pool.shutdown, wait=False, cancel_futures=True)
    return pool


def _ended(item: Item, begun: Future[Callable[[], Result]]) -> tuple[Item, Result]:
    return item, begun.result()()


def _staged_before(picture: Staged, stage: Staging) -> Outcome:
    if isinstance(picture.outcome, Refused):
        return picture.outcome
    jpeg = stage.read(picture.piece, picture.offset, picture.length)
    return replace(picture.outcome, jpeg=jpeg), picture.version


def _lost(file: File, how: str) -> Outcome:
    """For a picture that ended the process that decoded it, twice."""
    reason = f"the picture ends the process that decodes it ({how})"
    return Refused(file.name, file.parts, "image.unreadable", reason)


def _keep(file: File, outcome: Outcome, stage: Staging) -> Staged:
    if isinstance(outcome, Refused):
        return Staged(file.name, file.parts, "", file.size, outcome, split=file.split)
    prepared, sha256 = outcome
    piece, offset = stage.add(prepared.jpeg)
    length = len(prepared.jpeg)
    small = replace(prepared, jpeg=b"")
    return Staged(
        file.name, file.parts, sha256, file.size, small, piece, offset, length, file.split
    )
