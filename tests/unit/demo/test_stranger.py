"""The picture of none of the classes is a picture, and does not take another's name."""

from pathlib import Path

from PIL import Image

from demo.stranger import LABEL, SIDE, draw


def test_it_is_drawn_under_a_name_that_is_free(tmp_path: Path) -> None:
    first = draw(tmp_path / "new", frozenset())
    second = draw(tmp_path / "new", frozenset({first.name}))
    assert (first.name, first.label) == ("none-of-the-classes.png", LABEL)
    assert second.name != first.name
    assert first.path.read_bytes() == second.path.read_bytes()
    with Image.open(second.path) as picture:
        assert picture.size == (SIDE, SIDE)
        assert len(picture.getcolors(SIDE * SIDE) or []) > 20
