"""What was packed becomes a labelled dataset, or the sentence that says why it is none."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from batch_prep.entries import Refused
from batch_prep.errors import JobError
from batch_prep.pack import Packed, Picture

# What begins so is a picture that its owner meant to be trained on.
_BAD_PICTURE = ("image.", "row.")


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A picture whose bytes are those of `same_as`, in the same class: left out."""

    name: str
    same_as: str
    label: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """A picture whose bytes are those of `same_as`, found under several labels: all left out."""

    name: str
    same_as: str
    labels: list[str]


@dataclass(frozen=True, slots=True)
class Dataset:
    """A labelled dataset with at least one picture in each of at least two classes.

    classes: names, sorted; a class's number is its place. pictures: by class name, each picture's
    bytes once. skipped: by class name; under "" those whose path itself was refused.
    """

    classes: list[str]
    pictures: dict[str, list[Picture]]
    skipped: dict[str, list[Refused]]
    duplicates: list[Duplicate]
    conflicts: list[Conflict]


def assemble(packed: Packed, max_bad: float, *, listed: bool = False) -> Dataset:
    """Label every picture by its class folder, and leave duplicates out.

    The class folders are the top ones, or those one below where a single top folder wraps them
    all. In a listed source the first part of a path is the label that the list gave. Raises
    JobError where too much is unusable or a class has nothing to learn from.
    """
    depth = 0 if listed else _class_depth(packed)
    pictures = [picture for picture in packed.pictures if len(picture.parts) > depth + 1]
    skipped: defaultdict[str, list[Refused]] = defaultdict(list)
    for entry in packed.skipped:
        if not entry.parts or len(entry.parts) > depth + 1:
            skipped[entry.parts[depth] if entry.parts else ""].append(entry)
    _check_usable(pictures, list(chain.from_iterable(skipped.values())), max_bad)

    names = {picture.parts[depth] for picture in pictures} | skipped.keys()
    names |= {parts[depth] for parts in packed.folders if len(parts) > depth}
    kept, duplicates, conflicts = _without_duplicates(pictures, depth)
    dataset = Dataset(sorted(names - {""}), kept, skipped, duplicates, conflicts)
    _check_classes(dataset)
    return dataset


def _class_depth(packed: Packed) -> int:
    """0 where the top folders are the classes, 1 where one top folder wraps the class folders."""
    files = [picture.parts for picture in packed.pictures]
    files += [entry.parts for entry in packed.skipped if entry.parts]
    tops = {parts[0] for parts in [*files, *packed.folders]}
    pictures_in_top = any(len(picture.parts) == 2 for picture in packed.pictures)
    nested = any(len(parts) > 2 for parts in files)
    return 1 if len(tops) == 1 and nested and not pictures_in_top else 0


def _check_usable(pictures: list[Picture], skipped: list[Refused], max_bad: float) -> None:
    bad = [entry for entry in skipped if entry.code.startswith(_BAD_PICTURE)]
    if not pictures:
        raise JobError(f"The dataset has no readable picture{_first_of(skipped)}.")
    share = len(bad) / (len(bad) + len(pictures))
    if share > max_bad:
        raise JobError(
            f"{len(bad)} of {len(bad) + len(pictures)} pictures ({share:.0%}) cannot be used, more "
            f"than the {max_bad:.0%} that are allowed{_first_of(bad)}."
        )


def _check_classes(dataset: Dataset) -> None:
    if len(dataset.classes) < 2:
        raise JobError(
            f"The dataset has one class ('{dataset.classes[0]}'), but a classifier needs at least "
            "two, each with its pictures in a folder or under a label of its own."
        )
    empty = [name for name in dataset.classes if not dataset.pictures.get(name)]
    if not empty:
        return
    name = empty[0]
    others = f" (like {len(empty) - 1} more)" if len(empty) > 1 else ""
    conflict = next((entry for entry in dataset.conflicts if name in entry.labels), None)
    if conflict:
        raise JobError(
            f"The class '{name}'{others} has no picture of its own: {conflict.name} is the same "
            f"file as {conflict.same_as}, and pictures found in several classes are left out."
        )
    why = _first_of(dataset.skipped.get(name, [])) or ": its folder is empty"
    raise JobError(f"The class '{name}'{others} has no readable picture{why}.")


def _first_of(skipped: list[Refused]) -> str:
    if not skipped:
        return ""
    return f"; the first of {len(skipped)} skipped is {skipped[0].name}: {skipped[0].reason}"


def _without_duplicates(
    pictures: Iterable[Picture], depth: int
) -> tuple[dict[str, list[Picture]], list[Duplicate], list[Conflict]]:
    """Each class's pictures with every file once, and without those found in two classes.

    Of equal files the one whose name sorts first is kept, whatever order they came in.
    """
    same_bytes: defaultdict[str, list[Picture]] = defaultdict(list)
    for picture in sorted(pictures, key=lambda picture: picture.name):
        same_bytes[picture.digest].append(picture)
    kept: defaultdict[str, list[Picture]] = defaultdict(list)
    duplicates: list[Duplicate] = []
    conflicts: list[Conflict] = []
    for first, *others in same_bytes.values():
        labels = sorted({picture.parts[depth] for picture in (first, *others)})
        if len(labels) == 1:
            kept[labels[0]].append(first)
            duplicates += [Duplicate(other.name, first.name, labels[0]) for other in others]
        else:
            conflicts += [Conflict(other.name, first.name, labels) for other in others]
    return dict(kept), duplicates, conflicts
