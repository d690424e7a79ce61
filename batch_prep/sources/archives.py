"""Zip and tar archives from strangers, read member by member and never unpacked to disk.

A member that cannot be used is refused with its reason and the rest is read. An archive that is
damaged, or that would unpack to far more than it is (a bomb), ends the job.
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
    is_ignored,
    is_system_path,
    passed_over,
    readable,
    refusal,
    safe_parts,
)
from droplens.domain.text import one_line

# No member that is read is longer, and what tarfile and zipfile read in one piece besides (a zip's
# directory, a tar's long names) has no business to be.
_LONGEST_READ = 32 * 1024 * 1024
_SKIP_BYTES = 1024 * 1024
# Linux opens no longer path, and S3 has no key that is.
_LONGEST_PATH = 4096
# What a tar says of one member before its data: a long path takes 4 KB, a picture's thumbnail among
# its extended attributes 100 KB.
_MOST_HEADER_BYTES = 1024 * 1024
# Of pax records, a line each, archivers write some ten for a member. tarfile takes microseconds
# for every one, and gzip packs a million of them into kilobytes.
_RECORDS_PER_MEMBER, _FURTHER_RECORDS = 30, 100_000
# What holds for all members that follow is looked at anew for each of them: git writes one.
_MOST_GLOBALS, _MOST_GLOBAL_BYTES = 100, 64 * 1024
_TAR_BLOCK = 512
_GZIP_MAGIC = b"\x1f\x8b"
# LZMA is left out: a member's header may ask for 4 GB of memory.
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
    """Where an archive stops being a dataset.

    max_member_bytes: a longer member is refused, the rest is read.
    max_members, max_bytes: more of them, unpacked, and the archive is refused.
    max_ratio: unpacked by packed size, looked at from ratio_from_bytes unpacked: photographs
        hardly shrink, but a small archive of white bitmaps is nobody's attack.
    """

    max_member_bytes: int = 25 * 1024 * 1024
    max_members: int = 1_000_000
    max_bytes: int = 256 * 1024**3
    max_ratio: int = 100
    ratio_from_bytes: int = 1024**3


@dataclass(frozen=True, slots=True)
class Archive:
    """An opened archive: its entries, to be taken once.

    total: how many of them may be files, None where only the end of the archive tells.
    """

    entries: Iterator[Entry]
    total: int | None


def open_archive(stream: BinaryIO, name: str, limits: ArchiveLimits) -> Archive:
    """The archive in `stream`, a zip by its name's ending or else a tar, gzipped or not.

    Raises JobError, also while the entries are taken, where it is damaged or a bomb.
    """
    meter = _Meter(name, stream.seek(0, io.SEEK_END), limits)
    stream.seek(0)
    if name.lower().endswith(".zip"):
        return _open_zip(stream, name, limits, meter)
    return Archive(_tar_entries(stream, name, limits, meter), None)


class _Meter:
    """Counts what an archive unpacks to and stops at the limits."""

    def __init__(self, archive: str, packed_bytes: int, limits: ArchiveLimits) -> None:
        self._archive = archive
        self._packed_bytes = packed_bytes
        self._limits = limits
        self._members = 0
        self._records = 0
        self.place = "its beginning"

    def count(self, member: str) -> None:
        self.place = member
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
            f"The archive {self._archive} is refused as a decompression bomb: at {self.place} it "
            f"has come to {size}."
        )


class _CappedReads:
    """A seekable file that refuses to read more than one piece's worth into memory."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.seek = stream.seek
        self.tell = stream.tell

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size > _LONGEST_READ:
            raise ValueError(f"{size:,} bytes in one piece, expected at most {_LONGEST_READ:,}")
        data = self._stream.read(size if size >= 0 else _LONGEST_READ)
        if size < 0 and self._stream.read(1):
            raise ValueError(f"more than {_LONGEST_READ:,} bytes in one piece")
        return data


