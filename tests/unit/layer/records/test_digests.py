"""The list by which an image is found in a packed dataset."""

import hashlib

import pytest

from droplens.records.digests import PackedFrom, digest_line, find, shortened

ONE, OTHER = (hashlib.sha256(data).hexdigest() for data in (b"one", b"other"))


def test_a_file_is_found_in_every_channel_that_has_it() -> None:
    lines = [
        digest_line(ONE, "train", 7),
        digest_line(OTHER, "train", 8),
        digest_line(ONE, "validation", 9),
    ]
    found = find((line.rstrip() for line in lines), frozenset({shortened(ONE)}))
    assert list(found) == [
        PackedFrom(shortened(ONE), "train", 7),
        PackedFrom(shortened(ONE), "validation", 9),
    ]


def test_a_damaged_line_of_the_file_is_refused() -> None:
    with pytest.raises(ValueError, match="unpack"):
        list(find([shortened(ONE).encode() + b" train"], frozenset({shortened(ONE)})))


def test_lines_of_other_files_are_not_read() -> None:
    assert list(find([b"", b"\xff" * 40, b"x"], frozenset({shortened(ONE)}))) == []
