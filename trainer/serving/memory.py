"""How much memory a server has, and how much a picture takes of it while it is decoded."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image

from droplens.imaging import prepare
from droplens.imaging.weighted_semaphore import WeightedSemaphore

# What stays free of pictures: bodies as they come in, and what the allocator does not give back.
_SPARE_BYTES = 128 * 2**20
_LEAST_BYTES = 64 * 2**20
# Bytes for each pixel while a picture is decoded, resized and turned (pictures.Limits: measured).
_PER_PIXEL = {"WEBP": 20, "AVIF": 16}
_PER_PIXEL_OF_OTHERS = 13
# A JPEG is shrunk while it is decoded, and of what comes out there are up to three copies in the
# four bytes that Pillow takes for a pixel. Of one in several scans, libjpeg keeps all coefficients.
_JPEG_COPIES = 3 * 4
_COEFFICIENT_BYTES = 2
_SCAN = b"\xff\xda"
# Whose headers Pillow reads by itself; a HEIC's only decoding tells.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF")
_IS_MEDIA_FILE = re.compile(rb".{4}ftyp", re.DOTALL)
_LIMITS = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")


def limit(root: Path = Path("/")) -> int | None:
    """Bytes that this process and its kin may have: the container's limit (control groups of
    version 2 and 1) or the machine's memory, whichever is less. None where neither is known.
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
    """Bytes that this process has in memory."""
    return sum(_kibibytes(root / "proc/self/status", "VmRSS"))


def _kibibytes(path: Path, name: str) -> list[int]:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB$", path.read_text("ascii"), re.MULTILINE)
    except OSError:
        return []
    return [int(found[1]) * 1024] if found else []


def needed(data: bytes, side: int) -> int | None:
    """Bytes that an encoded picture takes at most until it is squashed to `side` pixels.

    None where only decoding tells; 0 where nothing will be decoded, since this is no picture.
    """
    try:
        with Image.open(BytesIO(data), formats=_FORMATS) as picture:
            width, height = picture.size
            if picture.format not in ("JPEG", "MPO"):
                each = _PER_PIXEL.get(str(picture.format), _PER_PIXEL_OF_OTHERS)
                return width * height * each
            layers = [layer[1:3] for layer in getattr(picture, "layer", [])]
            picture.draft(None, (side * 2,) * 2)
            output = picture.width * picture.height * _JPEG_COPIES
    except Exception:  # noqa: BLE001  decoding it says what is wrong with it
        return None if _IS_MEDIA_FILE.match(data) else 0
    if data.count(_SCAN) < 2:
        return output
    widest, tallest = (max(factors, default=1) for factors in zip(*layers, strict=True))
    shares = sum(across * down / (widest * tallest) for across, down in layers)
    return output + int(width * height * shares * _COEFFICIENT_BYTES)


class Decoding:
    """Lets pictures in to be decoded, as many at once as there is memory for."""

    def __init__(self, side: int, root: Path = Path("/")) -> None:
        """side: the longer side that pictures are squashed to, in pixels."""
        self._side = side
        whole = limit(root)
        self.free = None if whole is None else max(_LEAST_BYTES, whole - used(root) - _SPARE_BYTES)
        self._room = None if self.free is None else WeightedSemaphore(self.free)

    @contextmanager
    def admitted(self, data: bytes) -> Iterator[None]:
        """Wait until there is memory to decode `data`, and hold it.

        Raises pictures.ImageError for a picture that takes more than there is in all.
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
