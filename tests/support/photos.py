"""Photographs that the tests make themselves, as files, sound and damaged."""

from io import BytesIO
from typing import Any

from hypothesis import strategies as st
from PIL import Image

ORIENTATION = 0x0112


def photo(width: int = 320, height: int = 240) -> Image.Image:
    """Smooth in one part and busy in another, as photographs are."""
    plain = Image.linear_gradient("L").resize((width, height))
    busy = Image.effect_mandelbrot((width, height), (-2, -1.2, 0.6, 1.2), 60)
    return Image.merge("RGB", (plain, busy, Image.radial_gradient("L").resize((width, height))))


def encode(picture: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    data = BytesIO()
    picture.save(data, kind, **options)
    return data.getvalue()


@st.composite
def with_flipped_bytes(draw: st.DrawFn) -> bytes:
    """A JPEG of which up to three bytes are others, though neither its start nor its end."""
    damaged = bytearray(encode(photo(160, 120), quality=60))
    for place in draw(st.lists(st.integers(2, len(damaged) - 3), min_size=1, max_size=3)):
        damaged[place] = draw(st.integers(0, 255))
    return bytes(damaged)
