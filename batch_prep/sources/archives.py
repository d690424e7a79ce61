"""Untrusted zip and tar archives, read member by member and never unpacked to disk.

A member that cannot be used is refused with its reason, and the rest is read. A damaged archive or
a decompression bomb ends the job.
"""

import io
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from gzip import GzipFile
from typing import IO, BinaryIO, cast

from batch_prep.errors import JobError
from batch_prep.sources.entries import (
    Entry,
    File,
    FolderSeen,
    Ignored,
    Refused,
    UnsafePath,
    ignored_entry,
    is_ignored,
    is_system_path,
    readable,
    refusal,
    safe_parts,
)
from droplens.domain.text import one_line

# The longest single read: of a member, or of what tarfile and zipfile read at once (a zip's central
# directory, a tar's long names).
_LONGEST_READ = 32 * 1024 * 1024
_SKIP_BYTES = 1024 * 1024
# PATH_MAX of Linux; S3 keys are shorter.
_LONGEST_PATH = 4096
# Headers of one member of a tar: a long path takes 4 KB, a thumbnail in extended attributes 100 KB.
_MOST_HEADER_BYTES = 1024 * 1024
# Archivers write some ten pax records for a member, a line each. tarfile takes microseconds for
# each, and gzip compresses a million of them to kilobytes.
_RECORDS_PER_MEMBER, _FURTHER_RECORDS = 30, 100_000
# tarfile applies global headers to every following member. git writes one.
_MOST_GLOBALS, _MOST_GLOBAL_BYTES = 100, 64 * 1024
_TAR_BLOCK = 512
_GZIP_MAGIC = b"\x1f\x8b"
# Without LZMA: a member's header may demand 4 GB of memory.
_ZIP_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
_ENCRYPTED = 0x1
# What tarfile, zipfile, gzip and zlib raise at damaged or malicious bytes.
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    OverflowError,
    NotImplementedError,
    RecursionError,
    KeyError,
    IndexError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveLimits:
    """The limits of an archive.

    max_member_bytes: a longer member is refused, and the rest is read.
    max_members, max_bytes: of the archive, unpacked; beyond, it is refused as a whole.
    max_ratio: of unpacked to packed size, checked from ratio_from_bytes unpacked bytes on:
        photographs hardly compress, but a small archive of white bitmaps is harmless.
    """

    max_member_bytes: int = 25 * 1024 * 1024
    max_members: int = 1_000_000
    max_bytes: int = 256 * 1024**3
    max_ratio: int = 100
    ratio_from_bytes: int = 1024**3


@dataclass(frozen=True, slots=True)
class Archive:
    """An open archive. entries: can be iterated once; total: the most files among them, None where
    it is unknown before the end."""

    entries: Iterator[Entry]
    total: int | None


def open_archive(stream: BinaryIO, name: str, limits: ArchiveLimits) -> Archive:
    """The archive in `stream`, a zip by its name's ending or else a tar, gzipped or not.

    Raises JobError, also during iteration, where it is damaged or a decompression bomb.
    """
    meter = _Meter(name, stream.seek(0, io.SEEK_END), limits)
    stream.seek(0)
    if name.lower().endswith(".zip"):
        return _open_zip(stream, name, limits, meter)
    return Archive(_tar_entries(stream, name, limits, meter), None)


class _Meter:
    """Counts the members and unpacked bytes of an archive. Raises JobError at the limits."""

    def __init__(self, archive: str, packed_bytes: int, limits: ArchiveLimits) -> None:
        self._archive = archive
        self._packed_bytes = packed_bytes
        self._limits = limits
        self._members = 0
        self._records = 0
        self.position = "its beginning"

    def count(self, member: str) -> None:
        self.position = member
        self._members += 1
        if self._members > self._limits.max_members:
            self._refuse(f"more than {self._limits.max_members:,} members")

    def records(self, count: int) -> None:
        self._records += count
        if self._records > _RECORDS_PER_MEMBER * self._members + _FURTHER_RECORDS:
            self._refuse(f"{self._records:,} pax records for {self._members:,} members")

    def unpacked(self, total: int) -> None:
        if total > self._limits.max_bytes:
            self._refuse(f"more than {self._limits.max_bytes:,} bytes")
        most = self._limits.max_ratio * self._packed_bytes
        if total > self._limits.ratio_from_bytes and total > most:
            self._refuse(
                f"more than {self._limits.max_ratio} times its {self._packed_bytes:,} bytes"
            )

    def _refuse(self, size: str) -> None:
        raise JobError(
            f"The archive {self._archive} is refused as a decompression bomb: at {self.position} "
            f"it has come to {size}."
        )


