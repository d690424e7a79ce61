"""Corrections: labelled images, <class>/<picture>, that a run takes beside its dataset.

They are files of people who correct single images: what cannot be used is skipped, and is never a
reason to refuse the dataset. Codes of such files begin with "correction.".
"""

import json
from collections.abc import Iterator
from dataclasses import replace

from batch_prep.errors import JobError
from batch_prep.sources.entries import (
    Entry,
    Refused,
    UnsafePath,
    ignored_entry,
    is_ignored,
    readable,
    safe_parts,
)
from batch_prep.sources.folders import file_of
from batch_prep.storage.folder import Folder, Listed
from droplens.domain.layout import CORRECTIONS, CORRECTIONS_LIST
from droplens.domain.text import class_name_problem


def corrections(root: Folder, destination: Folder, max_bytes: int) -> Iterator[Entry]:
    """The corrections in the folder `root`.

    They are those of the list in `destination`, in which every job of a run finds the same; without
    one, all that are there. max_bytes: a larger file is refused.
    """
    for listed in _listed(root, destination):
        if not listed.path.endswith("/") and (entry := _entry(root, listed, max_bytes)):
            yield entry


def refused_correction(refused: Refused) -> Refused:
    """The refusal of a correction, which does not count as a bad image of the dataset."""
    _, _, kind = refused.code.rpartition(".")
    return replace(refused, parts=(), code=f"correction.{kind}")


def _listed(root: Folder, destination: Folder) -> Iterator[Listed]:
    if not destination.exists(CORRECTIONS_LIST):
        yield from root.list()
        return
    try:
        with destination.open(CORRECTIONS_LIST) as lines:
            for line in lines:
                row = json.loads(line)
                yield Listed(row["path"], row["bytes"], row["etag"])
    except (ValueError, LookupError, TypeError) as error:
        raise JobError(f"{destination.url}{CORRECTIONS_LIST} is damaged: {error}.") from error


def _entry(root: Folder, listed: Listed, max_bytes: int) -> Entry | None:
    name = readable(f"{CORRECTIONS}{listed.path}")
    try:
        parts = safe_parts(listed.path)
    except UnsafePath as error:
        return Refused(name, (), "correction.path", str(error))
    if is_ignored(parts):
        return ignored_entry(name, parts)
    if problem := class_name_problem(parts[0]):
        return Refused(name, (), "correction.label", f"its class {problem}")
    entry = file_of(root, listed, parts, max_bytes)
    if isinstance(entry, Refused):
        return refused_correction(replace(entry, name=name))
    return replace(entry, name=name, corrected=True)
