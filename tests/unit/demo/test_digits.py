"""The default pictures, unpacked from a package's data file of the same form."""

import gzip
from pathlib import Path

import pytest
from PIL import Image

from demo import DemoError, digits
from demo.dataset import hold_out, read_folder


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An installed package with 120 scans of a 3 and 110 of a 7, each row its own grey."""
    name = "scans_for_a_test"
    data = tmp_path / "site" / name / digits.DATA_FILE
    data.parent.mkdir(parents=True)
    (tmp_path / "site" / name / "__init__.py").touch()
    with gzip.open(data, "wt", encoding="ascii") as rows:
        for number in range(230):
            pixels = [number] * (digits.SIDE**2 - 1) + [255]
            print(*pixels, "3" if number < 120 else "7", sep=",", file=rows)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(digits, "PACKAGE", name)
    return name


@pytest.mark.usefixtures("package")
def test_scans_become_class_folders_pixel_for_pixel(tmp_path: Path) -> None:
    folder = digits.unpack(tmp_path / "digits")
    assert sorted(entry.name for entry in folder.iterdir()) == ["3", "7"]
    assert len(list(folder.glob("*/*.png"))) == 2 * digits.PER_CLASS
    with Image.open(folder / "7" / "scan-0121.png") as scan:
        assert (scan.mode, scan.size) == ("L", (digits.SIDE, digits.SIDE))
        assert (scan.getpixel((0, 0)), scan.getpixel((27, 27))) == (121, 255)


@pytest.mark.usefixtures("package")
def test_unpacking_again_leaves_nothing_of_before(tmp_path: Path) -> None:
    folder = digits.unpack(tmp_path / "digits")
    (folder / "8").mkdir()
    digits.unpack(folder)
    assert sorted(entry.name for entry in folder.iterdir()) == ["3", "7"]


@pytest.mark.usefixtures("package")
def test_a_hundred_of_each_are_left_to_learn_from(tmp_path: Path) -> None:
    split = hold_out(read_folder(digits.unpack(tmp_path / "digits")))
    assert (len(split.learning), len(split.held_out)) == (200, 16)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "PACKAGE", "no_such_package_is_here")
    with pytest.raises(DemoError, match="no_such_package_is_here is not installed"):
        digits.unpack(tmp_path / "digits")
