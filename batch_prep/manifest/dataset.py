"""Assemble a labelled dataset from what was packed: duplicates and leaks are left out."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from batch_prep.errors import JobError
from batch_prep.image.fingerprint import FINGERPRINT_BYTES
from batch_prep.image.near_duplicates import near_groups
from batch_prep.shards.files import PackedImage, Skipped
from batch_prep.sources.ready_made_splits import CHANNELS, TRAIN, VALIDATION
from droplens.domain.layout import NONE_CLASS

# Codes of files that were meant to be images of the dataset.
_BAD_IMAGE = ("image.", "row.")
_DIGEST_BYTES = 16

# 43 bytes. The limits of classes and shards fit into 16 bits, and so does a side: by the limits
# of pixels and aspect ratio it is at most 44,721.
ROW = np.dtype(
    [
        ("sha256", f"S{_DIGEST_BYTES}"),
        ("start", np.int64),
        ("length", np.int32),
        ("size", np.int32),
        ("shard", np.uint16),
        ("label", np.uint16),
        ("width", np.uint16),
        ("height", np.uint16),
        ("channel", np.int8),
        ("upscaled", np.bool_),
        ("corrected", np.bool_),
    ]
)
_ROWS_AT_ONCE = 65536


class Table:
    """Every packed image as a row of numbers and a fingerprint, in the order of the records.

    Both arrays grow in place (realloc remaps pages instead of copying), since twice their size
    would not fit into the memory of the merge.
    """

    def __init__(self) -> None:
        self._rows: np.ndarray = np.zeros(0, ROW)
        self._fingerprints: np.ndarray = np.zeros((0, FINGERPRINT_BYTES), np.int8)
        self._used = 0

    def add(self, shard: int, image: PackedImage) -> None:
        """Append an image of the shard with this number."""
        if self._used == len(self._rows):
            self._resize(self._used + _ROWS_AT_ONCE)
        self._fingerprints[self._used] = np.frombuffer(image.fingerprint, np.int8)
        self._rows[self._used] = (
            bytes.fromhex(image.sha256[: 2 * _DIGEST_BYTES]),
            image.start,
            image.end - image.start,
            image.size,
            shard,
            image.label,
            image.width,
            image.height,
            CHANNELS.index(image.channel),
            image.upscaled,
            image.corrected,
        )
        self._used += 1

    def freeze(self) -> tuple[np.ndarray, np.ndarray]:
        """All rows, and int8 [images, FINGERPRINT_BYTES]; nothing can be added afterwards."""
        self._resize(self._used)
        return self._rows, self._fingerprints

    def _resize(self, rows: int) -> None:
        self._rows.resize(rows, refcheck=False)
        self._fingerprints.resize((rows, FINGERPRINT_BYTES), refcheck=False)


@dataclass(slots=True)
class SkippedFiles:
    """The skipped files: all are counted, and the first `most` by class and name are kept.

    total: files; by_class: files by the name of their class, "" for none; bad: files that were
    meant to be images of the dataset; first_bad, first_of_class: the first of these.
    """

    most: int
    total: int = 0
    bad: int = 0
    by_class: Counter[str] = field(default_factory=Counter)
    first_bad: Skipped | None = None
    first_of_class: dict[str, Skipped] = field(default_factory=dict)
    _kept: list[Skipped] = field(default_factory=list)

    def add(self, skipped: Skipped) -> None:
        """Count one more, in any order."""
        self.total += 1
        self.by_class[skipped.label] += 1
        first = self.first_of_class.get(skipped.label, skipped)
        self.first_of_class[skipped.label] = min(first, skipped, key=_by_class_and_name)
        if is_bad(skipped):
            self.bad += 1
            self.first_bad = min(self.first_bad or skipped, skipped, key=_by_class_and_name)
        self._kept.append(skipped)
        if len(self._kept) > 2 * self.most:
            self._kept = self.first

    @property
    def first(self) -> list[Skipped]:
        """The first `most` skipped files, by class and name."""
        return sorted(self._kept, key=_by_class_and_name)[: self.most]


def _by_class_and_name(skipped: Skipped) -> tuple[str, str]:
    return skipped.label, skipped.name


@dataclass(slots=True)
class Dataset:
    """A labelled dataset.

    classes: names, sorted; a class's number is its index. rows: every packed image; kept: whether
    it is in the dataset. skipped: what was not packed. duplicates: equal files in one class, of
    which the first is kept; conflicts: equal files in several classes, of which none is. near:
    near-duplicates in one class; near_conflicts: in several. Of a group in these two, only the
    images in its first channel (train, then validation, then test, then none) are kept. is_split:
    whether the dataset came with its split; then the duplicate in the first channel is kept.
    overruled: a correction, then the equal files of other classes, which are left out for it.
    """

    classes: list[str]
    rows: np.ndarray
    skipped: SkippedFiles
    is_split: bool
    kept: np.ndarray = field(init=False)
    duplicates: list[list[int]] = field(default_factory=list)
    conflicts: list[list[int]] = field(default_factory=list)
    near: list[list[int]] = field(default_factory=list)
    near_conflicts: list[list[int]] = field(default_factory=list)
    overruled: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.kept = np.ones(len(self.rows), np.bool_)

    def labels(self, group: Iterable[int]) -> list[str]:
        """Names of the classes that these rows are in, sorted."""
        return [self.label(label) for label in sorted({int(self.rows["label"][i]) for i in group})]

    def label(self, number: int) -> str:
        """The name of a class by its number; NONE_CLASS for the number of images of none."""
        return self.classes[number] if number < len(self.classes) else NONE_CLASS

    def count(self, where: np.ndarray) -> list[int]:
        """How many of these rows each class has; images of none are not counted."""
        counts = np.bincount(self.rows["label"][where], minlength=len(self.classes))
        return counts[: len(self.classes)].tolist()

    def in_channel(self, channel: str) -> np.ndarray:
        """bool [rows]: which are kept and in this channel."""
        return self.kept & (self.rows["channel"] == CHANNELS.index(channel))


def assemble(
    classes: list[str],
    table: Table,
    skipped: SkippedFiles,
    max_bad: float,
    *,
    is_split: bool,
) -> Dataset:
    """The dataset without duplicates, conflicts and near-duplicates across channels.

    max_bad: share of bad files above which a JobError is raised. Freezes the table.
    """
    rows, fingerprints = table.freeze()
    dataset = Dataset(classes, rows, skipped, is_split)
    _check_usable(dataset, max_bad)
    _leave_out_copies(dataset)
    _leave_out_leaks(dataset, fingerprints)
    return dataset


def is_bad(skipped: Skipped) -> bool:
    """Whether the skipped file was meant to be an image of the dataset."""
    return skipped.code.startswith(_BAD_IMAGE)


def _leave_out_copies(dataset: Dataset) -> None:
    """Of equal files in one class keep the first, of those in several classes none.

    Where corrections are among them, their class is the right one, unless they disagree.
    """
    for group in _equal(dataset.rows["sha256"]):
        if dataset.is_split:
            group.sort(key=lambda row: (int(dataset.rows["channel"][row]), row))
        if corrected := [row for row in group if dataset.rows["corrected"][row]]:
            group = _leave_out_overruled(dataset, group, corrected)
        if len(group) < 2:
            continue
        if len({int(label) for label in dataset.rows["label"][group]}) == 1:
            dataset.duplicates.append(group)
            dataset.kept[group[1:]] = False
        else:
            dataset.conflicts.append(group)
            dataset.kept[group] = False


def _leave_out_overruled(dataset: Dataset, group: list[int], corrected: list[int]) -> list[int]:
    """Leave out equal files that have another class than their corrections.

    Returns the others, the dataset's own first: they keep their channel.
    """
    labels = dataset.rows["label"]
    right = {int(labels[row]) for row in corrected}
    if len(right) > 1:
        return group
    wrong = [row for row in group if int(labels[row]) not in right]
    if wrong:
        dataset.overruled.append([corrected[0], *wrong])
        dataset.kept[wrong] = False
    return sorted((row for row in group if row not in wrong), key=corrected.__contains__)


def _equal(digests: np.ndarray) -> list[list[int]]:
    """Groups of rows with the same digest, each in the order of the rows."""
    order = np.argsort(digests, kind="stable")
    ordered = digests[order]
    borders = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1], True])
    lengths = np.diff(borders)
    return [
        sorted(order[start : start + length].tolist())
        for start, length in zip(borders[:-1][lengths > 1], lengths[lengths > 1], strict=True)
    ]


def _leave_out_leaks(dataset: Dataset, fingerprints: np.ndarray) -> None:
    """Keep near-duplicates in one channel only: train, else validation, else test."""
    for group in near_groups(fingerprints, dataset.kept):
        same_label = len({int(label) for label in dataset.rows["label"][group]}) == 1
        (dataset.near if same_label else dataset.near_conflicts).append(group)
        channels = dataset.rows["channel"][group]
        dataset.kept[np.array(group)[channels != channels.min()]] = False


def _check_usable(dataset: Dataset, max_bad: float) -> None:
    skipped, images = dataset.skipped, len(dataset.rows)
    if not images:
        first = next(iter(skipped.first), None)
        raise JobError(f"The dataset has no readable picture{_first_of(skipped.total, first)}.")
    share = skipped.bad / (skipped.bad + images)
    if share > max_bad:
        raise JobError(
            f"{skipped.bad} of {skipped.bad + images} pictures ({share:.0%}) cannot be used, "
            f"more than the {max_bad:.0%} that are allowed"
            f"{_first_of(skipped.bad, skipped.first_bad)}."
        )


def check_classes(dataset: Dataset, names: Callable[[], Mapping[int, str]]) -> None:
    """Raise JobError where a class has no training image, or no class has a validation image.

    names: called for the sentence only; returns names of the images in conflicts, by row.
    """
    train, validation = (
        dataset.count(dataset.in_channel(channel)) for channel in (TRAIN, VALIDATION)
    )
    empty = [label for label, count in enumerate(train) if not count]
    if empty:
        raise JobError(_why_empty(dataset, names(), empty))
    if not any(validation) and dataset.is_split:
        raise JobError(
            "Nothing is left to validate with: every picture that the dataset's split holds out "
            "could not be used, or is one that is trained on as well."
        )
    if not any(validation):
        raise JobError("No class has a second picture, so there is nothing to validate with.")


def _why_empty(dataset: Dataset, names: Mapping[int, str], empty: Sequence[int]) -> str:
    name = dataset.classes[empty[0]]
    others = f" (like {len(empty) - 1} more)" if len(empty) > 1 else ""
    conflict = next((group for group in dataset.conflicts if name in dataset.labels(group)), None)
    if conflict:
        return (
            f"The class '{name}'{others} has no picture of its own: {names[conflict[1]]} is the "
            f"same file as {names[conflict[0]]}, and pictures found in several classes are left "
            "out."
        )
    skipped = dataset.skipped
    has_images = (dataset.rows["label"] == empty[0]).any()
    left = " to train on" if has_images else ""
    nothing = "the dataset's split holds all of them out" if has_images else "its folder is empty"
    why = _first_of(skipped.by_class[name], skipped.first_of_class.get(name)) or f": {nothing}"
    return f"The class '{name}'{others} has no readable picture{left}{why}."


def _first_of(count: int, first: Skipped | None) -> str:
    if first is None:
        return ""
    return f"; the first of {count} skipped is {first.name}: {first.reason}"
