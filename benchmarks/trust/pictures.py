"""The labelled pictures that trust is measured on, and pictures of other kinds to ask about.

Each model is asked about the other sets at its own size: the cars of all models about digits and
photographs, the digits about cars and photographs. The photographs are crops of the two that
scikit-learn's wheel holds, a temple and a flower: few, but real.
"""

import subprocess
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.harness import CARS, CARS24, ROOT
from droplens.imaging.prepare import Preprocessing, prepare
from droplens.records.recordio import RecordWriter
from trainer.data.features import Channel, extract
from trainer.data.preprocess import Resize
from trainer.nets.convert import backbone_file, write_backbone
from trainer.nets.specification import LITE0, Specification

VENVS = ROOT / ".local" / "venv"
DEMO_PYTHON = VENVS / "demo" / "bin" / "python"
CLEANLAB_PYTHON = VENVS / "cleanlab" / "bin" / "python"
CARS196 = CARS / "cars196-224px.tar"
BATCH = 32
# Of each other set, evenly spread over its classes: a share of 1 % is six of them.
FOREIGN = 600
# Crops of a photograph: its shorter side is divided by each of these, and each grid of squares of
# that side overlaps by half.
DIVISORS = (1, 2, 3)

Labelled = Iterator[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Source:
    """Labelled pictures.

    kind: sets of one kind may share classes, so that none is foreign to another of it; side: pixels
    of the square that a model of these pictures is shown.
    """

    name: str
    kind: str
    side: int
    read: Callable[[Path], Labelled]


@dataclass(frozen=True, slots=True)
class Pictures:
    """What the network sees of a labelled set, and of other sets at the same size.

    features: float32 [pictures, features]; labels: int64 [pictures]; foreign: by the set's name,
    float32 [pictures, features].
    """

    name: str
    side: int
    classes: tuple[str, ...]
    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    foreign: Mapping[str, NDArray[np.float32]]


def all_sets(net: Specification = LITE0) -> Iterator[Pictures]:
    """Both sets of cars, those that are there; else the demo's digits. net: the network that sees
    them. Nothing is foreign to them."""
    sources = _cars() or [_DIGITS]
    if sources == [_DIGITS]:
        print(f"There are no cars in {CARS}: taking scanned digits, which tell less.")
    with TemporaryDirectory() as work:
        for source in sources:
            yield _pictures(source, (), Path(work), net)


def sets_and_foreign() -> Iterator[Pictures]:
    """Cars where they are, and digits, each with the pictures of other kinds."""
    sources = [*_cars(), _DIGITS]
    photographs = Source("photographs", "photographs", 0, lambda _: _photographs())
    with TemporaryDirectory() as work:
        for source in sources:
            others = [each for each in (*sources, photographs) if each.kind != source.kind]
            yield _pictures(source, others, Path(work), LITE0)


def _cars() -> list[Source]:
    cars24 = Source("cars24", "cars", 288, lambda _: _folder(CARS24))
    cars196 = Source("cars196", "cars", 224, lambda _: _archive(CARS196))
    return [cars24] * CARS24.is_dir() + [cars196] * CARS196.is_file()


def _pictures(
    source: Source, others: Iterable[Source], folder: Path, net: Specification
) -> Pictures:
    classes, features, labels = _seen(source.read(folder), source.side, folder, net)
    foreign = {
        other.name: _seen(_spread(other.read(folder)), source.side, folder, net)[1]
        for other in others
    }
    return Pictures(source.name, source.side, classes, features, labels, foreign)


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


_DIGITS = Source("digits", "digits", 64, lambda folder: _folder(_digits(folder)))


def _photographs() -> Labelled:
    """Crops of scikit-learn's photographs, as its environment says where they are."""
    where = "from importlib.util import find_spec as f; print(f('sklearn').origin)"
    found = subprocess.check_output([str(CLEANLAB_PYTHON), "-c", where], text=True)
    for path in sorted((Path(found.strip()).parent / "datasets" / "images").glob("*.jpg")):
        with Image.open(path) as photograph:
            for divisor in DIVISORS:
                side = min(photograph.size) // divisor
                steps = [
                    range(0, length - side + 1, max(1, side // 2)) for length in photograph.size
                ]
                for left, top in product(*steps):
                    out = BytesIO()
                    crop = photograph.crop((left, top, left + side, top + side))
                    crop.save(out, "JPEG", quality=95)
                    yield path.stem, out.getvalue()


def _spread(pictures: Labelled) -> Labelled:
    """At most FOREIGN pictures, evenly spread."""
    everything = list(pictures)
    step = max(1, -(-len(everything) // FOREIGN))
    yield from everything[::step]


def _seen(
    pictures: Labelled, side: int, folder: Path, net: Specification
) -> tuple[tuple[str, ...], NDArray[np.float32], NDArray[np.int64]]:
    """Classes, features and labels: packed as batch_prep does, and seen as the trainer does."""
    numbers: dict[str, int] = {}
    backbone = folder / backbone_file(net.name)
    if not backbone.exists():
        write_backbone(folder, net)
    preprocessing = Preprocessing(side)
    with TemporaryDirectory(dir=folder) as packed:
        with (Path(packed) / "all.rec").open("wb") as rec, RecordWriter(rec) as writer:
            for number, (label, data) in enumerate(pictures):
                label_number = numbers.setdefault(label, len(numbers))
                writer.write(number, label_number, prepare(data, preprocessing)[0])
        channel = Channel.open("all", Path(packed), len(numbers))
        resize = Resize(width=side, height=side)
        return (
            tuple(numbers),
            extract(backbone, channel, resize, BATCH),
            channel.labels,
        )
