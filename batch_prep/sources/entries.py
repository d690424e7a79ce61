"""What a source yields: files to try as pictures, folders, and what was refused unread."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

# What systems leave beside the pictures; a name that begins with a dot is ignored as well.
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
    """A file's bytes could not be had. code and reason: as in `Refused`."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class File:
    """A file that may be a picture.

    name: as its owner knows it; parts: its path from the source, folder by folder; read: gives
    its bytes or raises Unreadable; size: of the file in bytes; version: another one is another
    content, where the source can tell; split: the one that a list gives it, "" for none.
    """

    name: str
    parts: tuple[str, ...]
    read: Callable[[], bytes]
    size: int
    version: str = ""
    split: str = ""


@dataclass(frozen=True, slots=True)
class FolderSeen:
    """A folder, perhaps with nothing in it."""

    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """Something that is not packed.

    code: a short stable word, of droplens.imaging.prepare where it is the picture that is at fault;
    reason: words for its owner; parts: empty where the path itself was refused.
    """

    name: str
    parts: tuple[str, ...]
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A file that is passed over, of which a warning speaks. by_system: whether a system made it;
    else it looks like a picture, but is in no class's folder."""

    name: str
    by_system: bool


Entry = File | FolderSeen | Refused | Ignored


class UnsafePath(ValueError):
    """A path that leads out of the dataset; the message says how."""


def readable(name: str) -> str:
    """`name` with the bytes that are not UTF-8 replaced, so that it can be written anywhere."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def safe_parts(path: str) -> tuple[str, ...]:
    """The parts of a path that somebody else chose; a backslash separates like a slash.

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
    """Whether nobody misses the file: one that systems make, or one outside the class folders."""
    return len(parts) < 2 or is_system_path(parts)


def passed_over(name: str, parts: tuple[str, ...]) -> Ignored | None:
    """What is said of a file that `is_ignored`; None where nothing is worth saying."""
    if is_system_path(parts):
        return None if parts[-1] == _READY else Ignored(name, by_system=True)
    is_image = bool(parts) and _IMAGE.fullmatch(PurePosixPath(parts[-1]).suffix)
    return Ignored(name, by_system=False) if is_image else None


def is_system_path(parts: tuple[str, ...]) -> bool:
    """Whether the path is one that systems make and people do not see."""
    return any(part.startswith(".") or part in _SYSTEM_NAMES for part in parts)


def refusal(name: str, parts: tuple[str, ...], size: int, max_bytes: int) -> Refused | None:
    """Why the file of `size` bytes need not be read, or None where it may be a picture."""
    suffix = PurePosixPath(parts[-1]).suffix
    if _ARCHIVE.fullmatch(suffix):
        return Refused(name, parts, "file.archive", "an archive within the dataset is not opened")
    if _NOT_AN_IMAGE.fullmatch(suffix):
        return Refused(name, parts, "file.not_a_picture", f"a file ending in {suffix}")
    if size > max_bytes:
        reason = f"the file has {size:,} bytes, the limit is {max_bytes:,}"
        return Refused(name, parts, "image.too_large", reason)
    return None
