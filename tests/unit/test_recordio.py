"""Record files: what is written is read back, and damage is told by its place."""

import struct
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droplens.recordio import (
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


def written(records: list[Record]) -> tuple[bytes, str]:
    rec, idx = BytesIO(), BytesIO()
    with RecordWriter(rec, idx) as writer:
        for record in records:
            writer.write(record.id, record.label, record.payload)
    assert writer.count == len(records)
    assert writer.bytes == len(rec.getvalue())
    return rec.getvalue(), idx.getvalue().decode()


@given(st.lists(PAYLOADS, max_size=6))
def test_records_are_read_back_in_order(payloads: list[bytes]) -> None:
    records = [Record(float(number % 3), number, data) for number, data in enumerate(payloads)]
    data, _ = written(records)
    assert len(data) % 4 == 0
    assert list(read_records(BytesIO(data))) == records


@given(st.lists(PAYLOADS, min_size=1, max_size=6))
def test_each_record_is_read_by_its_place_in_the_index(payloads: list[bytes]) -> None:
    records = [Record(1.0, 10 + number, data) for number, data in enumerate(payloads)]
    data, index = written(records)
    places = read_index(index)
    assert [id_ for id_, _ in places] == [record.id for record in records]
    ends = [offset for _, offset in places[1:]] + [len(data)]
    for record, (_, start), end in zip(records, places, ends, strict=True):
        assert parse_record(data[start:end]) == record


def test_a_record_without_an_index_is_laid_out_as_the_format_says() -> None:
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
