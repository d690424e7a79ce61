"""dataset.json as the functions read it."""

import json

import pytest

from droplens.records.manifest import parse_manifest

MANIFEST = {
    "classes": ["a", "b"],
    "counts": {"train": 8, "validation": 2},
    "preprocessing": {"shorter_side": 388, "crop": None, "quality": 95},
    "bytes": {"train/train.rec": 70, "validation/validation.rec": 30, "classes.json": 9},
    "digest": "d",
}


@pytest.mark.parametrize(
    ("more", "expected"),
    [({}, 1.0), ({"aspect_ratios": {"p0": 0.5, "p50": 1.333, "p100": 2}}, 1.333)],
)
def test_the_median_aspect_ratio_is_that_of_a_square_where_none_was_written(
    more: dict[str, object], expected: float
) -> None:
    dataset = parse_manifest("packed/", json.dumps(MANIFEST | more).encode())
    assert dataset.aspect_ratio == expected
    assert dataset.bytes == 100
