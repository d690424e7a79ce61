"""Admission control of image decoding by the server's memory."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image

from droplens.imaging import prepare
from droplens.imaging.weighted_semaphore import WeightedSemaphore

# Not used for decoding: for request bodies, and memory that the allocator does not return.
_SPARE_BYTES = 128 * 2**20
_LEAST_BYTES = 64 * 2**20
# Bytes per pixel while an image is decoded, resized and rotated (measured, see prepare.Limits).
_PER_PIXEL = {"WEBP": 20, "AVIF": 16}
_PER_PIXEL_OF_OTHERS = 13
# A JPEG is reduced while it is decoded; of the result there are up to three copies, with Pillow's
# four bytes per pixel. Of a JPEG with several scans, libjpeg keeps all coefficients.
_JPEG_COPIES = 3 * 4
_COEFFICIENT_BYTES = 2
_SCAN = b"\xff\xda"
# Formats whose size Pillow reads from the header; a HEIC has to be decoded.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF")
_IS_MEDIA_FILE = re.compile(rb".{4}ftyp", re.DOTALL)
_LIMITS = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")


def limit(root: Path = Path("/")) -> int | None:
    """Bytes that this container may use: the limit of its control group (version 2 or 1) or the
    machine's memory, whichever is less. None where neither is known.
    """
    found = []
    for name in _LIMITS:
        try:
            found.append(int((root / name).read_text("ascii")))
        except (OSError, ValueError):  # not there, or "max"
            continue
    found += _kibibytes(root / "proc/meminfo", "MemTotal")
    return min(found, default=None)


def used(root: Path = Path("/")) -> int:
    """Resident memory of this process in bytes."""
    return sum(_kibibytes(root / "proc/self/status", "VmRSS"))


def _kibibytes(path: Path, name: str) -> list[int]:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB$", path.read_text("ascii"), re.MULTILINE)
    except OSError:
        return []
    return [int(found[1]) * 1024] if found else []


def needed(data: bytes, side: int) -> int | None:
    """The most bytes that decoding an image and resizing it to `side` pixels takes.

    None where the header does not tell the size; 0 where `data` is no image.
    """
    try:
        with Image.open(BytesIO(data), formats=_FORMATS) as image:
            width, height = image.size
            if image.format not in ("JPEG", "MPO"):
                each = _PER_PIXEL.get(str(image.format), _PER_PIXEL_OF_OTHERS)
                return width * height * each
            layers = [layer[1:3] for layer in getattr(image, "layer", [])]
            image.draft(None, (side * 2,) * 2)
            output = image.width * image.height * _JPEG_COPIES
    except Exception:  # noqa: BLE001  decoding reports the reason
        return None if _IS_MEDIA_FILE.match(data) else 0
    if data.count(_SCAN) < 2:
        return output
    widest, tallest = (max(factors, default=1) for factors in zip(*layers, strict=True))
    shares = sum(across * down / (widest * tallest) for across, down in layers)
    return output + int(width * height * shares * _COEFFICIENT_BYTES)


class DecodingMemory:
    """The memory for decoding images, which bounds how many are decoded at once."""

    def __init__(self, side: int, root: Path = Path("/")) -> None:
        """side: the longer side of the network's input, in pixels."""
        self._side = side
        whole = limit(root)
        self.free = None if whole is None else max(_LEAST_BYTES, whole - used(root) - _SPARE_BYTES)
        self._room = None if self.free is None else WeightedSemaphore(self.free)

    @contextmanager
    def admitted(self, data: bytes) -> Iterator[None]:
        """Wait for the memory to decode `data`, and hold it until the context is left.

        Raises prepare.ImageError for an image that takes more than all memory for decoding.
        """
        if self._room is None or self.free is None:
            yield
            return
        demand = needed(data, self._side)
        if demand is None:
            demand = self.free
        elif demand > self.free:
            raise prepare.ImageError(
                "image.too_many_pixels",
                f"decoding the picture takes {demand >> 20:,} MiB of memory, this server has "
                f"{self.free >> 20:,} MiB for it: a larger EndpointMemoryMb gives more",
            )
        with self._room.held(demand):
            yield
