"""Where the pictures come from: a folder of class folders, or one archive of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from batch_prep.archives import ArchiveLimits, open_archive
from batch_prep.entries import (
    Entry,
    File,
    FolderSeen,
    Refused,
    Unreadable,
    UnsafePath,
    is_ignored,
    is_system_path,
    readable,
    refusal,
    safe_parts,
)
from batch_prep.errors import JobError
from batch_prep.storage import Folder, Listed, folder, locate
from droplens.layout import ARCHIVE_SUFFIXES


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset to be packed: its entries, to be taken once.

    total: how many of them are files, None where only the end of the archive tells.
    """

    entries: Iterator[Entry]
    total: int | None


@contextmanager
def open_source(url: str, limits: ArchiveLimits) -> Iterator[Source]:
    """The dataset at `url`. Raises JobError where there is none."""
    parent, name = locate(url)
    if not name.lower().endswith(ARCHIVE_SUFFIXES):
        yield _open_folder(folder(url), limits.max_member_bytes)
        return
    try:
        stream = parent.open(name)
    except FileNotFoundError:
        raise JobError(f"There is no archive at {url}.") from None
    with stream:
        archive = open_archive(stream, name, limits)
        yield Source(archive.entries, archive.total)


def _open_folder(place: Folder, max_bytes: int) -> Source:
    listing = list(place.list())
    if not listing:
        raise JobError(f"There is nothing at {place.url}.")
    entries = [
        entry for listed in listing if (entry := _entry(place, listed, max_bytes)) is not None
    ]
    files = sum(not isinstance(entry, FolderSeen) for entry in entries)
    return Source(iter(entries), files)


def _entry(place: Folder, listed: Listed, max_bytes: int) -> Entry | None:
    name = readable(listed.path)
    try:
        parts = safe_parts(listed.path)
    except UnsafePath as error:
        return Refused(name, (), "file.path", str(error))
    if listed.path.endswith("/"):
        return FolderSeen(parts) if parts and not is_system_path(parts) else None
    if is_ignored(parts):
        return None
    return refusal(name, parts, listed.size, max_bytes) or File(
        name, parts, _reader(place, listed.path)
    )


def _reader(place: Folder, path: str) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            return place.read(path)
        except FileNotFoundError:
            raise Unreadable("file.gone", "removed while the dataset was being packed") from None
        except OSError as error:
            raise Unreadable("file.unreadable", str(error.strerror)) from error
        except ValueError:
            raise Unreadable(
                "file.path", "its key has an empty part, a '.' or a control character"
            ) from None

    return read
