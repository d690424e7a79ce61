"""A fingerprint of what a picture shows, nearly the same for its copies in other files."""

from typing import cast

import numpy as np
from PIL import Image

_GRID = 16
_KEPT = 8
FINGERPRINT_BYTES = _KEPT * _KEPT


def _cosines() -> np.ndarray:
    places = (np.arange(_GRID) + 0.5) * np.pi / _GRID
    return np.cos(np.arange(_KEPT)[:, None] * places).astype(np.float32)


_COSINES = _cosines()


def fingerprint(picture: Image.Image) -> bytes:
    """FINGERPRINT_BYTES bytes: int8, the low frequencies of a 16x16 thumbnail, less its mean."""
    small = picture.convert("L").resize((_GRID, _GRID), Image.Resampling.BOX)
    levels = np.asarray(small, np.float32)
    waves = _COSINES @ levels @ _COSINES.T
    waves[0, 0] = 0
    length = float(np.linalg.norm(waves))
    if length == 0:
        return bytes(FINGERPRINT_BYTES)
    return cast(bytes, np.rint(waves * (127 / length)).astype(np.int8).tobytes())
