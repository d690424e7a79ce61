"""Spans as the parts of a multipart upload: every byte once, in order, within S3's bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_prep.storage import s3
from batch_prep.storage.folder import Span
from batch_prep.storage.s3 import parts_of

SMALLEST = 50


@given(st.lists(st.integers(1, 400), min_size=1, max_size=30))
def test_every_byte_comes_once_in_parts_that_s3_takes(lengths: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3, "_LARGEST_COPY", 2 * SMALLEST)
        spans = [Span(str(n), 7 * n, 7 * n + length) for n, length in enumerate(lengths)]
        parts = list(parts_of(spans, SMALLEST))
    for part in parts:
        size = sum(span.length for span in part)
        assert size <= 2 * SMALLEST
        assert size >= SMALLEST or part is parts[-1]
    given_bytes = [(span.path, at) for span in spans for at in range(span.start, span.end)]
    assert given_bytes == [
        (span.path, at) for part in parts for span in part for at in range(span.start, span.end)
    ]
