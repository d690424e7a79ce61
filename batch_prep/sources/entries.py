"""The entries of a source: files that may be images, folders, refused and ignored files."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

# Files that operating systems create; names that begin with a dot are ignored too.
_SYSTEM_NAMES = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini", "_READY"})
_ARCHIVE = re.compile(r"\.(7z|bz2|gz|rar|tar|tbz|tgz|txz|xz|zip|zst)", re.IGNORECASE)
_NOT_AN_IMAGE = re.compile(
    r"\.(avi|cfg|csv|docx?|html?|ini|jsonl?|log|lst|md|mkv|mov|mp3|mp4|np[yz]|pdf|pkl|pptx?|py|rst"
    r"|sh|tsv|txt|wav|webm|xlsx?|xml|ya?ml)",
    re.IGNORECASE,
)
_IMAGE = re.compile(r"\.(avif|bmp|gif|hei[cf]|jfif|jpe?g|png|tiff?|webp)", re.IGNORECASE)
_READY = "_READY"
_DRIVE = re.compile(r"[A-Za-z]:")


class Unreadable(Exception):
    """A file could not be read. code, reason: as in `Refused`."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class File:
    """A file that may be an image.

    name: for messages and lists; parts: the parts of its path within the source; read: returns its
    bytes or raises Unreadable; size: in bytes; version: changes with the content, "" where
    unknown; split: from a list, "" for none; corrected: it is a correction, and parts begin with
    its class.
    """

    name: str
    parts: tuple[str, ...]
    read: Callable[[], bytes]
    size: int
    version: str = ""
    split: str = ""
    corrected: bool = False


@dataclass(frozen=True, slots=True)
class FolderSeen:
    """A folder, which may be empty."""

    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that is not packed.

    code: a stable identifier, that of droplens.imaging.prepare where the image is refused; reason:
    for the dataset's owner; parts: empty where the path itself was refused.
    """

    name: str
    parts: tuple[str, ...]
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A file that is ignored with a warning. by_system: whether an operating system creates such
    files; otherwise it looks like an image but is in no class folder."""

    name: str
    by_system: bool


Entry = File | FolderSeen | Refused | Ignored


class UnsafePath(ValueError):
    """A path that leaves the dataset; the message gives the reason."""


def readable(name: str) -> str:
    """`name` with the bytes that are not UTF-8 replaced, so that it can be encoded."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def safe_parts(path: str) -> tuple[str, ...]:
    """The parts of an untrusted path; a backslash separates like a slash.

    Raises UnsafePath for an absolute path, a drive letter and "..".
    """
    slashed = readable(path).replace("\\", "/")
    if slashed.startswith("/") or _DRIVE.match(slashed):
        raise UnsafePath("its path is absolute")
    parts = tuple(part for part in slashed.split("/") if part not in ("", "."))
    if ".." in parts:
        raise UnsafePath("its path leads out of the dataset by '..'")
    return parts


def is_ignored(parts: tuple[str, ...]) -> bool:
    """Whether the file is no part of the dataset: a system's, or outside the class folders."""
    return len(parts) < 2 or is_system_path(parts)


def ignored_entry(name: str, parts: tuple[str, ...]) -> Ignored | None:
    """The entry for a file that `is_ignored`; None where it deserves no warning."""
    if is_system_path(parts):
        return None if parts[-1] == _READY else Ignored(name, by_system=True)
    is_image = bool(parts) and _IMAGE.fullmatch(PurePosixPath(parts[-1]).suffix)
    return Ignored(name, by_system=False) if is_image else None


def is_system_path(parts: tuple[str, ...]) -> bool:
    """Whether operating systems create such files, or hide them."""
    return any(part.startswith(".") or part in _SYSTEM_NAMES for part in parts)


def refusal(name: str, parts: tuple[str, ...], size: int, max_bytes: int) -> Refused | None:
    """Why the file of `size` bytes is refused unread, or None where it may be an image."""
    suffix = PurePosixPath(parts[-1]).suffix
    if _ARCHIVE.fullmatch(suffix):
        return Refused(name, parts, "file.archive", "an archive within the dataset is not opened")
    if _NOT_AN_IMAGE.fullmatch(suffix):
        return Refused(name, parts, "file.not_a_picture", f"a file ending in {suffix}")
    if size > max_bytes:
        reason = f"the file has {size:,} bytes, the limit is {max_bytes:,}"
        return Refused(name, parts, "image.too_large", reason)
    return None