class _CappedReads:
    """A seekable file whose single reads are limited to _LONGEST_READ bytes."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.seek = stream.seek
        self.tell = stream.tell

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size > _LONGEST_READ:
            raise ValueError(f"{size:,} bytes in one read, expected at most {_LONGEST_READ:,}")
        data = self._stream.read(size if size >= 0 else _LONGEST_READ)
        if size < 0 and self._stream.read(1):
            raise ValueError(f"more than {_LONGEST_READ:,} bytes in one read")
        return data


class _ForwardReads:
    """A file for tarfile over a stream that only goes forward, within the meter's limits.

    tarfile seeks forward to the next header and reads the byte before it, to check that the data is
    complete: this is the only step back.
    """

    def __init__(self, stream: IO[bytes], meter: _Meter) -> None:
        self._stream = stream
        self._meter = meter
        self._read = 0
        self._position = 0
        self._last = b""
        self._header_bytes: int | None = None
        self.last_block = b""

    @contextmanager
    def headers(self) -> Iterator[None]:
        """Limit the bytes read inside this context to those of one member's headers."""
        self._header_bytes = 0
        try:
            yield
        finally:
            self._header_bytes = None

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        self._position = position
        return position

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _LONGEST_READ:
            raise ValueError(f"{size:,} bytes in one read, expected at most {_LONGEST_READ:,}")
        if self._header_bytes is not None:
            self._header_bytes += size
            if self._header_bytes > _MOST_HEADER_BYTES:
                raise ValueError(f"its headers have more than {_MOST_HEADER_BYTES:,} bytes")
        while self._read < self._position:
            if not self._take(min(self._position - self._read, _SKIP_BYTES)):
                return b""
        stepped_back = self._read - self._position
        if stepped_back not in (0, len(self._last)):
            raise ValueError("its parts overlap")
        data = self._last[:size] if stepped_back else b""
        data += self._take(size - len(data))
        self._position = self._read
        if size == _TAR_BLOCK:
            self.last_block = data
        if self._header_bytes is not None:
            self._meter.records(data.count(b"\n"))
        return data

    def _take(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._read += len(data)
        self._last = data[-1:] or self._last
        self._meter.unpacked(self._read)
        return data


def _open_zip(stream: BinaryIO, name: str, limits: ArchiveLimits, meter: _Meter) -> Archive:
    with _damage_of(name, meter):
        archive = zipfile.ZipFile(cast(BinaryIO, _CappedReads(stream)))
    members = archive.infolist()
    unpacked = 0
    for member in members:
        unpacked += member.file_size
        meter.count(readable(member.filename[:_LONGEST_PATH]))
        meter.unpacked(unpacked)
    files = sum(not _is_folder(member) for member in members)
    return Archive(_zip_entries(archive, members, limits), files)


def _is_folder(member: zipfile.ZipInfo) -> bool:
    return member.filename.endswith("/")  # ZipInfo.is_dir fails at an empty name, before 3.12


def _zip_entries(
    archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], limits: ArchiveLimits
) -> Iterator[Entry]:
    for member in members:
        kind = stat.S_IFMT(member.external_attr >> 16)
        entry = _entry(
            member.filename,
            member.file_size,
            is_folder=_is_folder(member),
            is_link=kind == stat.S_IFLNK,
            is_file=kind in (0, stat.S_IFREG),
            limits=limits,
        )
        if isinstance(entry, _Member):
            yield _read_zip_member(archive, member, entry)
        elif entry is not None:
            yield entry


