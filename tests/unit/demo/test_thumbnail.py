"""Pictures as coloured half blocks."""

import io
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from demo.thumbnail import can_show, thumbnail


def test_two_pixels_stand_in_one_character(tmp_path: Path) -> None:
    picture = Image.new("RGB", (1, 2), (255, 0, 0))
    picture.putpixel((0, 1), (0, 0, 255))
    picture.save(tmp_path / "flag.png")
    text = thumbnail(tmp_path / "flag.png", columns=1, lines=1)
    style = text.spans[0].style
    assert text.plain == "▀"
    assert str(style) == "#ff0000 on #0000ff"


@pytest.mark.parametrize(
    ("size", "columns", "lines"),
    [((400, 100), 20, 3), ((100, 400), 2, 5), ((100, 100), 10, 5), ((4, 4), 10, 5)],
)
def test_the_whole_picture_fits_in_its_place(
    tmp_path: Path, size: tuple[int, int], columns: int, lines: int
) -> None:
    Image.new("L", size, 128).save(tmp_path / "a.png")
    rows = thumbnail(tmp_path / "a.png", columns=20, lines=5).plain.split("\n")
    assert (len(rows[0]), len(rows)) == (columns, lines)


def test_a_turned_photograph_stands_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: turn a quarter clockwise to view
    Image.new("RGB", (80, 40)).save(tmp_path / "a.jpg", exif=exif)
    rows = thumbnail(tmp_path / "a.jpg", columns=20, lines=5).plain.split("\n")
    assert (len(rows[0]), len(rows)) == (5, 5)


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (0, 0, 0, 0)).save(tmp_path / "a.png")
    text = thumbnail(tmp_path / "a.png", columns=2, lines=1)
    assert str(text.spans[0].style) == "#ffffff on #ffffff"


def test_a_broken_picture_is_left_empty(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff no picture")
    assert thumbnail(tmp_path / "a.jpg", columns=20, lines=5).plain == ""
    assert thumbnail(tmp_path / "none.jpg", columns=20, lines=5).plain == ""


@pytest.mark.parametrize(
    ("terminal", "colours", "shown"),
    [
        (True, "truecolor", True),
        (True, "256", True),
        (True, "standard", False),
        (False, "truecolor", False),
    ],
)
def test_pictures_need_a_terminal_with_many_colours(
    terminal: bool, colours: str, shown: bool
) -> None:
    console = Console(
        file=io.StringIO(),
        force_terminal=terminal,
        color_system=colours,  # type: ignore[arg-type]
        _environ={},
    )
    assert can_show(console) is shown