class _ForwardReads:
    """A file for tarfile over a stream that only goes forward, within the meter's limits.

    tarfile seeks ahead to the next header and, to see whether the data before it is all there,
    reads the one byte before that header: the only step back that is ever needed.
    """

    def __init__(self, stream: IO[bytes], meter: _Meter) -> None:
        self._stream = stream
        self._meter = meter
        self._read = 0
        self._wanted = 0
        self._last = b""
        self._header_bytes: int | None = None
        self.last_block = b""

    @contextmanager
    def headers(self) -> Iterator[None]:
        """What is read meanwhile says of one member what it is: at most so many bytes."""
        self._header_bytes = 0
        try:
            yield
        finally:
            self._header_bytes = None

    def tell(self) -> int:
        return self._wanted

    def seek(self, position: int) -> int:
        self._wanted = position
        return position

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _LONGEST_READ:
            raise ValueError(f"{size:,} bytes in one piece, expected at most {_LONGEST_READ:,}")
        if self._header_bytes is not None:
            self._header_bytes += size
            if self._header_bytes > _MOST_HEADER_BYTES:
                raise ValueError(f"its headers have more than {_MOST_HEADER_BYTES:,} bytes")
        while self._read < self._wanted:
            if not self._take(min(self._wanted - self._read, _SKIP_BYTES)):
                return b""
        stepped_back = self._read - self._wanted
        if stepped_back not in (0, len(self._last)):
            raise ValueError("its parts overlap")
        data = self._last[:size] if stepped_back else b""
        data += self._take(size - len(data))
        self._wanted = self._read
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
    return member.filename.endswith("/")  # its own is_dir fails at an empty name, before 3.12


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
        if isinstance(entry, _Wanted):
            yield _read_zip_member(archive, member, entry)
        elif entry is not None:
            yield entry


def _read_zip_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, wanted: "_Wanted"
) -> File | Refused:
    name, parts = wanted.name, wanted.parts
    if member.flag_bits & _ENCRYPTED:
        return Refused(name, parts, "member.encrypted", "the member is encrypted")
    if member.compress_type not in _ZIP_COMPRESSIONS:
        reason = f"compression method {member.compress_type} is not read"
        return Refused(name, parts, "member.compression", reason)
    try:
        with archive.open(member) as file:
            data = file.read(member.file_size)
            file.read(1)  # the end of the data is where the checksum is compared
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
        if isinstance(entry, _Wanted):
            with _damage_of(name, meter):
                file.seek(member.offset_data)
                data = file.read(member.size)
                if len(data) < member.size:
                    raise EOFError("it ends within the member")
            yield File(entry.name, entry.parts, _Bytes(data), len(data))
        elif entry is not None:
            yield entry
    if file.last_block != bytes(_TAR_BLOCK):
        # tarfile takes a cut or garbled header for the end of the archive.
        raise JobError(f"The archive {name} is damaged or cut off after {meter.place}.")


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
    """Bytes that were read ahead, as `File.read` gives them."""

    data: bytes

    def __call__(self) -> bytes:
        return self.data


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A member that is to be read."""

    name: str
    parts: tuple[str, ...]


def _entry(
    path: str, size: int, *, is_folder: bool, is_link: bool, is_file: bool, limits: ArchiveLimits
) -> _Wanted | FolderSeen | Refused | Ignored | None:
    """What becomes of a member, before its data is touched; None where nobody misses it."""
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
        return passed_over(name, parts)
    if is_link:
        return Refused(name, parts, "member.link", "links are not followed")
    if not is_file:
        return Refused(name, parts, "member.special", "neither a file nor a folder")
    return refusal(name, parts, size, limits.max_member_bytes) or _Wanted(name, parts)


@contextmanager
def _damage_of(archive: str, meter: _Meter) -> Iterator[None]:
    """Turn what the standard library raises at damaged bytes into the job's sentence."""
    try:
        yield
    except _DAMAGE as error:
        raise JobError(
            f"The archive {archive} is damaged at or after {meter.place}: {error}."
        ) from error
