"""An image as coloured half blocks: two pixels to a character, for terminals with colour."""

from pathlib import Path

from PIL import Image, ImageOps
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

UPPER_HALF = "▀"
_ENOUGH_COLOURS = {"256", "truecolor"}


def can_show(console: Console) -> bool:
    """Whether images can be shown: a terminal with at least 256 colours and UTF-8."""
    return (
        console.is_terminal
        and console.color_system in _ENOUGH_COLOURS
        and not console.options.ascii_only
    )


def thumbnail(path: Path, columns: int, lines: int) -> Text:
    """The image upright and whole within `columns` x `lines`; empty if it cannot be decoded."""
    try:
        with Image.open(path) as picture:
            picture.draft("RGB", (columns * 4, lines * 8))  # scales a JPEG while it is decoded
            upright = ImageOps.exif_transpose(picture).convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return Text("")
    paper = Image.new("RGBA", upright.size, "white")
    small = ImageOps.contain(
        Image.alpha_composite(paper, upright).convert("RGB"), (columns, lines * 2)
    )
    if small.height % 2:
        small = small.resize((small.width, small.height + 1))
    text = Text(no_wrap=True)
    for top in range(0, small.height, 2):
        if top:
            text.append("\n")
        for left in range(small.width):
            text.append(
                UPPER_HALF,
                Style(color=_colour(small, left, top), bgcolor=_colour(small, left, top + 1)),
            )
    return text


def _colour(picture: Image.Image, left: int, top: int) -> Color:
    pixel = picture.getpixel((left, top))
    assert isinstance(pixel, tuple)
    red, green, blue = (int(value) for value in pixel)
    return Color.from_rgb(red, green, blue)
