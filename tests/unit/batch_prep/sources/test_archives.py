"""Archives from strangers: what is read, what is refused, and what ends the job."""

import gzip
import io
import struct
import tarfile
import time
import tracemalloc
import zipfile
from collections import deque
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest

from batch_prep.errors import JobError
from batch_prep.sources.archives import ArchiveLimits, open_archive
from batch_prep.sources.entries import Entry, File, FolderSeen, Ignored, Refused

LIMITS = ArchiveLimits()
Member = tuple[str, bytes]


def zip_of(*members: Member, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    data = BytesIO()
    with zipfile.ZipFile(data, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return data.getvalue()


def tar_of(*members: Member | tarfile.TarInfo, mode: Any = "w", **options: Any) -> bytes:
    data = BytesIO()
    with tarfile.open(fileobj=data, mode=mode, **options) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, BytesIO(member[1]))
    return data.getvalue()


def tgz_of(*members: Member) -> bytes:
    return tar_of(*members, mode="w:gz")


def entries(data: bytes, name: str, limits: ArchiveLimits = LIMITS) -> list[Entry]:
    return list(open_archive(BytesIO(data), name, limits).entries)


def files(found: list[Entry]) -> dict[str, bytes]:
    return {entry.name: entry.read() for entry in found if isinstance(entry, File)}


def refused(found: list[Entry]) -> dict[str, tuple[str, str]]:
    return {entry.name: (entry.code, entry.reason) for entry in found if isinstance(entry, Refused)}


KINDS = pytest.mark.parametrize(
    ("make", "name"),
    [(zip_of, "cars.zip"), (tar_of, "cars.tar"), (tgz_of, "cars.tar.gz"), (tgz_of, "cars.tgz")],
)
Make = Callable[..., bytes]


@KINDS
def test_members_are_read_whatever_their_names(make: Make, name: str) -> None:
    members = {
        "a/plain.jpg": b"1",
        "a/deep/er/x.jpg": b"2",
        "a/emoji 😀 é.jpg": b"3",
        "b/new\nline.jpg": b"4",
        "./b/dotted.jpg": b"5",
        f"b/{'long' * 50}.jpg": b"6",
        "b/block.jpg": bytes(range(256)) * 4,
        "b/empty.jpg": b"",
    }
    assert files(entries(make(*members.items()), name)) == members


def test_a_gzipped_tar_may_be_called_tar() -> None:
    assert files(entries(tgz_of(("a/x.jpg", b"1")), "cars.tar")) == {"a/x.jpg": b"1"}


@KINDS
@pytest.mark.parametrize(
    ("evil", "reason"),
    [
        ("../evil.jpg", "'..'"),
        ("a/../../evil.jpg", "'..'"),
        ("/etc/evil.jpg", "absolute"),
        ("..\\evil.jpg", "'..'"),
        ("C:\\evil.jpg", "absolute"),
        ("\\\\host\\share\\evil.jpg", "absolute"),
    ],
)
def test_a_path_that_leads_out_is_refused_and_the_rest_read(
    make: Make, name: str, evil: str, reason: str
) -> None:
    found = entries(make((evil, b"evil"), ("a/x.jpg", b"1")), name)
    assert files(found) == {"a/x.jpg": b"1"}
    ((code, why),) = refused(found).values()
    assert code == "member.path"
    assert reason in why


@KINDS
def test_what_systems_leave_in_archives_is_passed_over(make: Make, name: str) -> None:
    found = entries(
        make(
            ("__MACOSX/a/._x.jpg", b"?"),
            ("a/.DS_Store", b"?"),
            ("a/Thumbs.db", b"?"),
            ("README.md", b"?"),
            ("stray.jpg", b"?"),
            ("_READY", b""),
            ("a/x.jpg", b"1"),
        ),
        name,
    )
    assert [entry for entry in found if isinstance(entry, Ignored)] == [
        Ignored("__MACOSX/a/._x.jpg", by_system=True),
        Ignored("a/.DS_Store", by_system=True),
        Ignored("a/Thumbs.db", by_system=True),
        Ignored("stray.jpg", by_system=False),
    ]
    others = [entry.name for entry in found if not isinstance(entry, FolderSeen | Ignored)]
    assert others == ["a/x.jpg"]


@KINDS
def test_what_is_no_picture_by_its_name_is_refused_unread(make: Make, name: str) -> None:
    found = entries(make(("a/inner.zip", zip_of(("x", b"y"))), ("a/notes.TXT", b"words")), name)
    assert refused(found) == {
        "a/inner.zip": ("file.archive", "an archive within the dataset is not opened"),
        "a/notes.TXT": ("file.not_a_picture", "a file ending in .TXT"),
    }


@KINDS
def test_a_member_above_the_limit_is_refused_and_the_rest_read(make: Make, name: str) -> None:
    limits = ArchiveLimits(max_member_bytes=1000)
    found = entries(make(("a/big.jpg", bytes(1001)), ("a/x.jpg", bytes(1000))), name, limits)
    assert list(files(found)) == ["a/x.jpg"]
    assert refused(found)["a/big.jpg"][0] == "image.too_large"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (tarfile.SYMTYPE, "member.link"),
        (tarfile.LNKTYPE, "member.link"),
        (tarfile.CHRTYPE, "member.special"),
        (tarfile.BLKTYPE, "member.special"),
        (tarfile.FIFOTYPE, "member.special"),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, code: str) -> None:
    special = tarfile.TarInfo("a/special.jpg")
    special.type = kind
    special.linkname = "/etc/passwd"
    found = entries(tar_of(special, ("a/x.jpg", b"1")), "cars.tar")
    assert files(found) == {"a/x.jpg": b"1"}
    assert refused(found)["a/special.jpg"][0] == code


