"""How close packed pictures are to an ideal resize of their originals."""

import math
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from droplens.records.recordio import read_records

_SAMPLE = 300

# Where a picture's JPEG is found: its name in the dataset to the bytes.
Packed = dict[str, bytes]


def packed(records: Path) -> Packed:
    """Every picture in the .rec files below `records`, by the name in the .lst next to it."""
    found: Packed = {}
    for path in records.rglob("*.rec"):
        names = {
            int(line.split("\t")[0]): line.rstrip("\n").split("\t")[-1]
            for line in path.with_suffix(".lst").read_text().splitlines()
        }
        with path.open("rb") as file:
            found |= {names[record.id]: record.payload for record in read_records(file)}
    return found


def sample(*ways: Packed) -> list[str]:
    """The names of some pictures that every way has packed, evenly among all of them."""
    names = sorted(set.intersection(*(set(way) for way in ways)))
    return names[:: max(1, len(names) // _SAMPLE)]


def decibels(originals: Path, names: list[str], way: Packed) -> list[float]:
    """The PSNR of each named picture against its ideal at the same size.

    The ideal is a full decode, upright, resized by Lanczos in floating point.
    """
    return [_psnr(originals / name, way[name]) for name in names]


def _psnr(original: Path, jpeg: bytes) -> float:
    with Image.open(BytesIO(jpeg)) as picture:
        got = np.asarray(picture.convert("RGB"), np.float64)
    with Image.open(original) as picture:
        wanted = _ideal(ImageOps.exif_transpose(picture).convert("RGB"), got.shape[1], got.shape[0])
    error = float(np.mean((got - wanted) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def _ideal(picture: Image.Image, width: int, height: int) -> NDArray[np.float64]:
    channels = [
        channel.convert("F").resize((width, height), Image.Resampling.LANCZOS)
        for channel in picture.split()
    ]
    return np.clip(np.stack([np.asarray(channel) for channel in channels], -1), 0, 255)
