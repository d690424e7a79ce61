"""Which validation pictures the report shows, and how small."""

from collections.abc import Mapping
from io import BytesIO
from typing import Any

from droplens.pictures import decode

# Pictures in each of the two galleries, at about 5 KB: the page stays well below a megabyte.
GALLERY = 24
SIDE = 144
QUALITY = 70

Answer = Mapping[str, Any]


def worst(evaluation: Mapping[str, Any]) -> list[Answer]:
    """The wrong answers, the surest first."""
    wrong = [each for each in evaluation["answers"] if each["top"][0][0] != each["truth"]]
    return sorted(wrong, key=lambda each: (-each["top"][0][1], each["record"]))[:GALLERY]


def least_sure(evaluation: Mapping[str, Any]) -> list[Answer]:
    """The answers of the lowest probability."""
    answers: list[Answer] = evaluation["answers"]
    return sorted(answers, key=lambda each: (each["top"][0][1], each["record"]))[:GALLERY]


def wanted(evaluation: Mapping[str, Any]) -> list[int]:
    """The ids of the records whose pictures the report shows."""
    return sorted({each["record"] for each in [*worst(evaluation), *least_sure(evaluation)]})


def thumbnail(picture: bytes) -> bytes:
    """A small JPEG of a packed picture. Raises PictureError."""
    small, _ = decode(picture, shorter_side=SIDE)
    small.thumbnail((SIDE, SIDE))
    out = BytesIO()
    small.save(out, "JPEG", quality=QUALITY, optimize=True)
    return out.getvalue()
