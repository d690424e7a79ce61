"""A folder of this machine's file system."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from batch_prep.storage.folder import FileChanged, Listed, Span

_COPIED_AT_ONCE = 8 * 1024 * 1024


class LocalFolder:
    """A folder of this machine's file system; its content is trusted."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.url = f"{root}/"

    def list(self) -> Iterator[Listed]:
        """Everything below the folder, except what is neither file nor folder."""
        for parent, folders, files in os.walk(self._root):
            folders.sort()
            here = Path(parent)
            if here != self._root:
                yield Listed(here.relative_to(self._root).as_posix() + "/", 0, "")
            for name in sorted(files):
                if (here / name).is_file():
                    yield self._listed(here / name)

    def files(self) -> Iterator[Listed]:
        """The files in the folder itself."""
        if self._root.is_dir():
            for path in sorted(self._root.iterdir()):
                if path.is_file():
                    yield self._listed(path)

    def _listed(self, path: Path) -> Listed:
        found = path.stat()
        return Listed(
            path.relative_to(self._root).as_posix(), found.st_size, str(found.st_mtime_ns)
        )

    def exists(self, path: str) -> bool:
        """Whether there is a file at `path`."""
        return (self._root / path).is_file()

    def read(self, path: str, version: str | None = None) -> bytes:
        """A whole file."""
        with (self._root / path).open("rb") as file:
            data = file.read()
            if version is not None and str(os.fstat(file.fileno()).st_mtime_ns) != version:
                raise FileChanged(path)
            return data

    def read_span(self, span: Span) -> bytes:
        """A part of a file."""
        with (self._root / span.path).open("rb") as file:
            file.seek(span.start)
            return file.read(span.length)

    def open(self, path: str) -> BinaryIO:
        """A seekable file to read."""
        return (self._root / path).open("rb")

    def write(self, path: str, data: bytes) -> None:
        """Write a small file."""
        with self.writer(path) as file:
            file.write(data)

    @contextmanager
    def writer(self, path: str) -> Iterator[BinaryIO]:
        """A file to write sequentially."""
        target = self._root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            yield file

    def concatenate(self, path: str, spans: Sequence[Span]) -> None:
        """Write the file at `path` as the concatenation of these parts."""
        with self.writer(path) as target:
            for chunk in _chunks(spans, _COPIED_AT_ONCE):
                target.write(self.read_span(chunk))

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files, and the folders that they leave empty."""
        for path in paths:
            target = self._root / path
            target.unlink(missing_ok=True)
            for parent in target.relative_to(self._root).parents[:-1]:
                try:
                    (self._root / parent).rmdir()
                except OSError:  # another file is still there
                    break


def _chunks(spans: Iterable[Span], most: int) -> Iterator[Span]:
    """The same bytes in spans of at most `most` bytes."""
    for span in spans:
        for start in range(span.start, span.end, most):
            yield Span(span.path, start, min(start + most, span.end))
