"""Class maps: which regions of an image speak for its predicted class, drawn over its thumbnail.

How a map is computed: trainer/nets/class_map.py.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

# Cells along a side; the network's finest feature maps have one for every 16 pixels.
MAX_SIDE = 256
# Red, green and blue of what speaks for the class, and the opacity of what does most.
_FOR = (255, 90, 0)
_MOST_OPAQUE = 190

# The class map of a packed image, or None where the model has none.
Explain = Callable[[bytes], "ClassMap | None"]


@dataclass(frozen=True, slots=True)
class ClassMap:
    """Shares of a class's score by position, rows from the top; positive ones speak for it.

    label: the class's number.
    """

    label: int
    values: tuple[tuple[float, ...], ...]


def parse_class_map(body: bytes) -> ClassMap | None:
    """The class map of an endpoint's response, or None where it has none.

    Raises ValueError for one that is malformed.
    """
    try:
        found = json.loads(body).get("class_map")
        if found is None:
            return None
        values = tuple(tuple(float(value) for value in row) for row in found["values"])
        label = int(found["label"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the response has a malformed class map: {error!r}") from error
    sides = {len(row) for row in values} | {len(values)}
    if not (len({len(row) for row in values}) == 1 and 0 < min(sides) <= max(sides) <= MAX_SIDE):
        raise ValueError(f"the response has a class map with rows of {sorted(sides)} cells")
    if not all(math.isfinite(value) for row in values for value in row):
        raise ValueError("the response has a class map with values that are no numbers")
    return ClassMap(label, values)


def overlay(found: ClassMap, width: int, height: int) -> bytes:
    """A PNG of this size: the more opaque, the more a region speaks for the class."""
    rows, columns = len(found.values), len(found.values[0])
    most = max(max(row) for row in found.values)
    scale = _MOST_OPAQUE / most if most > 0 else 0
    cells = bytes(max(0, round(value * scale)) for row in found.values for value in row)
    opacity = Image.frombytes("L", (columns, rows), cells).resize((width, height))
    image = Image.new("RGBA", (width, height), (*_FOR, 0))
    image.putalpha(opacity)
    out = BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def strongest(found: ClassMap) -> str:
    """In words, where the cell is that speaks most for the class: "upper left" or the like."""
    rows, columns = len(found.values), len(found.values[0])
    _, row, column = max(
        (value, row, column)
        for row, values in enumerate(found.values)
        for column, value in enumerate(values)
    )
    vertical = ("upper", "middle", "lower")[int(3 * (row + 0.5) / rows)]
    horizontal = ("left", "centre", "right")[int(3 * (column + 0.5) / columns)]
    return f"{vertical} {horizontal}"