def test_a_sparse_file_in_a_tar_is_refused() -> None:
    header = bytearray(tar_of(("a/sparse.jpg", b"")))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[386 : 386 + 24] = b"00000000000\0" + b"00000000000\0"  # one empty piece
    header[483 : 483 + 12] = b"77777777777\0"  # 8 GiB when it is expanded
    header[257:265] = b"ustar  \0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    found = entries(bytes(header), "cars.tar")
    assert refused(found)["a/sparse.jpg"][0] == "member.special"


@pytest.mark.parametrize(
    ("mode", "code"), [(0o120777, "member.link"), (0o020666, "member.special")]
)
def test_links_and_devices_in_a_zip_are_refused(mode: int, code: str) -> None:
    data = BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        link = zipfile.ZipInfo("a/link.jpg")
        link.external_attr = mode << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("a/x.jpg", b"1")
    found = entries(data.getvalue(), "cars.zip")
    assert files(found) == {"a/x.jpg": b"1"}
    assert refused(found)["a/link.jpg"][0] == code


def test_an_encrypted_member_of_a_zip_is_refused() -> None:
    data = bytearray(zip_of(("a/secret.jpg", b"secret"), ("a/x.jpg", b"1")))
    local, central = data.index(b"PK\x03\x04"), data.index(b"PK\x01\x02")
    data[local + 6] |= 1
    data[central + 8] |= 1
    found = entries(bytes(data), "cars.zip")
    assert files(found) == {"a/x.jpg": b"1"}
    assert refused(found)["a/secret.jpg"] == ("member.encrypted", "the member is encrypted")


def test_a_compression_that_can_ask_for_gigabytes_is_refused() -> None:
    found = entries(zip_of(("a/x.jpg", b"1"), compression=zipfile.ZIP_LZMA), "cars.zip")
    assert refused(found)["a/x.jpg"][0] == "member.compression"


