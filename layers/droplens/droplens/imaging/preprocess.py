"""Preprocessing of a decoded image, the same for training and inference."""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Self

from PIL import Image

from droplens.imaging.limits import Limits

# An image that is scaled down while it is decoded keeps this many times the target size, so that
# the Lanczos resize still has detail to filter.
DRAFT_MARGIN = 2

Resize = Callable[[Image.Image, tuple[int, int]], Image.Image]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Resize, crop and JPEG quality of an image for training and inference.

    shorter_side: pixels of the shorter side after the resize; the aspect ratio is kept.
    crop: side in pixels of the centre square cut after the resize; None keeps the whole image.
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
        """The JSON object of dataset.json and of the model card."""
        return {"shorter_side": self.shorter_side, "crop": self.crop, "quality": self.quality}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """Read what `to_dict` returned."""
        crop = stored["crop"]
        return cls(
            shorter_side=int(stored["shorter_side"]),
            crop=None if crop is None else int(crop),
            quality=int(stored["quality"]),
        )


def jpeg_reduction(width: int, height: int, shorter_side: int | None) -> int:
    """By how much a JPEG's sides are divided while it is decoded: 1, 2, 4 or 8."""
    if shorter_side is None:
        return 1
    most = min(width, height) // (shorter_side * DRAFT_MARGIN)
    return next(divisor for divisor in (8, 4, 2, 1) if divisor <= most or divisor == 1)


def is_only_resized(size: tuple[int, int], preprocessing: Preprocessing, limits: Limits) -> bool:
    """Whether `prepare` decodes a JPEG of (width, height) pixels in full size, then resizes it.

    False for one that is beyond the limits, prepared already, or scaled down while it is decoded.
    """
    shorter, longer = sorted(size)
    return (
        shorter * longer <= limits.max_pixels
        and longer <= limits.max_aspect * shorter
        and shorter != preprocessing.shorter_side
        and shorter < 2 * DRAFT_MARGIN * preprocessing.shorter_side
    )


def is_prepared(image: Image.Image, preprocessing: Preprocessing) -> bool:
    """Whether the image has a header as `prepare` writes it, so that it need not be resized."""
    return (
        image.format == "JPEG"
        and image.mode in ("RGB", "L")
        and not image.info.keys() & {"progressive", "icc_profile"}
        and min(image.size) == preprocessing.shorter_side
        and (preprocessing.crop is None or image.size == (preprocessing.crop,) * 2)
    )


def encode(
    decoded: Image.Image, preprocessing: Preprocessing, resize: Resize
) -> tuple[bytes, Image.Image]:
    """Resize, crop and encode an upright RGB image; returns the JPEG and the pixels in it."""
    prepared = resized(decoded, preprocessing, resize)
    jpeg = BytesIO()
    prepared.save(jpeg, "JPEG", quality=preprocessing.quality, subsampling="4:2:0")
    return jpeg.getvalue(), prepared


def resized(decoded: Image.Image, preprocessing: Preprocessing, resize: Resize) -> Image.Image:
    """Resize and crop an upright RGB image."""
    size = _size(decoded.size, preprocessing.shorter_side)
    whole = decoded if decoded.size == size else resize(decoded, size)
    return _crop(whole, preprocessing.crop)


def lanczos(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """`image` resized to (width, height) pixels by Pillow's Lanczos filter."""
    return image.resize(size, Image.Resampling.LANCZOS)


def _size(size: tuple[int, int], shorter_side: int) -> tuple[int, int]:
    shorter = min(size)
    width, height = (max(shorter_side, round(side * shorter_side / shorter)) for side in size)
    return width, height


def _crop(image: Image.Image, side: int | None) -> Image.Image:
    if side is None:
        return image
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))
