"""Stanford Cars as published: archives of images, and labels in MATLAB files.

Images are packed whole: bounding boxes are not applied. The published split into training and test
images is not used, since every run draws its own. The files are described at
https://ai.stanford.edu/~jkrause/cars/car_dataset.html and in the devkit's README.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, cast

from batch_prep.errors import JobError
from batch_prep.sources.archives import ArchiveLimits, open_archive
from batch_prep.sources.entries import Entry, File, Refused
from batch_prep.sources.labels import BadRow, Labels, Row, from_archive, gather
from batch_prep.sources.matfile import MatError, Value, read_mat
from batch_prep.storage.folder import Folder

# The source of the labels, for dataset.json.
NAME = "Stanford Cars"
# The combined form: all images, and annotations with paths from the archive's top.
_ALL = "car_ims.tgz"
_ALL_ANNOTATIONS = "cars_annos.mat"
# The devkit's form: its annotations have file names without their folder. The test images' labels
# were published later, beside the devkit.
_TRAIN, _TEST = "cars_train.tgz", "cars_test.tgz"
_TRAIN_ANNOTATIONS, _TEST_ANNOTATIONS = "cars_train_annos.mat", "cars_test_annos_withlabels.mat"
_CLASSES = "cars_meta.mat"
_DEVKIT = "car_devkit.tgz"
_IN_DEVKIT = (_TRAIN_ANNOTATIONS, _TEST_ANNOTATIONS, _CLASSES)


@dataclass(frozen=True, slots=True)
class _Part:
    """An archive of images with their labels."""

    archive: str
    labels: Labels


def is_published(names: Mapping[str, int]) -> bool:
    """Whether the files `names` at a dataset's top contain Stanford Cars' images."""
    return _ALL in names or _TRAIN in names


def open_cars(
    root: Folder, sizes: Mapping[str, int], limits: ArchiveLimits
) -> tuple[Iterator[Entry], int]:
    """The labelled images, which can be iterated once, and the least number of entries.

    sizes: in bytes, of the files at the top of `root`. Where the combined form is there, the
    devkit's archives are not read. Raises JobError where labels are missing.
    """
    files = _Files(root, sizes, limits)
    refused: list[Refused] = []
    if _ALL in sizes:
        parts = [_Part(_ALL, files.labels(_ALL_ANNOTATIONS, _ALL_ANNOTATIONS, "relative_im_path"))]
    else:
        parts = [_Part(_TRAIN, files.labels(_TRAIN_ANNOTATIONS, _CLASSES, "fname", "cars_train/"))]
        if _TEST in sizes and files.has(_TEST_ANNOTATIONS):
            labels = files.labels(_TEST_ANNOTATIONS, _CLASSES, "fname", "cars_test/")
            parts.append(_Part(_TEST, labels))
        elif _TEST in sizes:
            reason = f"without {_TEST_ANNOTATIONS} beside it nothing labels its pictures"
            refused.append(Refused(_TEST, (), "list.unlabelled", reason))
    total = sum(len(part.labels.rows) + len(part.labels.refused) for part in parts)
    return _entries(root, parts, refused, limits), total + len(refused)


def _entries(
    root: Folder, parts: list[_Part], refused: list[Refused], limits: ArchiveLimits
) -> Iterator[Entry]:
    yield from refused
    for part in parts:
        with _opened(root, part.archive) as stream:
            archive = open_archive(stream, part.archive, limits)
            yield from from_archive(part.labels, archive, part.archive)


def _opened(root: Folder, name: str) -> BinaryIO:
    try:
        return root.open(name)
    except FileNotFoundError:
        raise JobError(f"{root.url}{name} was removed while it was being packed.") from None


class _Files:
    """The .mat files beside the archives; for one that is missing, that in the devkit."""

    def __init__(self, root: Folder, sizes: Mapping[str, int], limits: ArchiveLimits) -> None:
        self._root = root
        self._sizes = sizes
        self._limits = limits
        self._devkit = self._unpacked() if _ALL not in sizes and _DEVKIT in sizes else {}

    def _unpacked(self) -> dict[str, bytes]:
        with _opened(self._root, _DEVKIT) as stream:
            return {
                entry.parts[-1]: entry.read()
                for entry in open_archive(stream, _DEVKIT, self._limits).entries
                if isinstance(entry, File) and entry.parts[-1] in _IN_DEVKIT
            }

    def has(self, name: str) -> bool:
        return name in self._sizes or name in self._devkit

    def labels(self, annotations: str, classes: str, path_field: str, folder: str = "") -> Labels:
        """The labels in the .mat file `annotations`, with the class names in `classes`."""
        names = self._variable(classes, "class_names")
        found = self._variable(annotations, "annotations")
        return gather(
            annotations,
            (
                _row(number, annotation, names, path_field, folder)
                for number, annotation in enumerate(found, 1)
            ),
            unit="annotation",
        )

    def _variable(self, name: str, variable: str) -> tuple[Value, ...]:
        try:
            value = read_mat(self._read(name), [variable]).get(variable)
        except MatError as error:
            raise JobError(f"{self._root.url}{name} cannot be read: {error}.") from error
        if not isinstance(value, tuple) or not value:
            raise JobError(f"{self._root.url}{name} has no array '{variable}'.")
        return cast("tuple[Value, ...]", value)

    def _read(self, name: str) -> bytes:
        if name not in self._sizes:
            if name in self._devkit:
                return self._devkit[name]
            raise JobError(
                f"{self._root.url} holds Stanford Cars' pictures, but not {name}, which labels "
                f"them{'' if _ALL in self._sizes else f', nor {_DEVKIT} with it'}."
            )
        if self._sizes[name] > self._limits.max_member_bytes:
            raise JobError(
                f"{self._root.url}{name} has {self._sizes[name]:,} bytes, the limit is "
                f"{self._limits.max_member_bytes:,}."
            )
        with _opened(self._root, name) as stream:
            return stream.read()


def _row(
    number: int, annotation: Value, names: tuple[Value, ...], path_field: str, folder: str
) -> Row | BadRow:
    """One annotation as a row. MATLAB counts from 1, so that class 1 is the first name."""
    fields: dict[str, Value] = annotation if isinstance(annotation, dict) else {}
    path, class_number = fields.get(path_field), fields.get("class")
    if not isinstance(path, str) or not path:
        return BadRow(number, "", "row.malformed", f"it has no {path_field}")
    match class_number:
        case (int() | float() as index,) if index in range(1, len(names) + 1):
            name = names[int(index) - 1]
        case _:
            reason = f"its class is none of the {len(names)} that have names"
            return BadRow(number, folder + path, "row.label", reason)
    if not isinstance(name, str):
        return BadRow(number, folder + path, "row.label", f"class {index:g} has no name")
    return Row(number, folder + path, name)
