"""Pictures in, training JPEGs out: many fetched and every core decoding, all in order."""

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from batch_prep.entries import Entry, File, Refused, Unreadable
from batch_prep.pieces import ShardWriter
from batch_prep.plan import Plan
from batch_prep.prepare import Prepared, Speed, prepare
from batch_prep.processes import spread
from batch_prep.progress import Progress
from batch_prep.staging import Staged, Staging
from droplens.pictures import Limits, PictureError, Preprocessing

# Requests under way at once: enough to hide S3's latency from two to eight cores.
_FETCHERS = 64
# What may be under way, or done and waiting for its turn: so many files, and bytes of files.
_WINDOW = 3 * _FETCHERS
_WINDOW_BYTES = 96 * 1024 * 1024
# Fewer pictures are packed before another process has started.
_WORTH_PROCESSES = 300

Item = TypeVar("Item")
Result = TypeVar("Result")
# A picture and its file's SHA-256, hexadecimal; or why there is none.
Outcome = tuple[Prepared, str] | Refused


@dataclass(frozen=True, slots=True)
class Packer:
    """Prepares pictures alike, `workers` of them at a time.

    workers: processes, where there are enough pictures to be worth it, else threads: Pillow and the
        resizer work without Python's lock, but what is left of a picture's work holds it for a
        fifth of the time. Reading has threads of its own, so that what decoding takes and gives
        back stays with one thread for each core.
    sharing: of so many that share this machine, each takes its part of requests and memory.
    """

    preprocessing: Preprocessing
    limits: Limits
    speed: Speed
    workers: int
    sharing: int = 1

    def pack(self, plan: Plan, stage: Staging, writer: ShardWriter, progress: Progress) -> None:
        """Write every planned picture, in the order of the plan, and what is skipped."""
        for label, refused in plan.skipped:
            writer.skip(label, refused)
            progress.step()
        for planned, outcome in zip(plan.pictures, self._outcomes(plan, stage), strict=True):
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

        def begin(entry: Entry, cores: Executor) -> Future[Outcome | None]:
            begun: Future[Any] = (
                self._begin(entry, cores) if isinstance(entry, File) else _done(None)
            )
            return begun

        def size(entry: Entry) -> int:
            return entry.size if isinstance(entry, File) else 0

        for entry, outcome in self._side_by_side(entries, begin, size):
            if isinstance(entry, File) and outcome is not None:
                staged.append(_keep(entry, outcome, stage))
            else:
                staged.append(entry)
            progress.step()
        return staged

    def _outcomes(self, plan: Plan, stage: Staging) -> Iterator[Outcome]:
        pictures = [planned.picture for planned in plan.pictures]
        staged = [picture for picture in pictures if isinstance(picture, Staged)]
        if staged:  # and then all of them are
            return (_staged_before(picture, stage) for picture in staged)
        files = [picture for picture in pictures if isinstance(picture, File)]
        if self.workers == 1 or len(files) < _WORTH_PROCESSES:
            return self._of_files(files)
        one = replace(self, workers=1, sharing=self.workers)
        return spread(one._of_files, files, self.workers)

    def _of_files(self, files: Sequence[File]) -> Generator[Outcome, None, None]:
        for _, outcome in self._side_by_side(files, self._begin, lambda file: file.size):
            yield outcome

    def _begin(self, file: File, cores: Executor) -> Future[Outcome]:
        """Read the file here; the rest is for one of the cores."""
        try:
            data = file.read()
        except Unreadable as error:
            return _done(Refused(file.name, file.parts, error.code, error.reason))
        return cores.submit(self._prepared, file, data)

    def _prepared(self, file: File, data: bytes) -> Outcome:
        try:
            prepared = prepare(data, self.preprocessing, self.limits, self.speed)
        except PictureError as error:
            return Refused(file.name, file.parts, error.code, error.message)
        return prepared, hashlib.sha256(data).hexdigest()

    def _side_by_side(
        self,
        items: Iterable[Item],
        begin: Callable[[Item, Executor], Future[Result]],
        size: Callable[[Item], int],
    ) -> Iterator[tuple[Item, Result]]:
        """Every item with its result, in their order, within the window.

        begin: is called for many items at once, and leaves work to the executor, which has a
        thread for each core; size: the bytes that an item takes while it is under way.
        """
        files_at_once = max(8, _WINDOW // self.sharing)
        bytes_at_once = _WINDOW_BYTES // self.sharing
        with (
            ThreadPoolExecutor(max(4, _FETCHERS // self.sharing)) as fetchers,
            ThreadPoolExecutor(self.workers) as cores,
        ):
            window: deque[tuple[Item, Future[Future[Result]]]] = deque()
            under_way = 0
            try:
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
            finally:
                for pool in (fetchers, cores):
                    pool.shutdown(wait=False, cancel_futures=True)


def _done(result: Result) -> Future[Result]:
    done: Future[Result] = Future()
    done.set_result(result)
    return done


def _ended(item: Item, begun: Future[Future[Result]]) -> tuple[Item, Result]:
    return item, begun.result().result()


def _staged_before(picture: Staged, stage: Staging) -> Outcome:
    if isinstance(picture.outcome, Refused):
        return picture.outcome
    jpeg = stage.read(picture.piece, picture.offset, picture.length)
    return replace(picture.outcome, jpeg=jpeg), picture.version


def _keep(file: File, outcome: Outcome, stage: Staging) -> Staged:
    if isinstance(outcome, Refused):
        return Staged(file.name, file.parts, "", file.size, outcome)
    prepared, sha256 = outcome
    piece, offset = stage.add(prepared.jpeg)
    length = len(prepared.jpeg)
    small = replace(prepared, jpeg=b"")
    return Staged(file.name, file.parts, sha256, file.size, small, piece, offset, length)
