"""Generated photographs: a dataset as a user uploads it, the same in every run."""

import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

CLASSES = ("barns", "boats", "mills")
PER_CLASS = 6
_SIZES = ((960, 640), (640, 853), (1024, 683), (701, 500))
_ORIENTATION = 0x0112


def draw(folder: Path) -> Path:
    """Write a folder for each class, with JPEGs of several sizes, qualities and subsamplings.

    Each has what cameras put into photographs: soft gradients, edges, texture, noise, and EXIF.
    """
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
        for number in range(PER_CLASS):
            choose = random.Random(f"{label} {number}")
            exif = Image.Exif()
            exif[0x010F], exif[_ORIENTATION] = "a camera", 1
            _scene(choose, _SIZES[number % len(_SIZES)]).save(
                folder / label / f"{number:05}.jpg",
                quality=choose.randrange(75, 96),
                subsampling=("4:2:0", "4:2:2", "4:4:4")[number % 3],
                exif=exif,
            )
    return folder


def some(folder: Path, count: int) -> list[Path]:
    """At most `count` files of a folder of class folders, from all over it."""
    paths = sorted(folder.glob("*/*.jpg"))
    return paths[:: -(-len(paths) // count)]


def _scene(choose: random.Random, size: tuple[int, int]) -> Image.Image:
    """A sky, a ground, shapes before them, and noise that differs from pixel to pixel."""
    width, height = size

    def colour() -> tuple[int, int, int]:
        return (choose.randrange(256), choose.randrange(256), choose.randrange(256))

    sky = Image.linear_gradient("L").resize(size)
    picture = Image.composite(
        Image.new("RGB", size, colour()), Image.new("RGB", size, colour()), sky
    )
    shapes = ImageDraw.Draw(picture)
    shapes.rectangle((0, height * choose.randrange(50, 80) // 100, width, height), colour())
    for _ in range(12):
        left, top = choose.randrange(width), choose.randrange(height)
        right, bottom = (
            left + choose.randrange(20, width // 2),
            top + choose.randrange(20, height // 2),
        )
        shape = choose.choice((shapes.ellipse, shapes.rectangle))
        shape((left, top, right, bottom), colour())
    coarse = Image.frombytes("RGB", (64, 48), choose.randbytes(64 * 48 * 3)).resize(size)
    fine = Image.frombytes("L", size, choose.randbytes(width * height)).convert("RGB")
    picture = Image.blend(Image.blend(picture, coarse, 0.15), fine, 0.05)
    return picture.filter(ImageFilter.GaussianBlur(0.8))
