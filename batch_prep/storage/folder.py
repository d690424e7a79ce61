"""A folder of files, wherever it is stored."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class Listed:
    """A file below a folder: its path from there ("/" between parts) and its size in bytes.

    A path that ends in "/" is a folder, or in S3 the empty object that marks one. version: another
    one is another content: an object's ETag; of a local file, when it was last changed.
    """

    path: str
    size: int
    version: str


class FileChanged(OSError):
    """A file is no longer the one that was listed."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `start` to `end` (not included) of the file at `path`."""

    path: str
    start: int
    end: int

    @property
    def length(self) -> int:
        """How many bytes they are."""
        return self.end - self.start


class Folder(Protocol):
    """A place with files. Every path is relative to it."""

    url: str

    def list(self) -> Iterator[Listed]:
        """Everything below the folder."""

    def files(self) -> Iterator[Listed]:
        """The files right in the folder."""

    def exists(self, path: str) -> bool:
        """Whether there is a file at `path`."""

    def read(self, path: str, version: str | None = None) -> bytes:
        """A whole file. Raises FileNotFoundError where it is gone.

        version: as it was listed; raises FileChanged where it is another one now.
        """

    def read_span(self, span: Span) -> bytes:
        """A part of a file."""

    def open(self, path: str) -> BinaryIO:
        """A file to read and seek in. Raises FileNotFoundError where there is none."""

    def write(self, path: str, data: bytes) -> None:
        """Write a small file."""

    def writer(self, path: str) -> AbstractContextManager[BinaryIO]:
        """A file to write from front to back; it is complete when the context is left."""

    def concatenate(self, path: str, spans: Sequence[Span]) -> None:
        """Write the file at `path` out of parts of other files of this folder, in their order."""

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files; one that is gone is let be."""


@contextmanager
def together(*files: AbstractContextManager[BinaryIO]) -> Iterator[list[BinaryIO]]:
    """Files to write, all completed at the same time: each may have to wait for S3 twice."""
    stacks = [ExitStack() for _ in files]
    with ExitStack() as opened:
        for stack in stacks:
            opened.push(stack)
        yield [stack.enter_context(file) for stack, file in zip(stacks, files, strict=True)]
        opened.pop_all()
        with ThreadPoolExecutor(len(files)) as pool:
            for completed in [pool.submit(stack.close) for stack in stacks]:
                completed.result()
