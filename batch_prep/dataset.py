"""What was packed becomes a labelled dataset, or the sentence that says why it is none."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from batch_prep.errors import JobError
from batch_prep.fingerprint import FINGERPRINT_BYTES
from batch_prep.likeness import near_groups
from batch_prep.pieces import PackedPicture, Skipped
from batch_prep.splits import CHANNELS, TRAIN, VALIDATION

# What begins so is a picture that its owner meant to be trained on.
_BAD_PICTURE = ("image.", "row.")
_DIGEST_BYTES = 16

_ROW = np.dtype(
    [
        ("id", np.int64),
        ("sha256", f"S{_DIGEST_BYTES}"),
        ("fingerprint", np.int8, FINGERPRINT_BYTES),
        ("shard", np.int32),
        ("start", np.int64),
        ("end", np.int64),
        ("label", np.int32),
        ("channel", np.int8),
        ("upscaled", np.bool_),
        ("size", np.int32),
        ("width", np.int32),
        ("height", np.int32),
    ]
)
_ROWS_AT_ONCE = 65536


class Table:
    """Every packed picture as a row of numbers, 135 bytes each, in the order of the records."""

    def __init__(self) -> None:
        self._blocks: list[np.ndarray] = []
        self._used = _ROWS_AT_ONCE

    def add(self, shard: int, picture: PackedPicture) -> None:
        """Append a picture that lies in the piece of this shard."""
        if self._used == _ROWS_AT_ONCE:
            self._blocks.append(np.zeros(_ROWS_AT_ONCE, _ROW))
            self._used = 0
        self._blocks[-1][self._used] = (
            picture.id,
            bytes.fromhex(picture.sha256[: 2 * _DIGEST_BYTES]),
            np.frombuffer(picture.fingerprint, np.int8),
            shard,
            picture.start,
            picture.end,
            picture.label,
            CHANNELS.index(picture.channel),
            picture.upscaled,
            picture.size,
            picture.width,
            picture.height,
        )
        self._used += 1

    def rows(self) -> np.ndarray:
        """All rows; nothing can be added afterwards."""
        if not self._blocks:
            return np.zeros(0, _ROW)
        self._blocks[-1] = self._blocks[-1][: self._used]
        rows = np.concatenate(self._blocks)
        self._blocks.clear()
        return rows


@dataclass(slots=True)
class Dataset:
    """A labelled dataset.

    classes: names, sorted; a class's number is its place. rows: every packed picture; kept:
    whether it stays. skipped: what was not packed. duplicates: equal files in one class, of which
    the first stays; conflicts: equal files in several, of which none does. near: pictures that
    look the same, in one class; near_conflicts: in several. Of these two, those held out for
    validation are left out where others are trained on, and those held out for a test where others
    are not. is_split: whether the dataset came with its split, which puts a duplicate that is
    trained on first.
    """

    classes: list[str]
    rows: np.ndarray
    skipped: list[Skipped]
    is_split: bool = False
    kept: np.ndarray = field(init=False)
    duplicates: list[list[int]] = field(default_factory=list)
    conflicts: list[list[int]] = field(default_factory=list)
    near: list[list[int]] = field(default_factory=list)
    near_conflicts: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.kept = np.ones(len(self.rows), np.bool_)

    def labels(self, group: Iterable[int]) -> list[str]:
        """The classes that these rows are in, sorted."""
        return [
            self.classes[label] for label in sorted({int(self.rows["label"][i]) for i in group})
        ]

    def count(self, where: np.ndarray) -> list[int]:
        """How many of these rows each class has."""
        return np.bincount(self.rows["label"][where], minlength=len(self.classes)).tolist()

    def in_channel(self, channel: str) -> np.ndarray:
        """Which rows stay and are in this channel."""
        return self.kept & (self.rows["channel"] == CHANNELS.index(channel))


def assemble(
    classes: list[str],
    rows: np.ndarray,
    skipped: list[Skipped],
    max_bad: float,
    *,
    is_split: bool = False,
) -> Dataset:
    """Leave out what must not be trained on or measured with.

    Raises JobError where too much is unusable.
    """
    dataset = Dataset(classes, rows, skipped, is_split)
    _check_usable(dataset, max_bad)
    _leave_out_copies(dataset)
    _leave_out_leaks(dataset)
    return dataset


def is_bad(skipped: Skipped) -> bool:
    """Whether its owner meant it to be a picture of the dataset."""
    return skipped.code.startswith(_BAD_PICTURE)


def _leave_out_copies(dataset: Dataset) -> None:
    """Of equal files in one class keep the first, of those in several none."""
    for group in _equal(dataset.rows["sha256"]):
        if dataset.is_split:
            group.sort(key=lambda row: (int(dataset.rows["channel"][row]), row))
        if len({int(label) for label in dataset.rows["label"][group]}) == 1:
            dataset.duplicates.append(group)
            dataset.kept[group[1:]] = False
        else:
            dataset.conflicts.append(group)
            dataset.kept[group] = False


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


def _leave_out_leaks(dataset: Dataset) -> None:
    """Keep pictures that look the same in one channel: the one that trains, else validation."""
    kept = np.flatnonzero(dataset.kept)
    for members in near_groups(dataset.rows["fingerprint"][kept].view(np.uint8)):
        group = [int(kept[member]) for member in members]
        same_label = len({int(label) for label in dataset.rows["label"][group]}) == 1
        (dataset.near if same_label else dataset.near_conflicts).append(group)
        channels = dataset.rows["channel"][group]
        dataset.kept[np.array(group)[channels != channels.min()]] = False


def _check_usable(dataset: Dataset, max_bad: float) -> None:
    bad = [entry for entry in dataset.skipped if is_bad(entry)]
    pictures = len(dataset.rows)
    if not pictures:
        raise JobError(f"The dataset has no readable picture{_first_of(dataset.skipped)}.")
    share = len(bad) / (len(bad) + pictures)
    if share > max_bad:
        raise JobError(
            f"{len(bad)} of {len(bad) + pictures} pictures ({share:.0%}) cannot be used, more "
            f"than the {max_bad:.0%} that are allowed{_first_of(bad)}."
        )


def check_classes(dataset: Dataset, names: Callable[[], Mapping[int, str]]) -> None:
    """Raise JobError where a class has nothing to learn from, or nothing can be measured.

    names: gives those of the pictures in conflicts, by row, for the sentence.
    """
    if len(dataset.classes) < 2:
        raise JobError(
            f"The dataset has one class ('{dataset.classes[0]}'), but a classifier needs at least "
            "two, each with its pictures in a folder or under a label of its own."
        )
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
    skipped = [entry for entry in dataset.skipped if entry.label == name]
    has_pictures = (dataset.rows["label"] == empty[0]).any()
    left = " to train on" if has_pictures else ""
    nothing = "the dataset's split holds all of them out" if has_pictures else "its folder is empty"
    why = _first_of(skipped) or f": {nothing}"
    return f"The class '{name}'{others} has no readable picture{left}{why}."


def _first_of(skipped: Sequence[Skipped]) -> str:
    if not skipped:
        return ""
    return f"; the first of {len(skipped)} skipped is {skipped[0].name}: {skipped[0].reason}"
