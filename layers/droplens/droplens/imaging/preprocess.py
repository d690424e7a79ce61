"""How a decoded picture becomes what a model is trained on and asked with."""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Self

from PIL import Image

from droplens.imaging.limits import Limits

# A picture shrunk while it is decoded keeps this many times the wanted size for the real resize.
DRAFT_MARGIN = 2

Resize = Callable[[Image.Image, tuple[int, int]], Image.Image]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a picture becomes what a model is trained on and asked with.

    shorter_side: pixels of the shorter side after the resize; the longer one follows.
    crop: side of the square cut from the middle after the resize; None keeps the whole picture.
    quality: of the JPEG, 1 to 95, with 4:2:0 chroma.
    """

    shorter_side: int
    crop: int | None = None
    quality: int = 95

    def __post_init__(self) -> None:
        if not 1 <= self.shorter_side <= 4096:
            raise ValueError(f"shorter_side is {self.shorter_side}, expected 1 to 4096 pixels")
        if self.crop is not None and not 1 <= self.crop <= self.shorter_side:
            raise ValueError(f"crop is {self.crop}, expected 1 to {self.shorter_side} pixels")
        if not 1 <= self.quality <= 95:
            raise ValueError(f"quality is {self.quality}, expected 1 to 95")

    def to_dict(self) -> dict[str, int | None]:
        """As dataset.json and the model card keep it."""
        return {"shorter_side": self.shorter_side, "crop": self.crop, "quality": self.quality}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """What `to_dict` gave."""
        crop = stored["crop"]
        return cls(
            shorter_side=int(stored["shorter_side"]),
            crop=None if crop is None else int(crop),
            quality=int(stored["quality"]),
        )


def is_only_resized(size: tuple[int, int], preprocessing: Preprocessing, limits: Limits) -> bool:
    """Whether `prepare` decodes all of a JPEG of (width, height) pixels, and then resizes it.

    It is within the limits, is not prepared already, and is not shrunk while it is decoded.
    """
    shorter, longer = sorted(size)
    return (
        shorter * longer <= limits.max_pixels
        and longer <= limits.max_aspect * shorter
        and shorter != preprocessing.shorter_side
        and shorter < 2 * DRAFT_MARGIN * preprocessing.shorter_side
    )


def is_prepared(picture: Image.Image, preprocessing: Preprocessing) -> bool:
    """Whether the header is one of those that `prepare` writes."""
    return (
        picture.format == "JPEG"
        and picture.mode in ("RGB", "L")
        and not picture.info.keys() & {"progressive", "icc_profile"}
        and min(picture.size) == preprocessing.shorter_side
        and (preprocessing.crop is None or picture.size == (preprocessing.crop,) * 2)
    )


def encode(
    decoded: Image.Image, preprocessing: Preprocessing, resize: Resize
) -> tuple[bytes, Image.Image]:
    """An upright RGB picture as the JPEG of `prepare_with`, and the pixels that it was made of."""
    size = _resized(decoded.size, preprocessing.shorter_side)
    resized = decoded if decoded.size == size else resize(decoded, size)
    prepared = _crop(resized, preprocessing.crop)
    jpeg = BytesIO()
    prepared.save(jpeg, "JPEG", quality=preprocessing.quality, subsampling="4:2:0")
    return jpeg.getvalue(), prepared


def lanczos(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """`picture` at (width, height) pixels."""
    return picture.resize(size, Image.Resampling.LANCZOS)


def _resized(size: tuple[int, int], shorter_side: int) -> tuple[int, int]:
    shorter = min(size)
    width, height = (max(shorter_side, round(side * shorter_side / shorter)) for side in size)
    return width, height


def _crop(picture: Image.Image, side: int | None) -> Image.Image:
    if side is None:
        return picture
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))
