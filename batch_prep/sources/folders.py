"""Open the source of a dataset, of whichever kind it is.

The kinds: class folders, an archive of them, images with a list of labels, or Stanford Cars.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from batch_prep.errors import JobError
from batch_prep.sources import stanford_cars
from batch_prep.sources.archives import ArchiveLimits, open_archive
from batch_prep.sources.entries import (
    Entry,
    File,
    FolderSeen,
    Refused,
    Unreadable,
    UnsafePath,
    ignored_entry,
    is_ignored,
    is_system_path,
    readable,
    refusal,
    safe_parts,
)
from batch_prep.sources.label_files import exported_lists, read_list
from batch_prep.sources.labels import Labels
from batch_prep.storage.folder import FileChanged, Folder, Listed
from batch_prep.storage.locate import folder_at, locate
from droplens.domain.layout import ARCHIVE_SUFFIXES, LABEL_LISTS

# A list may have empty lines, repeated rows and rows of several lines.
_LINES_PER_IMAGE = 2
_UPLOADED = re.compile(r"upload/\d+/(?:[0-9a-f]{8}-)?([^/]+)")


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset to be packed.

    entries: iterates over all entries; of a streamed source only once, and each must be read before
    the next. total: the number of files among them, None where unknown before the end. listed: the
    source of the labels, which are the first part of every entry's path; "" for class folders.
    """

    entries: Callable[[], Iterator[Entry]]
    total: int | None = None
    listed: str = ""
    streamed: bool = False


@contextmanager
def open_source(url: str, limits: ArchiveLimits, images: int) -> Iterator[Source]:
    """The dataset at `url`. Raises JobError where there is none.

    images: the most images of a dataset, which bounds the lines of a list; entries are not counted
    here.
    """
    parent, name = locate(url)
    if name in LABEL_LISTS:
        yield _open_lists(parent, [name], limits.max_member_bytes, images)
        return
    if not name.lower().endswith(ARCHIVE_SUFFIXES):
        yield _open_folder(folder_at(url), limits, images)
        return
    try:
        stream = parent.open(name)
    except FileNotFoundError:
        raise JobError(f"There is no archive at {url}.") from None
    with stream:
        archive = open_archive(stream, name, limits)
        yield Source(lambda: archive.entries, archive.total, streamed=True)


def _open_folder(root: Folder, limits: ArchiveLimits, images: int) -> Source:
    top = {listed.path: listed.size for listed in root.files()}
    lists = [path for path in top if path in LABEL_LISTS]
    if len(lists) > 1:
        raise JobError(f"{root.url} holds {' and '.join(lists)}: keep the one that is right.")
    if lists or (lists := exported_lists(root, top)):
        return _open_lists(root, lists, limits.max_member_bytes, images)
    if stanford_cars.is_published(top):
        labelled, total = stanford_cars.open_cars(root, top, limits)
        return Source(lambda: labelled, total, listed=stanford_cars.NAME, streamed=True)
    return Source(lambda: _class_folders(root, limits.max_member_bytes))


def _class_folders(root: Folder, max_bytes: int) -> Iterator[Entry]:
    listed = None
    for listed in root.list():
        if (entry := _entry(root, listed, max_bytes)) is not None:
            yield entry
    if listed is None:
        raise JobError(f"There is nothing at {root.url}.")


def _open_lists(root: Folder, names: list[str], max_bytes: int, images: int) -> Source:
    lists = [read_list(root, name, _LINES_PER_IMAGE * images) for name in names]
    other = _Uploads(path for labels in lists for path in labels.rows)
    found: dict[str, Listed] = {}
    for listed in root.list():
        if any(listed.path in labels.rows for labels in lists):
            found[listed.path] = listed
        elif other.names:
            other.see(listed)
    found = other.found() | found
    total = sum(len(labels.rows) + len(labels.refused) for labels in lists)

    def entries() -> Iterator[Entry]:
        for labels in lists:
            yield from _listed_images(labels, root, found, max_bytes)

    return Source(entries, total, listed=" and ".join(names))


class _Uploads:
    """Images that were uploaded to Label Studio, found in the dataset by their original names.

    Label Studio stores "cat.jpg" as upload/1/0a1b2c3d-cat.jpg, which is the path in its exports.
    names: the listed path by stored and original file name; None for a name that two paths have.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self.names: dict[str, str | None] = {}
        self._files: dict[str, Listed | None] = {}
        for path in paths:
            if uploaded := _UPLOADED.fullmatch(path):
                for name in {path.rpartition("/")[2], uploaded[1]}:
                    self.names[name] = None if name in self.names else path

    def see(self, listed: Listed) -> None:
        """Match a file of the dataset."""
        path = self.names.get(listed.path.rpartition("/")[2])
        if path is not None:
            self._files[path] = None if path in self._files else listed

    def found(self) -> dict[str, Listed]:
        """The file by listed path, where exactly one matches."""
        return {path: listed for path, listed in self._files.items() if listed is not None}


def _listed_images(
    labels: Labels, root: Folder, found: dict[str, Listed], max_bytes: int
) -> Iterator[Entry]:
    yield from labels.refused
    for path, (label, _, split) in labels.rows.items():
        listed = found.get(path)
        if listed is None:
            yield labels.refusal_of(path, "row.missing", f"{root.url} has no such file")
        else:
            yield file_of(root, listed, (label, *safe_parts(listed.path)), max_bytes, split)


def _entry(root: Folder, listed: Listed, max_bytes: int) -> Entry | None:
    try:
        parts = safe_parts(listed.path)
    except UnsafePath as error:
        return Refused(readable(listed.path), (), "file.path", str(error))
    if listed.path.endswith("/"):
        return FolderSeen(parts) if parts and not is_system_path(parts) else None
    if is_ignored(parts):
        return ignored_entry(readable(listed.path), parts)
    return file_of(root, listed, parts, max_bytes)


def file_of(
    root: Folder, listed: Listed, parts: tuple[str, ...], max_bytes: int, split: str = ""
) -> File | Refused:
    """A file of a folder as an entry, which is refused unread by its name or its size."""
    name = readable(listed.path)
    return refusal(name, parts, listed.size, max_bytes) or File(
        name, parts, partial(_read, root, listed), listed.size, listed.version, split
    )


def _read(root: Folder, listed: Listed) -> bytes:
    try:
        return root.read(listed.path, listed.version)
    except FileNotFoundError:
        raise Unreadable("file.gone", "removed while the dataset was being packed") from None
    except FileChanged:
        raise Unreadable("file.changed", "replaced while the dataset was being packed") from None
    except OSError as error:
        raise Unreadable("file.unreadable", str(error.strerror)) from error
    except ValueError:
        raise Unreadable(
            "file.path", "its key has an empty part, a '.' or a control character"
        ) from None
