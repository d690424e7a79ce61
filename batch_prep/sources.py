"""Where the pictures come from.

Class folders, an archive of them, pictures with a list that labels them, or Stanford Cars.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from batch_prep import stanford_cars
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
from batch_prep.labels import Labels
from batch_prep.lists import read_list
from batch_prep.storage import Folder, Listed, folder, locate
from droplens.layout import ARCHIVE_SUFFIXES, LABEL_LISTS


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset to be packed: its entries, to be taken once.

    total: how many of them are files, None where only the end of the archive tells; listed:
    whether a list gave the labels, which are the first part of every entry's path, instead of the
    class folders.
    """

    entries: Iterator[Entry]
    total: int | None
    listed: bool = False


@contextmanager
def open_source(url: str, limits: ArchiveLimits) -> Iterator[Source]:
    """The dataset at `url`. Raises JobError where there is none."""
    parent, name = locate(url)
    if name in LABEL_LISTS:
        yield _open_list(parent, name, parent.list(), limits.max_member_bytes)
        return
    if not name.lower().endswith(ARCHIVE_SUFFIXES):
        yield _open_folder(folder(url), limits)
        return
    try:
        stream = parent.open(name)
    except FileNotFoundError:
        raise JobError(f"There is no archive at {url}.") from None
    with stream:
        archive = open_archive(stream, name, limits)
        yield Source(archive.entries, archive.total)


def _open_folder(place: Folder, limits: ArchiveLimits) -> Source:
    listing = list(place.list())
    if not listing:
        raise JobError(f"There is nothing at {place.url}.")
    lists = [listed.path for listed in listing if listed.path in LABEL_LISTS]
    if len(lists) > 1:
        raise JobError(f"{place.url} holds {' and '.join(lists)}: keep the one that is right.")
    if lists:
        return _open_list(place, lists[0], listing, limits.max_member_bytes)
    top = {listed.path: listed.size for listed in listing if "/" not in listed.path}
    if stanford_cars.is_published(top):
        pictures, total = stanford_cars.open_cars(place, top, limits)
        return Source(pictures, total, listed=True)
    entries = [
        entry
        for listed in listing
        if (entry := _entry(place, listed, limits.max_member_bytes)) is not None
    ]
    files = sum(not isinstance(entry, FolderSeen) for entry in entries)
    return Source(iter(entries), files)


def _open_list(place: Folder, name: str, listing: Iterable[Listed], max_bytes: int) -> Source:
    labels = read_list(place, name)
    sizes = {listed.path: listed.size for listed in listing if listed.path in labels.rows}
    total = len(labels.rows) + len(labels.refused)
    return Source(_listed_pictures(labels, place, sizes, max_bytes), total, listed=True)


def _listed_pictures(
    labels: Labels, place: Folder, sizes: dict[str, int], max_bytes: int
) -> Iterator[Entry]:
    yield from labels.refused
    for path, (label, _) in labels.rows.items():
        if path not in sizes:
            yield labels.refusal_of(path, "row.missing", f"{place.url} has no such file")
            continue
        name = readable(path)
        parts = (label, *safe_parts(path))
        yield refusal(name, parts, sizes[path], max_bytes) or File(
            name, parts, _reader(place, path)
        )


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
