"""Record files: what is written is read back, and damage is told by its place."""

import struct
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droplens.records import recordio
from droplens.records.recordio import (
    MAGIC,
    Record,
    RecordIOError,
    RecordWriter,
    parse_record,
    read_index,
    read_records,
)

MAGIC_BYTES = struct.pack("<I", MAGIC)
# Bytes in which the magic is frequent, at every alignment and as a beginning of itself.
PAYLOADS = st.lists(
    st.sampled_from([MAGIC_BYTES, MAGIC_BYTES[:3], MAGIC_BYTES[2:], b"\0", b"\n", b"abcd"])
    | st.binary(max_size=9),
    max_size=12,
).map(b"".join)


def written(records: list[Record]) -> tuple[bytes, list[int]]:
    """The file, and the offset of each record in it."""
    rec = BytesIO()
    with RecordWriter(rec) as writer:
        places = [writer.write(record.id, record.label, record.payload) for record in records]
    assert writer.bytes == len(rec.getvalue())
    return rec.getvalue(), places


@given(st.lists(PAYLOADS, max_size=6))
def test_records_are_read_back_in_order(payloads: list[bytes]) -> None:
    records = [Record(float(number % 3), number, data) for number, data in enumerate(payloads)]
    data, _ = written(records)
    assert len(data) % 4 == 0
    assert list(read_records(BytesIO(data))) == records


@given(st.lists(PAYLOADS, min_size=1, max_size=6))
def test_each_record_is_read_by_its_place(payloads: list[bytes]) -> None:
    records = [Record(1.0, 10 + number, data) for number, data in enumerate(payloads)]
    data, places = written(records)
    for record, start, end in zip(records, places, [*places[1:], len(data)], strict=True):
        assert parse_record(data[start:end]) == record


def test_a_record_is_laid_out_as_the_format_says() -> None:
    rec = BytesIO()
    assert RecordWriter(rec).write(7, 2, b"JPEG!") == 0
    header = struct.pack("<IfQQ", 0, 2.0, 7, 0)
    assert rec.getvalue() == (
        MAGIC_BYTES + struct.pack("<I", len(header) + 5) + header + b"JPEG!" + bytes(3)
    )


def test_the_one_label_of_a_label_list_is_the_label() -> None:
    body = struct.pack("<IfQQf", 1, 0.0, 3, 0, 4.0) + b"data"
    framed = MAGIC_BYTES + struct.pack("<I", len(body)) + body
    assert parse_record(framed) == Record(4.0, 3, b"data")
    empty = MAGIC_BYTES + struct.pack("<I", len(body) - 4) + body[:-4]
    assert parse_record(empty) == Record(4.0, 3, b"")
    cut = MAGIC_BYTES + struct.pack("<I", 26) + body[:26] + bytes(2)
    with pytest.raises(RecordIOError, match="record at byte 0 has 1 labels"):
        parse_record(cut)


def test_several_labels_are_refused() -> None:
    body = struct.pack("<IfQQ2f", 2, 0.0, 3, 0, 4.0, 5.0)
    framed = MAGIC_BYTES + struct.pack("<I", len(body)) + body
    with pytest.raises(RecordIOError, match="record at byte 0 has 2 labels"):
        parse_record(framed)


@pytest.mark.parametrize("cut", [1, 4, 9, 35])
def test_a_file_that_ends_early_says_in_which_record(cut: int) -> None:
    data, _ = written([Record(0.0, 0, b"first"), Record(1.0, 1, b"the second")])
    reader = read_records(BytesIO(data[:-cut]))
    assert next(reader).payload == b"first"
    with pytest.raises(RecordIOError, match="ends inside the record at byte 40"):
        next(reader)


def test_bytes_that_are_no_records_say_where_the_magic_is_missing() -> None:
    data, _ = written([Record(0.0, 0, b"good")])
    reader = read_records(BytesIO(data + b"<html><body>"))
    next(reader)
    with pytest.raises(RecordIOError, match="no record begins at byte 36"):
        next(reader)


def test_a_middle_part_without_a_first_is_refused() -> None:
    with pytest.raises(RecordIOError, match="part 2 of a record is out of place at byte 0"):
        parse_record(MAGIC_BYTES + struct.pack("<I", 2 << 29 | 4) + b"abcd")


