"""A folder of class folders: its images, the classifier's name, and the held-out split."""

import hashlib
import os
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from demo import DemoError

SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
)
HELD_OUT_SHARE = 0.2
HELD_OUT_MOST = 8  # a class: enough to judge by, few enough to look at
NAME_LENGTH = 31  # characters, as the S3 layout allows


@dataclass(frozen=True, slots=True)
class Picture:
    """One labelled picture. name: its path below the class folder, with "/"."""

    path: Path
    label: str
    name: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """The images of a folder. others: the number of files without an image's extension."""

    classifier: str
    folder: Path
    pictures: tuple[Picture, ...]
    others: int

    @property
    def classes(self) -> list[str]:
        """The class names, sorted."""
        return sorted({picture.label for picture in self.pictures})


@dataclass(frozen=True, slots=True)
class Split:
    """Images for the dataset, and held-out images, which are uploaded after training only."""

    learning: tuple[Picture, ...]
    held_out: tuple[Picture, ...]


def classifier_name(folder_name: str) -> str:
    """A classifier's name from a folder's: lower-case letters, digits and '-', at most 31."""
    name = re.sub(r"[^a-z0-9]+", "-", folder_name.lower()).strip("-")[:NAME_LENGTH].rstrip("-")
    return name or "pictures"


def read_folder(folder: Path) -> Dataset:
    """Everything below `folder`/<class>/, without hidden files and folders.

    Raises DemoError, with a message for the user, if it cannot be a dataset.
    """
    if not folder.exists():
        raise DemoError(f"{folder} does not exist")
    if not folder.is_dir():
        raise DemoError(
            f"{folder} is a file; the demo takes a folder with one folder of pictures per class"
        )
    class_folders = sorted(
        entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )
    if not class_folders:
        raise DemoError(
            f"{folder} holds no class folders",
            "put the pictures of each class into a folder named after the class",
        )
    pictures, others = [], 0
    for class_folder in class_folders:
        for path in _visible_files(class_folder):
            if path.suffix.lower() in SUFFIXES:
                name = path.relative_to(class_folder).as_posix()
                pictures.append(Picture(path, class_folder.name, name))
            else:
                others += 1
    dataset = Dataset(classifier_name(folder.resolve().name), folder, tuple(pictures), others)
    _check(dataset, class_folders)
    return dataset


def hold_out(dataset: Dataset, seed: int = 0) -> Split:
    """Hold out a fifth of each class, at least one and at most HELD_OUT_MOST, chosen by `seed`.

    Only images that can be opened, and whose bytes are unique in the dataset, are held out: no
    test image may be a training image. Raises DemoError if there is none.
    """
    repeated = _repeated(dataset.pictures)
    by_class: dict[str, list[Picture]] = defaultdict(list)
    for picture in dataset.pictures:
        by_class[picture.label].append(picture)
    kept: set[Path] = set()
    for label in dataset.classes:
        candidates = sorted(by_class[label], key=lambda picture: picture.name)
        random.Random(f"{seed} {label}").shuffle(candidates)
        wanted = min(HELD_OUT_MOST, max(1, round(len(candidates) * HELD_OUT_SHARE)))
        wanted = min(wanted, len(candidates) - 1)
        for picture in candidates:
            if wanted == 0:
                break
            if picture.path not in repeated and _opens(picture.path):
                kept.add(picture.path)
                wanted -= 1
    if not kept:
        raise DemoError(
            f"no picture in {dataset.folder} can be held out: none opens that is there only once"
        )
    return Split(
        tuple(picture for picture in dataset.pictures if picture.path not in kept),
        tuple(picture for picture in dataset.pictures if picture.path in kept),
    )


def exam_names(pictures: Iterable[Picture]) -> dict[str, Picture]:
    """A unique file name for each image, which does not contain its class."""
    pictures = tuple(pictures)
    uses = Counter(picture.path.name for picture in pictures)
    return {
        picture.path.name
        if uses[picture.path.name] == 1
        else f"{number:03}-{picture.path.name}": picture
        for number, picture in enumerate(pictures, start=1)
    }


def _visible_files(folder: Path) -> Iterable[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def _check(dataset: Dataset, class_folders: list[Path]) -> None:
    if not dataset.pictures:
        raise DemoError(
            f"no pictures in {dataset.folder} or the {len(class_folders)} folders in it",
            f"looked for files ending in {', '.join(sorted(SUFFIXES))}",
        )
    counts = Counter(picture.label for picture in dataset.pictures)
    if len(counts) < 2:
        (only,) = counts
        inner = [entry for entry in (dataset.folder / only).iterdir() if entry.is_dir()]
        raise DemoError(
            f"{dataset.folder} holds pictures of one class only, {only!r}; a classifier needs two",
            f"its folder {only!r} holds {len(inner)} folders: if those are the classes, "
            f"say DATASET={dataset.folder / only}"
            if len(inner) > 1
            else "add a folder with the pictures of a second class",
        )
    single = sorted(label for label, count in counts.items() if count == 1)
    if single:
        raise DemoError(
            f"only one picture in {', '.join(repr(label) for label in single)}: "
            "one to learn from and one to be asked about are needed in every class",
            f"add pictures to {dataset.folder / single[0]}, or take the folder out",
        )


def _opens(path: Path) -> bool:
    """Whether Pillow reads the picture's header."""
    try:
        with Image.open(path):
            return True
    except (OSError, ValueError, Image.DecompressionBombError):
        return False


def _repeated(pictures: Iterable[Picture]) -> set[Path]:
    """The images with the same bytes as another one; only equal sizes are compared."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for picture in pictures:
        by_size[picture.path.stat().st_size].append(picture.path)
    by_content: dict[bytes, list[Path]] = defaultdict(list)
    for paths in by_size.values():
        if len(paths) > 1:
            for path in paths:
                with path.open("rb") as file:
                    by_content[hashlib.file_digest(file, "sha256").digest()].append(path)
    return {path for paths in by_content.values() if len(paths) > 1 for path in paths}
