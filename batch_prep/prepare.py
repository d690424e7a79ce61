"""A picture as the JPEG that a record stores, at more than twice the speed of Pillow alone.

Limits, decoder and encoder are those of droplens.pictures, so that exactly the same pictures are
refused and an endpoint is asked with the pixels that its model was trained on. Only the resize,
most of Pillow's time, is done by a library that uses the processor's vector instructions.
"""

import threading
from dataclasses import dataclass
from enum import StrEnum

from cykooz_resizer import FilterType, ResizeAlg, ResizeOptions, Resizer
from PIL import Image

from batch_prep.fingerprint import fingerprint
from droplens.pictures import Limits, Preprocessing, prepare_with


class Speed(StrEnum):
    """Which resize: its quality has a price.

    BEST is Lanczos, as an endpoint's pictures are resized. FAST is Catmull-Rom: on photographs of
    768x442 it packs about 1.2 times as many pictures a second, 1 to 2 dB further from an ideal
    resize. Shrinking more while decoding would give 1.4 times as many and cost 5 dB.
    """

    BEST = "best"
    FAST = "fast"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture as a record stores it.

    jpeg: its file; width, height: pixels of the picture as it came, upright; format: Pillow's name
    of what it came as; upscaled: whether it was smaller than asked for; fingerprint: for
    `likeness.near_groups`.
    """

    jpeg: bytes
    width: int
    height: int
    format: str
    upscaled: bool
    fingerprint: bytes


_FILTERS = {Speed.BEST: FilterType.lanczos3, Speed.FAST: FilterType.catmull_rom}


class _Tools(threading.local):
    """A Resizer keeps its buffers from one picture to the next, so each thread has its own."""

    def __init__(self) -> None:
        self.resizer = Resizer()
        self.options = {
            speed: ResizeOptions(ResizeAlg.convolution(kind)) for speed, kind in _FILTERS.items()
        }


_tools = _Tools()


def prepare(
    data: bytes,
    preprocessing: Preprocessing,
    limits: Limits,
    speed: Speed,
) -> Prepared:
    """`data` as `droplens.pictures.prepare` makes it, but for how the resize rounds.

    Of the pixels before they are encoded, 99.7 % are within 1 level of that function's (measured
    on photographs of cars); beside edges of black or white, where Lanczos overshoots and the two
    libraries clip at different times, a pixel may differ by 40. Every processor gives the same
    bytes. Threads may call this at the same time: all of the work is done without Python's lock.

    Raises droplens.pictures.PictureError exactly where that function does.
    """

    def resize(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
        resized = Image.new("RGB", size, None)  # each pixel is written next
        _tools.resizer.resize_pil(picture, resized, _tools.options[speed])
        return resized

    jpeg, info, picture = prepare_with(data, preprocessing, limits, resize)
    return Prepared(
        jpeg,
        info.width,
        info.height,
        info.format,
        min(info.width, info.height) < preprocessing.shorter_side,
        fingerprint(picture),
    )