def test_bytes_behind_a_record_are_refused() -> None:
    data, _ = written([Record(0.0, 0, b"good")])
    with pytest.raises(RecordIOError, match="ends at byte 36 of 40"):
        parse_record(data + bytes(4))


def test_a_record_too_short_for_its_header_is_refused() -> None:
    with pytest.raises(RecordIOError, match="too short"):
        parse_record(MAGIC_BYTES + struct.pack("<I", 4) + b"abcd")


def test_an_index_line_that_is_none_is_named() -> None:
    with pytest.raises(RecordIOError, match="line 2"):
        read_index("0\t0\nnonsense\n")


def test_an_index_gives_ids_and_offsets() -> None:
    assert read_index("7\t0\n3\t40\n") == [(7, 0), (3, 40)]


def test_a_picture_that_holds_the_magic_is_cut_there() -> None:
    """dmlc-core's recordio.cc: the magic at a multiple of 4 is left out, and parts are numbered."""
    header = struct.pack("<IfQQ", 0, 2.0, 7, 0)
    rec = BytesIO()
    writer = RecordWriter(rec)
    magic_off_the_grid = b"a" + MAGIC_BYTES + b"bcd"
    writer.write(7, 2, MAGIC_BYTES + magic_off_the_grid + MAGIC_BYTES + MAGIC_BYTES + b"JPEG!")
    assert rec.getvalue() == b"".join(
        [
            MAGIC_BYTES + struct.pack("<I", 1 << 29 | 24) + header,
            MAGIC_BYTES + struct.pack("<I", 2 << 29 | 8) + magic_off_the_grid,
            MAGIC_BYTES + struct.pack("<I", 2 << 29 | 0),
            MAGIC_BYTES + struct.pack("<I", 3 << 29 | 5) + b"JPEG!" + bytes(3),
        ]
    )
    assert parse_record(rec.getvalue()).payload.count(MAGIC_BYTES) == 4


def test_the_magic_is_that_of_the_format() -> None:
    rec = BytesIO()
    RecordWriter(rec).write(0, 0, b"")
    assert rec.getvalue()[:4] == bytes.fromhex("0a23d7ce")


def test_a_length_of_29_bits_is_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    assert recordio.MAX_RECORD_BYTES == 536_870_911
    monkeypatch.setattr(recordio, "MAX_RECORD_BYTES", 63)
    rec = BytesIO()
    RecordWriter(rec).write(0, 0, bytes(63 - 24))
    assert len(parse_record(rec.getvalue()).payload) == 39
    with pytest.raises(RecordIOError, match="a record of 64 bytes is longer than the format's 63"):
        RecordWriter(rec).write(0, 0, bytes(64 - 24))


def test_parts_out_of_place_are_refused_with_their_place() -> None:
    first = MAGIC_BYTES + struct.pack("<I", 1 << 29 | 4) + b"abcd"
    whole = MAGIC_BYTES + struct.pack("<I", 4) + b"abcd"
    last = MAGIC_BYTES + struct.pack("<I", 3 << 29 | 4) + b"abcd"
    for second, part in ((first, 1), (whole, 0)):
        with pytest.raises(RecordIOError, match=f"part {part} of a record .* at byte 12"):
            parse_record(first + second)
    with pytest.raises(RecordIOError, match=r"part 3 of a record .* at byte 0"):
        parse_record(last)
    with pytest.raises(RecordIOError, match="no record begins at byte 12: the magic number"):
        parse_record(first + b"<html>....")
    with pytest.raises(RecordIOError, match="ends inside the record at byte 0"):
        parse_record(first)


def test_no_bytes_are_no_record() -> None:
    assert list(read_records(BytesIO())) == []
    with pytest.raises(RecordIOError, match="no bytes where a record was expected"):
        parse_record(b"")


def test_offsets_in_messages_count_from_the_file_s_beginning() -> None:
    good, _ = written([Record(0.0, 0, b"good"), Record(0.0, 1, b"good")])
    short = MAGIC_BYTES + struct.pack("<I", 4) + b"abcd"
    reader = read_records(BytesIO(good + short))
    next(reader)
    next(reader)
    with pytest.raises(RecordIOError, match="record at byte 72 is too short for an image header"):
        next(reader)


def test_records_reach_the_file_when_the_writer_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.rec"
    with path.open("wb") as file:
        with RecordWriter(file) as writer:
            writer.write(0, 0, b"JPEG!")
        assert path.stat().st_size == writer.bytes == 40