def test_a_damaged_member_of_a_zip_is_refused_and_the_rest_read() -> None:
    data = bytearray(
        zip_of(("a/bad.jpg", b"B" * 99), ("a/x.jpg", b"1"), compression=zipfile.ZIP_STORED)
    )
    data[data.index(b"BBBB")] ^= 1
    found = entries(bytes(data), "cars.zip")
    assert files(found) == {"a/x.jpg": b"1"}
    code, reason = refused(found)["a/bad.jpg"]
    assert code == "member.damaged"
    assert "CRC" in reason


@KINDS
def test_folders_are_seen_also_with_nothing_in_them(make: Make, name: str) -> None:
    if make is zip_of:
        data = zip_of(("a/", b""), ("b/c/", b""))
    else:
        folders = [tarfile.TarInfo(path) for path in ("a/", "b/c/", ".")]
        for folder in folders:
            folder.type = tarfile.DIRTYPE
        data = tar_of(*folders, mode="w:gz" if make is tgz_of else "w")
    assert entries(data, name) == [FolderSeen(("a",)), FolderSeen(("b", "c"))]


@KINDS
def test_an_archive_cut_off_anywhere_ends_the_job(make: Make, name: str) -> None:
    pictures = [(f"a/{number}.jpg", bytes([number]) * 700) for number in range(4)]
    data = make(*pictures)
    ends = range(1, len(data), 97) if make is not tar_of else range(1, 6 * 512 + 1, 97)
    for end in ends:
        with pytest.raises(JobError, match=name):
            entries(data[:end], name)


@KINDS
def test_what_is_no_archive_ends_the_job(make: Make, name: str) -> None:
    for data in (b"", b"<html>Not found</html>", b"\x1f\x8b garbage"):
        with pytest.raises(JobError, match=f"The archive {name} is damaged"):
            entries(data, name)
    assert files(entries(make(("a/x.jpg", b"1")), name)) == {"a/x.jpg": b"1"}


def test_a_damaged_tar_names_the_member_before_the_damage() -> None:
    data = bytearray(tar_of(("a/first.jpg", b"1"), ("a/second.jpg", b"2")))
    data[1024 + 10] ^= 1  # in the second member's header
    with pytest.raises(JobError, match=r"cut off after a/first\.jpg"):
        entries(bytes(data), "cars.tar")


@KINDS
def test_too_many_members_end_the_job(make: Make, name: str) -> None:
    members = [(f"a/{number}.jpg", b"") for number in range(6)]
    assert len(entries(make(*members), name, ArchiveLimits(max_members=6))) == 6
    with pytest.raises(JobError, match=r"bomb: at a/5\.jpg it has come to more than 5 members"):
        entries(make(*members), name, ArchiveLimits(max_members=5))


@KINDS
def test_too_many_bytes_end_the_job(make: Make, name: str) -> None:
    members = [(f"a/{number}.jpg", bytes(5000)) for number in range(4)]
    with pytest.raises(JobError, match=r"bomb: at a/\d\.jpg it has come to more than 9,000 bytes"):
        entries(make(*members), name, ArchiveLimits(max_bytes=9000))


@pytest.mark.parametrize(("make", "name"), [(zip_of, "cars.zip"), (tgz_of, "cars.tgz")])
@pytest.mark.parametrize("member", ["a/zeros.jpg", "a/zeros.txt"])
def test_a_bomb_ends_the_job_before_it_is_unpacked(make: Make, name: str, member: str) -> None:
    data = make(("a/x.jpg", b"1"), (member, bytes(30_000_000)))
    assert len(data) < 40_000
    limits = ArchiveLimits(ratio_from_bytes=1_000_000)
    with pytest.raises(JobError, match=r"bomb: at a/\w+\.\w+ it has come to more than 100 times"):
        entries(data, name, limits)


