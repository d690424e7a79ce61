"""The labelled pictures that trust is measured on: photographs of cars, else scanned digits."""

import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import CARS, ROOT
from droplens.imaging.prepare import Preprocessing, prepare
from droplens.records.recordio import RecordWriter
from trainer.data.features import Channel, extract
from trainer.data.preprocess import Resize
from trainer.nets.convert import backbone_file, write_backbone
from trainer.nets.specification import LITE0, Specification

DEMO_PYTHON = ROOT / ".local" / "venv" / "demo" / "bin" / "python"
BATCH = 32

Labelled = Iterator[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Pictures:
    """What the network sees of a labelled set.

    side: pixels of the square that it is shown; features: float32 [pictures, features];
    labels: int64 [pictures].
    """

    name: str
    side: int
    classes: tuple[str, ...]
    features: NDArray[np.float32]
    labels: NDArray[np.int64]


def all_sets(net: Specification = LITE0) -> Iterator[Pictures]:
    """Both sets of cars, those that are there; else the demo's digits. net: the network that sees
    them."""
    found = False
    with TemporaryDirectory() as work:
        folder = Path(work)
        if (CARS / "cars24").is_dir():
            found = True
            yield _seen("cars24", 288, _folder(CARS / "cars24"), folder, net)
        if (CARS / "cars196-224px.tar").is_file():
            found = True
            yield _seen("cars196", 224, _archive(CARS / "cars196-224px.tar"), folder, net)
        if not found:
            print(f"There are no cars in {CARS}: taking scanned digits, which tell less.")
            yield _seen("digits", 64, _folder(_digits(folder)), folder, net)


def _folder(root: Path) -> Labelled:
    for path in sorted(root.glob("*/*.*")):
        yield path.parent.name, path.read_bytes()


def _archive(path: Path) -> Labelled:
    with tarfile.open(path) as archive:
        members = sorted((each for each in archive if each.isfile()), key=lambda each: each.name)
        for member in members:
            content = archive.extractfile(member)
            assert content is not None
            yield Path(member.name).parent.name, content.read()


def _digits(folder: Path) -> Path:
    """The demo's pictures, unpacked by its environment, which has the package they are in."""
    unpack = "import sys; from pathlib import Path; from demo.digits import unpack; "
    command = [str(DEMO_PYTHON), "-c", unpack + "unpack(Path(sys.argv[1]))", str(folder / "digits")]
    subprocess.run(command, cwd=ROOT, check=True)
    return folder / "digits"


def _seen(
    name: str, side: int, pictures: Labelled, folder: Path, net: Specification = LITE0
) -> Pictures:
    """Pack the pictures as batch_prep does, and look at them as the trainer does."""
    packed = folder / name
    packed.mkdir(exist_ok=True)
    preprocessing = Preprocessing(side)
    numbers: dict[str, int] = {}
    with (packed / "all.rec").open("wb") as rec, RecordWriter(rec) as writer:
        for number, (label, data) in enumerate(pictures):
            label_number = numbers.setdefault(label, len(numbers))
            writer.write(number, label_number, prepare(data, preprocessing)[0])
    backbone = folder / backbone_file(net.name)
    if not backbone.exists():
        write_backbone(folder, net)
    channel = Channel.open(name, packed, len(numbers))
    features = extract(backbone, channel, Resize(width=side, height=side), BATCH)
    return Pictures(name, side, tuple(numbers), features, channel.labels)