def _read_zip_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, entry: "_Member"
) -> File | Refused:
    name, parts = entry.name, entry.parts
    if member.flag_bits & _ENCRYPTED:
        return Refused(name, parts, "member.encrypted", "the member is encrypted")
    if member.compress_type not in _ZIP_COMPRESSIONS:
        reason = f"compression method {member.compress_type} is not read"
        return Refused(name, parts, "member.compression", reason)
    try:
        with archive.open(member) as file:
            data = file.read(member.file_size)
            file.read(1)  # zipfile compares the checksum at the end of the data
    except _DAMAGE as error:
        return Refused(name, parts, "member.damaged", f"the member is damaged: {error}")
    return File(name, parts, _Bytes(data), len(data))


def _tar_entries(
    stream: BinaryIO, name: str, limits: ArchiveLimits, meter: _Meter
) -> Iterator[Entry]:
    zipped = stream.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    stream.seek(0)
    unzipped: IO[bytes] = cast(IO[bytes], GzipFile(fileobj=stream)) if zipped else stream
    file = _ForwardReads(unzipped, meter)
    with _damage_of(name, meter), file.headers():
        archive = tarfile.TarFile(fileobj=cast(IO[bytes], file))
    while (member := _next_tar_member(archive, file, name, meter)) is not None:
        meter.count(readable(member.name[:_LONGEST_PATH]))
        entry = _entry(
            member.name,
            member.size,
            is_folder=member.isdir(),
            is_link=member.issym() or member.islnk(),
            is_file=member.isreg() and not member.issparse(),
            limits=limits,
        )
        if isinstance(entry, _Member):
            with _damage_of(name, meter):
                file.seek(member.offset_data)
                data = file.read(member.size)
                if len(data) < member.size:
                    raise EOFError("it ends within the member")
            yield File(entry.name, entry.parts, _Bytes(data), len(data))
        elif entry is not None:
            yield entry
    if file.last_block != bytes(_TAR_BLOCK):
        # tarfile treats a truncated or garbled header as the end of the archive.
        raise JobError(f"The archive {name} is damaged or cut off after {meter.position}.")


def _next_tar_member(
    archive: tarfile.TarFile, file: _ForwardReads, name: str, meter: _Meter
) -> tarfile.TarInfo | None:
    with _damage_of(name, meter), file.headers():
        member = archive.next()
        globally = archive.pax_headers
        if len(globally) > _MOST_GLOBALS or (
            sum(len(key) + len(value) for key, value in globally.items()) > _MOST_GLOBAL_BYTES
        ):
            raise ValueError(
                f"its global headers are more than {_MOST_GLOBALS}, or than "
                f"{_MOST_GLOBAL_BYTES:,} characters"
            )
    # tarfile keeps every member, and a million of them are a gigabyte.
    archive.members.clear()  # type: ignore[attr-defined]
    return member


@dataclass(frozen=True, slots=True)
class _Bytes:
    """A `File.read` that returns bytes already in memory."""

    data: bytes

    def __call__(self) -> bytes:
        return self.data


@dataclass(frozen=True, slots=True)
class _Member:
    """A member to be read."""

    name: str
    parts: tuple[str, ...]


def _entry(
    path: str, size: int, *, is_folder: bool, is_link: bool, is_file: bool, limits: ArchiveLimits
) -> _Member | FolderSeen | Refused | Ignored | None:
    """The entry of a member, before its data is read; None where it is ignored silently."""
    if len(path) > _LONGEST_PATH:
        reason = f"its path has {len(path):,} characters, the limit is {_LONGEST_PATH:,}"
        return Refused(one_line(readable(path[:_LONGEST_PATH])), (), "member.path", reason)
    name = readable(path)
    try:
        parts = safe_parts(path)
    except UnsafePath as error:
        return Refused(name, (), "member.path", str(error))
    if is_folder:
        return FolderSeen(parts) if parts and not is_system_path(parts) else None
    if is_ignored(parts):
        return ignored_entry(name, parts)
    if is_link:
        return Refused(name, parts, "member.link", "links are not followed")
    if not is_file:
        return Refused(name, parts, "member.special", "neither a file nor a folder")
    return refusal(name, parts, size, limits.max_member_bytes) or _Member(name, parts)


@contextmanager
def _damage_of(archive: str, meter: _Meter) -> Iterator[None]:
    """Raise the standard library's errors at damaged bytes as a JobError."""
    try:
        yield
    except _DAMAGE as error:
        raise JobError(
            f"The archive {archive} is damaged at or after {meter.position}: {error}."
        ) from error