def test_a_bomb_in_a_tars_long_name_ends_the_job() -> None:
    name = tarfile.TarInfo("././@LongLink")
    name.type = tarfile.GNUTYPE_LONGNAME
    name.size = 40 * 1024 * 1024
    plain = name.tobuf(tarfile.GNU_FORMAT) + bytes(name.size)
    for data in (plain, gzip.compress(plain)):
        with pytest.raises(JobError, match="bytes in one read"):
            entries(data, "cars.tar.gz")


def test_a_chain_of_long_names_ends_the_job() -> None:
    name = tarfile.TarInfo("././@LongLink")
    name.type = tarfile.GNUTYPE_LONGNAME
    name.size = 2
    link = name.tobuf(tarfile.GNU_FORMAT) + b"x\0".ljust(512, b"\0")
    with pytest.raises(JobError, match=r"cars\.tar is damaged"):
        entries(link * 5000 + bytes(1024), "cars.tar")


def test_a_member_of_negative_size_ends_the_job() -> None:
    header = bytearray(tarfile.TarInfo("a/x.jpg").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + struct.pack(">h", -512)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    with pytest.raises(JobError, match=r"cars\.tar is damaged"):
        entries(bytes(header) * 3, "cars.tar")


def test_a_zip_whose_members_overlap_is_held_to_its_limits() -> None:
    # Every entry of the directory points at the same member: a small file that declares much.
    data = BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/0.jpg", bytes(1_000_000))
        kernel = archive.infolist()[0]
        for number in range(1, 50):
            copy = zipfile.ZipInfo(f"a/{number}.jpg")
            for field in ("compress_type", "CRC", "compress_size", "file_size", "header_offset"):
                setattr(copy, field, getattr(kernel, field))
            archive.filelist.append(copy)
            archive.NameToInfo[copy.filename] = copy
    with pytest.raises(JobError, match="bomb"):
        entries(data.getvalue(), "cars.zip", ArchiveLimits(ratio_from_bytes=1_000_000))


def test_a_zip_whose_directory_would_fill_the_memory_ends_the_job() -> None:
    # The end record asks zipfile to read 40 MB of directory in one piece.
    directory = bytes(40_000_000)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 9, 9, len(directory), 0, 0)
    with pytest.raises(JobError, match="bytes in one read"):
        entries(directory + end, "cars.zip")


def test_a_member_of_a_zip_without_a_name_is_not_missed() -> None:
    data = zip_of(("?", b"1"), ("a/x.jpg", b"1")).replace(b"?", b"\0")
    assert files(entries(data, "cars.zip")) == {"a/x.jpg": b"1"}


def test_the_total_is_known_for_a_zip_and_not_for_a_tar() -> None:
    members = (("a/x.jpg", b"1"), ("b/y.jpg", b"2"))
    zipped = open_archive(BytesIO(zip_of(("a/", b""), *members)), "cars.zip", LIMITS)
    assert zipped.total == 2
    assert open_archive(BytesIO(tar_of(*members)), "cars.tar", LIMITS).total is None


def test_a_tar_is_read_without_being_held_in_memory() -> None:
    class Counting(io.BytesIO):
        largest = 0

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            self.largest = max(self.largest, len(data))
            return data

    stream = Counting(tar_of(*((f"a/{number}.jpg", bytes(100_000)) for number in range(50))))
    archive = open_archive(stream, "cars.tar", LIMITS)
    assert sum(isinstance(entry, File) for entry in archive.entries) == 50
    assert stream.largest == 100_000


# ---- what a tar says of its members


def header(name: bytes, size: int = 0, kind: bytes = b"0") -> bytes:
    """One block as ustar has it (pubs.opengroup.org, pax, "ustar Interchange Format")."""
    block = bytearray(512)
    block[0 : len(name)] = name[:100]
    block[100:108] = b"0000644\0"
    block[124:136] = b"%011o\0" % size
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def member(name: bytes, content: bytes, kind: bytes = b"0") -> bytes:
    return header(name, len(content), kind) + content + bytes(-len(content) % 512)


