"""A picture of none of the classes: what the model says of one that it was not trained for."""

import random
from pathlib import Path

from PIL import Image, ImageDraw

from demo.dataset import Picture

LABEL = "none of the classes"
SIDE = 256
_DISCS = 60


def draw(folder: Path, taken: frozenset[str]) -> Picture:
    """Coloured discs on a coloured ground, as a file in `folder`.

    taken: names of other pictures, of which the file gets none.
    """
    choose = random.Random(0)

    def colour() -> tuple[int, ...]:
        return tuple(choose.randrange(256) for _ in range(3))

    picture = Image.new("RGB", (SIDE, SIDE), colour())
    pen = ImageDraw.Draw(picture)
    for _ in range(_DISCS):
        x, y = choose.randrange(SIDE), choose.randrange(SIDE)
        radius = choose.randrange(6, SIDE // 6)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour())
    name = "none-of-the-classes.png"
    while name in taken:
        name = f"_{name}"
    folder.mkdir(parents=True, exist_ok=True)
    picture.save(folder / name)
    return Picture(folder / name, LABEL, name)
