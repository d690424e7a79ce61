"""A folder of files, wherever it is stored."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class Listed:
    """A file in a folder's listing.

    path: relative to the folder, with "/" between parts; one that ends in "/" is a folder, or in S3
    the empty object that marks one. size: in bytes. version: changes with the content: an object's
    ETag, or a local file's time of modification.
    """

    path: str
    size: int
    version: str


class FileChanged(OSError):
    """A file's version is not the one that was listed."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `start` to `end` (not included) of the file at `path`."""

    path: str
    start: int
    end: int

    @property
    def length(self) -> int:
        """Number of bytes."""
        return self.end - self.start


class Folder(Protocol):
    """Files below a common URL or path; every path is relative to it and uses "/"."""

    url: str

    def list(self) -> Iterator[Listed]:
        """Everything below the folder."""

    def files(self) -> Iterator[Listed]:
        """The files in the folder itself, not in folders below it."""

    def exists(self, path: str) -> bool:
        """Whether there is a file at `path`."""

    def read(self, path: str, version: str | None = None) -> bytes:
        """A whole file. Raises FileNotFoundError where there is none.

        version: as listed; raises FileChanged where the file has another one now.
        """

    def read_span(self, span: Span) -> bytes:
        """A part of a file."""

    def open(self, path: str) -> BinaryIO:
        """A seekable file to read. Raises FileNotFoundError where there is none."""

    def write(self, path: str, data: bytes) -> None:
        """Write a small file."""

    def writer(self, path: str) -> AbstractContextManager[BinaryIO]:
        """A file to write sequentially; it is complete when the context is left."""

    def concatenate(self, path: str, spans: Sequence[Span]) -> None:
        """Write the file at `path` as the concatenation of these parts of files of this folder."""

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files. One that does not exist is no error."""


@contextmanager
def together(*files: AbstractContextManager[BinaryIO]) -> Iterator[list[BinaryIO]]:
    """Several files to write, completed concurrently: each may wait for two responses of S3."""
    stacks = [ExitStack() for _ in files]
    with ExitStack() as opened:
        for stack in stacks:
            opened.push(stack)
        yield [stack.enter_context(file) for stack, file in zip(stacks, files, strict=True)]
        opened.pop_all()
        with ThreadPoolExecutor(len(files)) as pool:
            for completed in [pool.submit(stack.close) for stack in stacks]:
                completed.result()
