"""Generated images: textures that a pretrained network distinguishes."""

import io
import random

from PIL import Image, ImageDraw


def drawing(label: str, seed: int, size: tuple[int, int] = (360, 300)) -> bytes:
    """A JPEG of checks, rings, stripes or squares within one another, in colours, sizes and places
    that `seed` chooses."""
    choose = random.Random(f"{label} {seed}")
    paper = tuple(choose.randrange(150, 256) for _ in range(3))
    ink = tuple(choose.randrange(0, 110) for _ in range(3))
    picture = Image.new("RGB", size, paper)
    draw = ImageDraw.Draw(picture)
    step = choose.randrange(18, 34)
    across, down = size
    if label == "checks":
        for row, top in enumerate(range(0, down, step)):
            for left in range(step * (row % 2), across, 2 * step):
                draw.rectangle((left, top, left + step - 1, top + step - 1), fill=ink)
    elif label == "rings":
        x, y = choose.randrange(across // 3, across), choose.randrange(down // 3, down)
        for radius in range(step, across + down, step):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=ink, width=6)
    elif label == "squares":
        x, y = choose.randrange(across // 3, across), choose.randrange(down // 3, down)
        for radius in range(step, across + down, step):
            draw.rectangle((x - radius, y - radius, x + radius, y + radius), outline=ink, width=6)
    elif label == "stripes":
        for left in range(-down, across, step):
            draw.line((left, down, left + down // 2, 0), fill=ink, width=step // 2)
    else:
        raise ValueError(f"nobody knows how to draw {label}")
    # Else two of the same step would be copies of one another, whatever their colours.
    for _ in range(8):
        x, y, radius = (choose.randrange(end) for end in (across, down, min(size) // 7))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)
    stored = io.BytesIO()
    picture.save(stored, "JPEG", quality=90)
    return stored.getvalue()
