"""Pictures in, training JPEGs out: fetched and decoded side by side, kept in a spool file."""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import BoundedSemaphore
from typing import BinaryIO

from batch_prep.entries import Entry, File, FolderSeen, Refused, Unreadable
from batch_prep.progress import Progress
from droplens.pictures import Limits, PictureError, Preprocessing, prepare

# Requests under way at once: enough to hide S3's latency from two to eight cores.
_FETCHERS = 16
# Files whose bytes may be in memory: those under way, and as many done and waiting for their turn.
_WINDOW = 2 * _FETCHERS


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that was packed.

    name, parts: as in `entries.File`; digest: SHA-256 of its file, hexadecimal; offset, length:
    where its JPEG is in the spool, in bytes; upscaled: whether it was smaller than asked for.
    """

    name: str
    parts: tuple[str, ...]
    digest: str
    offset: int
    length: int
    upscaled: bool


@dataclass(slots=True)
class Packed:
    """Everything that a source held, in its order."""

    pictures: list[Picture] = field(default_factory=list)
    skipped: list[Refused] = field(default_factory=list)
    folders: set[tuple[str, ...]] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Prepared:
    name: str
    parts: tuple[str, ...]
    digest: str
    jpeg: bytes
    upscaled: bool


def pack(
    entries: Iterable[Entry],
    spool: BinaryIO,
    preprocessing: Preprocessing,
    limits: Limits,
    workers: int,
    progress: Progress,
) -> Packed:
    """Prepare every file of `entries`, writing the JPEGs to `spool` in the order of the entries.

    workers: decoders at work at the same time; a decoder's memory is its picture's pixels.
    """
    packed = Packed()
    offset = 0
    for entry in _in_order(entries, preprocessing, limits, workers):
        match entry:
            case FolderSeen():
                packed.folders.add(entry.parts)
                continue
            case Refused():
                packed.skipped.append(entry)
            case _Prepared(name, parts, digest, jpeg, upscaled):
                spool.write(jpeg)
                packed.pictures.append(Picture(name, parts, digest, offset, len(jpeg), upscaled))
                offset += len(jpeg)
        progress.step()
    return packed


def _in_order(
    entries: Iterable[Entry], preprocessing: Preprocessing, limits: Limits, workers: int
) -> Iterator[_Prepared | FolderSeen | Refused]:
    # Pillow decodes, resizes and encodes without Python's lock, so that threads use every core.
    decoders = BoundedSemaphore(workers)
    with ThreadPoolExecutor(_FETCHERS) as pool:
        window: deque[Future[_Prepared | Refused] | FolderSeen | Refused] = deque()
        try:
            for entry in entries:
                if isinstance(entry, File):
                    window.append(pool.submit(_prepare, entry, preprocessing, limits, decoders))
                else:
                    window.append(entry)
                if len(window) == _WINDOW:
                    yield _outcome(window.popleft())
            while window:
                yield _outcome(window.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _outcome(
    waiting: Future[_Prepared | Refused] | FolderSeen | Refused,
) -> _Prepared | FolderSeen | Refused:
    return waiting.result() if isinstance(waiting, Future) else waiting


def _prepare(
    file: File, preprocessing: Preprocessing, limits: Limits, decoders: BoundedSemaphore
) -> _Prepared | Refused:
    try:
        data = file.read()
        with decoders:
            jpeg, info = prepare(data, preprocessing, limits)
    except Unreadable as error:
        return Refused(file.name, file.parts, error.code, error.reason)
    except PictureError as error:
        return Refused(file.name, file.parts, error.code, error.message)
    upscaled = min(info.width, info.height) < preprocessing.shorter_side
    return _Prepared(file.name, file.parts, hashlib.sha256(data).hexdigest(), jpeg, upscaled)