def record(key: bytes, value: bytes) -> bytes:
    """A line of an extended header, which begins with its own length."""
    body = b" " + key + b"=" + value + b"\n"
    length = len(body)
    while len(b"%d" % length) + len(body) != length:
        length += 1
    return b"%d" % length + body


END = bytes(1024)
PICTURE = member(b"a/x.jpg", b"picture")
MIB = 2**20


def of_records(count: int, kind: bytes = b"x") -> bytes:
    return member(b"pax", b"".join(record(b"k%d" % i, b"") for i in range(count)), kind)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: member(b"pax", record(b"path", b"a/" + b"x" * 30 * MIB), b"x"),
         "headers have more than"),
        (lambda: member(b"pax", record(b"k", b"x" * 30 * MIB), b"g"), "headers have more than"),
        (lambda: member(b"././@LongLink", b"a/" + b"x" * 30 * MIB, b"L"), "headers have more than"),
        (lambda: member(b"././@LongLink", b"a/" + b"x" * 30 * MIB, b"K"), "headers have more than"),
        (lambda: b"".join(
            member(b"p", record(b"k%d" % i, b"x" * 30_000), b"g") for i in range(9)
        ), "global headers are more than"),
        (lambda: of_records(101, b"g"), "global headers are more than 100"),
        (lambda: (of_records(99, b"g") + PICTURE) * 2000, "pax records for"),
        (lambda: (of_records(1000) + PICTURE) * 200, "pax records for"),
        (lambda: of_records(150_000), "headers have more than|pax records for"),
        (lambda: member(
            b"pax", record(b"GNU.sparse.major", b"1") + record(b"GNU.sparse.minor", b"0"), b"x"
        ) + member(b"a/s.jpg", b"9999999\n" + b"0\n" * 4 * MIB), "headers have more than|records"),
        (lambda: of_records(1) * 3000, "recursion|headers have more than"),
    ],
    ids=["path", "global", "long name", "long link", "globals", "keys", "keys by members",
         "records", "one header", "sparse map", "chain"],
)  # fmt: skip
def test_headers_that_unpack_to_more_than_pictures_end_the_job(
    make: Callable[[], bytes], why: str
) -> None:
    """Seconds and gigabytes otherwise: 788 KB became 1 GB, 8 MB would have taken 60 hours."""
    bomb = make()
    spent = time.process_time()
    tracemalloc.start()
    packed = gzip.compress(bomb + PICTURE + END, 1)
    with pytest.raises(JobError, match=why) as refusal:
        deque(open_archive(BytesIO(packed), "x.tgz", LIMITS).entries, maxlen=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(refusal.value).isprintable()
    assert peak - len(bomb) < 64 * MIB
    assert time.process_time() - spent < 30  # under tracemalloc, which makes it ten times slower


def test_a_path_that_is_too_long_costs_its_member() -> None:
    name = b"c" * 600_000 + b"/x.jpg"
    data = member(b"././@LongLink", name, b"L") + PICTURE + END
    refusals = [one for one in entries(data, "x.tar") if isinstance(one, Refused)]
    assert [(one.code, len(one.name) < 3000) for one in refusals] == [("member.path", True)]
    assert "600,006 characters" in refusals[0].reason


def test_usual_headers_are_no_bomb() -> None:
    """As pax, git and macOS write them."""
    usual = [record(key, b"1700000000.123456789") for key in (b"mtime", b"atime", b"ctime")]
    usual.append(record(b"SCHILY.xattr.com.apple.metadata", b"x" * 100_000))
    data = member(b"pax_global_header", record(b"comment", b"f" * 40), b"g")
    for number in range(2000):
        own = usual[: 3 + (number == 0)]
        data += member(
            b"pax", b"".join([*own, record(b"path", b"a/%d \xc3\xa4.jpg" % number)]), b"x"
        )
        data += PICTURE
    assert len(files(entries(data + END, "x.tar"))) == 2000
