"""Generated photographs as files, valid and damaged."""

import base64
from io import BytesIO
from typing import Any

from hypothesis import strategies as st
from PIL import Image, ImageCms

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


# No library at hand writes HEIC: as libheif 1.19 and x265 wrote a red and a green quarter above a
# blue half; the second image is black, its left half transparent.
HEIC = {
    "corners": (
        "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAWltZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0"
        "AAAAAAAAAAAAAAAAAAAAAA5waXRtAAAAAAABAAAAImlsb2MAAAAAREAAAQABAAAAAAGNAAEAAAAAAAAA"
        "ewAAACNpaW5mAAAAAAABAAAAFWluZmUCAAAAAAEAAGh2YzEAAAAA6WlwcnAAAADKaXBjbwAAAHZodmND"
        "AQNwAAAAAAAAAAAAHvAA/P34+AAADwMgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQCEAAQAqQgEB"
        "A3AAAAMAkAAAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMAIAAAAwAhIgABAAZEAcFzwIkAAAAUaXNwZQAA"
        "AAAAAABAAAAAQAAAAChjbGFwAAAAQAAAAAEAAAAgAAAAAQAAAAAAAAAC////4AAAAAIAAAAQcGl4aQAA"
        "AAADCAgIAAAAF2lwbWEAAAAAAAAAAQABBIECBIMAAACDbWRhdAAAAHcoAa8J4CE5NB//8ju///Kwdl+8"
        "R6oUij/7xmiv8PO4/9ktXOzFFYj7pUU4nD3tUdVoIYEfc7VKxUwWe1QNDsrCkpvvercP+xWDrD+FSD/6"
        "Dof/sZyd+oX+nRdaE7/oCZLwMTzl7sV7x7vRCUWH2mrba6sF6JC0fg=="
    ),
    "transparent": (
        "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAlhtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0"
        "AAAAAAAAAAAAAAAAAAAAAA5waXRtAAAAAAABAAAANGlsb2MAAAAAREAAAgABAAAAAAJ8AAEAAAAAAAAA"
        "FwACAAAAAAKTAAEAAAAAAAAA6AAAADhpaW5mAAAAAAACAAAAFWluZmUCAAAAAAEAAGh2YzEAAAAAFWlu"
        "ZmUCAAAAAAIAAGh2YzEAAAABl2lwcnAAAAFwaXBjbwAAAHZodmNDAQNwAAAAAAAAAAAAHvAA/P34+AAA"
        "DwMgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQCEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq"
        "5Ka5uAhoMCAAAAMAIAAAAwAhIgABAAZEAcFzwIkAAAAUaXNwZQAAAAAAAABAAAAAQAAAAChjbGFwAAAA"
        "IAAAAAEAAAAgAAAAAf///+AAAAAC////4AAAAAIAAAAQcGl4aQAAAAADCAgIAAAAcWh2Y0MBBAgAAAAA"
        "AAAAAAAe8AD8/Pj4AAAPAyAAAQAXQAEMAf//BAgAAAMAn/gAAAMAAB66AkAhAAEAJkIBAQQIAAADAJ/4"
        "AAADAAAewIIEFlurkprmwIAAAAMAgAAAAwCEIgABAAZEAcFzwIkAAAAOcGl4aQAAAAABCAAAACdhdXhD"
        "AAAAAHVybjptcGVnOmhldmM6MjAxNTphdXhpZDoxAAAAAB9pcG1hAAAAAAAAAAIAAQSBAgSDAAIFhQIG"
        "h4MAAAAaaXJlZgAAAAAAAAAOYXV4bAACAAEAAQAAAQdtZGF0AAAAEygBrwngOdvaD///iiMoJQBN98AA"
        "AADkKAGuE8A7jMX//4oRRRf+acO0B9MVZtwgihF2RVbsH6DMalKkqcdvbQ/T857Nq+XgWgV3fd+VPMhL"
        "jLt+ao34cWiIqA1Xzc5O2fVcO0KARxdbwWbT+4Ie3nySM0cIRsYCsAB18NLg1WIYcPsgRxK0OiLD707h"
        "GPXv6oLZQiI7WJ1019lpKPmqJxNIIiUkBsDXlGcw/7bBxdt00jz8VnagQHMFAWDbX6/KrcRzwN0qGsYg"
        "HmlB1YqylaDB8mBBit2axP+wjRKsI17Ti7wf/z+lfh+Xzf+jWCsyBg4RAj455oYdP5xI"
    ),
}


def heic(name: str) -> bytes:
    return base64.b64decode(HEIC[name])


def profile(*changes: tuple[bytes, bytes]) -> bytes:
    """The bytes of sRGB's profile, under another name and with these changes."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for old, new in (
        (b"sRGB", b"mine"),
        ("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be")),
        *changes,
    ):
        data = data.replace(old, new)
    return data


# Its "red" is sRGB's blue, and its "blue" sRGB's red.
SWAPPED = profile((b"rXYZ", b"swap"), (b"bXYZ", b"rXYZ"), (b"swap", b"bXYZ"))
