"""The plan of a shard: which image becomes which record of which channel.

The plan follows from the images' names, before any image is read. Each image's draw is a hash of
its name, records are in the order of the draws, and the smallest draws of every class are its
validation images. A shard is a range of draws. So shards packed independently equal one job's
output, and an image keeps its channel when the dataset grows, except at the threshold. A dataset
that has a split keeps it: then no channel is drawn.

Corrections are trained on, so that the images that models are measured on stay the same from run to
run; only those of a class that the dataset does not have are drawn as its own are.
"""

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from batch_prep.errors import JobError
from batch_prep.shards.spool import Spooled
from batch_prep.sources.entries import Entry, File, FolderSeen, Ignored, Refused
from batch_prep.sources.ready_made_splits import (
    EXPORTS,
    NONE,
    TEST,
    TRAIN,
    VALIDATION,
    SplitFolders,
    Survey,
    quoted,
)
from droplens.domain.layout import NONE_CLASS
from droplens.domain.text import class_name_problem, one_line

_DRAWS = 2**64
# ImageNet has 21,841. A response of an endpoint has all of them, in the memory of a function.
_MOST_CLASSES = 50_000
# How many names a warning needs: no more are kept.
_MOST_NAMED = 100
# The number of images of no class, while classes are numbered in the order of their appearance.
_NO_CLASS = -1


@dataclass(frozen=True, slots=True)
class Planned:
    """An image with its record.

    id: the record's number, unique in all channels; label: the number of its class, or of classes
    for an image of none.
    """

    id: int
    label: int
    channel: str
    image: File | Spooled


@dataclass(frozen=True, slots=True)
class Reading:
    """How a dataset was read: the same for all of its shards.

    classes: names, sorted; a class's number is its index. channels: those that have records.
    given: the source of each channel where the dataset has a split, for example
    {"validation": "val/"}; None where the channels were drawn. read_as: a sentence on the labels
    and the split. warnings: sentences on what looks like a mistake in the paths.
    """

    classes: list[str]
    channels: tuple[str, ...]
    given: dict[str, str] | None
    read_as: str
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class Plan:
    """The part of a dataset that one shard packs.

    reading: of the whole dataset. images: the shard's own, in the order of their records.
    skipped: the shard's own part of the files refused by name or size, each with the class that it
    belongs to ("" for none). dataset, shard: SHA-256 in hexadecimal that identify the planned
    dataset and the planned shard.
    """

    reading: Reading
    images: list[Planned]
    skipped: list[tuple[str, Refused]]
    dataset: str
    shard: str

    @property
    def classes(self) -> list[str]:
        """Their names, sorted."""
        return self.reading.classes


class Crowded(Exception):
    """The shard has more images than may be named in memory. images: of the whole dataset."""

    def __init__(self, images: int) -> None:
        super().__init__(images)
        self.images = images


def plan(
    entries: Callable[[], Iterable[Entry | Spooled]],
    *,
    listed: str,
    validation: float,
    seed: int,
    shard: int = 0,
    shards: int = 1,
    most: int | None = None,
) -> Plan:
    """Plan shard number `shard` of `shards`.

    The class folders are the top ones, those one below where a single top folder wraps them all,
    or those below folders that are splits (see `ready_made_splits`); of a listed source, the first
    part of a path is the label from its list. listed: the name of the list, "" for none.

    Keeps 13 bytes in memory for each image of another shard. Raises Crowded where the shard has
    more than `most` images, and JobError where there is only one class, or one whose name cannot
    be shown.
    """
    drawing = _Drawing(shard, shards, seed, listed, 0, most)
    drawing.take(entries())
    survey = drawing.survey
    if not listed:
        outer = int(drawing.is_wrapped)
        split = survey.split_folders(outer)
        if split is not None or outer:
            depth = outer + (split is not None)
            drawing = _Drawing(shard, shards, seed, listed, depth, most, split=split)
            drawing.take(entries())
        if split is None and (doubts := survey.doubts(outer)):
            if drawing.label_files:
                raise JobError(
                    f"{drawing.label_files[0]} seems to label the pictures beside it, but is not "
                    "read in an archive: put the unpacked files into the dataset's folder, then "
                    "_READY."
                )
            drawing.warnings += doubts
    return drawing.plan(validation)


@dataclass(slots=True)
class _Drawing:
    """One pass over a dataset's entries.

    depth: index of the class in a path; split: the folders one level above, if they are splits.
    """

    shard: int
    shards: int
    seed: int
    listed: str
    depth: int
    most: int | None
    split: SplitFolders | None = None
    numbers: dict[str, int] = field(default_factory=dict)
    draws: "array[int]" = field(default_factory=lambda: array("Q"))
    classes: "array[int]" = field(default_factory=lambda: array("i"))
    corrected: "array[int]" = field(default_factory=lambda: array("b"))
    splits: Counter[str] = field(default_factory=Counter)
    own: list[tuple[int, str, int, File | Spooled, str]] = field(default_factory=list)
    skipped: list[tuple[str, Refused]] = field(default_factory=list)
    tops: set[str] = field(default_factory=set)
    has_images_in_top: bool = False
    has_nested: bool = False
    survey: Survey = field(default_factory=Survey)
    with_images: set[str] = field(default_factory=set)
    folders_in: dict[str, set[str]] = field(default_factory=dict)
    ignored: Counter[bool] = field(default_factory=Counter)
    ignored_names: tuple[list[str], list[str]] = field(default_factory=lambda: ([], []))
    label_files: list[str] = field(default_factory=list)
    unlabelled: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)

    @property
    def is_wrapped(self) -> bool:
        return len(self.tops) == 1 and self.has_nested and not self.has_images_in_top

    def take(self, entries: Iterable[Entry | Spooled]) -> None:
        for entry in entries:
            if isinstance(entry, Ignored):
                self._ignore(entry)
                continue
            if isinstance(entry, File | Spooled) and entry.corrected:
                self._correct(entry)
                continue
            if entry.parts:
                self.tops.add(entry.parts[0])
            if isinstance(entry, FolderSeen):
                if self._split_of(entry.parts) is not None:
                    self._number(entry.parts)
                continue
            self.has_nested |= len(entry.parts) > 2
            if isinstance(entry, Refused):
                self._refuse(entry)
                continue
            self.has_images_in_top |= len(entry.parts) == 2
            if not self.depth and not self.listed:
                self.survey.see(entry.parts)
            if len(entry.parts) > self.depth + 1 and self._split_of(entry.parts) is not None:
                self._draw(entry)
            elif self.split is not None:
                self._skip_unlabelled(entry)
        if self.most is not None and len(self.own) > self.most:
            raise Crowded(len(self.draws))

    def _ignore(self, entry: Ignored) -> None:
        self.ignored[entry.by_system] += 1
        names = self.ignored_names[entry.by_system]
        if len(names) < _MOST_NAMED:
            names.append(entry.name)

    def _split_of(self, parts: tuple[str, ...]) -> str | None:
        """The split of the path's folder: "" without splits, None for a folder that is none."""
        if self.split is None:
            return ""
        if len(parts) < self.depth:
            return None
        return self.split.folders.get(parts[self.depth - 1])

    def _number(self, parts: tuple[str, ...]) -> int | None:
        if len(parts) <= self.depth:
            return None
        return self.numbers.setdefault(parts[self.depth], len(self.numbers))

    def _refuse(self, entry: Refused) -> None:
        if entry.parts and entry.parts[-1] in EXPORTS:
            self.label_files.append(entry.name)
        if entry.parts and len(entry.parts) <= self.depth + 1:
            return  # in no class folder
        label = ""
        if entry.parts and self._split_of(entry.parts) is not None:
            self._number(entry.parts)
            label = entry.parts[self.depth]
        if self._is_own(_draw_of(self.seed, entry.name)):
            self.skipped.append((label, entry))

    def _skip_unlabelled(self, image: File | Spooled) -> None:
        """Skip an image that is in a split's folder but in no class folder."""
        folder = image.parts[self.depth - 1]
        self.unlabelled[folder] += 1
        if self._is_own(_draw_of(self.seed, image.name)):
            reason = f"it lies right in '{folder}', in no class folder, so that nothing labels it"
            refused = Refused(image.name, image.parts, "file.unlabelled", reason)
            self.skipped.append(("", refused))

    def _draw(self, image: File | Spooled) -> None:
        # The label from a list is not part of the hashed name, so that the order equals that of the
        # same folders without a list. A split's folder is: two splits may have equal names in them.
        first = 1 if self.listed else self.depth - (self.split is not None)
        name = "/".join(image.parts[first:])
        draw = _draw_of(self.seed, name)
        split = self._split_of(image.parts) or image.split
        number = self._number(image.parts)
        assert number is not None
        if split:
            self.splits[split] += 1
        if not self.listed:
            self._note_folder(image.parts)
        self._note(draw, name, number, image, split)

    def _correct(self, image: File | Spooled) -> None:
        """Take a correction, whose class is the first part of its path, whatever the dataset is."""
        label = image.parts[0]
        number = _NO_CLASS
        if label != NONE_CLASS:
            number = self.numbers.setdefault(label, len(self.numbers))
        self._note(_draw_of(self.seed, image.name), image.name, number, image, "")

    def _note(self, draw: int, name: str, number: int, image: File | Spooled, split: str) -> None:
        self.draws.append(draw)
        self.classes.append(number)
        self.corrected.append(image.corrected)
        if self._is_own(draw) and (self.most is None or len(self.own) <= self.most):
            self.own.append((draw, name, number, image, split))

    def _note_folder(self, parts: tuple[str, ...]) -> None:
        """Record whether a class folder holds images or only folders of them, for a warning."""
        label = parts[self.depth]
        if len(parts) == self.depth + 2:
            self.with_images.add(label)
        elif label not in self.with_images:
            folders = self.folders_in.setdefault(label, set())
            if len(folders) < _MOST_NAMED:
                folders.add(parts[self.depth + 1])

    def _is_own(self, draw: int) -> bool:
        return draw * self.shards // _DRAWS == self.shard

    def plan(self, validation: float) -> Plan:
        names = sorted(self.numbers)
        if len(names) > _MOST_CLASSES:
            raise JobError(
                f"The dataset has {len(names):,} classes, the limit is {_MOST_CLASSES:,}."
            )
        for name in names:
            if problem := class_name_problem(name):
                raise JobError(
                    f"'{one_line(name, 100)}' cannot be the name of a class: it {problem}."
                )
        if len(names) == 1 and self.draws:
            raise JobError(
                f"The dataset has one class ('{names[0]}'), but a classifier needs at least two, "
                "each with its pictures in a folder or under a label of its own."
            )
        channel_of = self._channels()
        draws = np.frombuffer(self.draws, np.uint64)
        classes = np.frombuffer(self.classes, np.int32)
        label_of = {self.numbers[name]: label for label, name in enumerate(names)}
        label_of[_NO_CLASS] = len(names)
        corrected = np.frombuffer(self.corrected, np.int8) != 0
        own_classes = np.unique(classes[~corrected])
        known = {int(number) for number in own_classes}
        drawn = (~corrected | ~np.isin(classes, own_classes)) & (classes != _NO_CLASS)
        borders: dict[int, int] = {}
        if channel_of is None:
            borders = dict(_borders(draws[drawn], classes[drawn], validation))

        def channel(draw: int, number: int, image: File | Spooled, split: str) -> str:
            if number == _NO_CLASS:
                return NONE
            if image.corrected and (channel_of is not None or number in known):
                return TRAIN
            if channel_of is not None:
                return channel_of[split]
            return VALIDATION if draw <= borders.get(number, -1) else TRAIN

        first = int(np.count_nonzero(draws < -(-self.shard * _DRAWS // self.shards)))
        self.own.sort(key=lambda one: one[:2])
        images = [
            Planned(
                first + index,
                label_of[number],
                channel(draw, number, image, split),
                image,
            )
            for index, (draw, _, number, image, split) in enumerate(self.own)
        ]
        hashed: list[object] = [names, self.seed, validation]
        if channel_of is not None:
            hashed.append(sorted(self.splits.items()))
        dataset = hashlib.sha256(json.dumps(hashed).encode())
        dataset.update(np.sort(draws).tobytes())
        shard = dataset.copy()
        for one in images:
            given = channel_of is not None or one.image.corrected
            row = f"{one.label} {one.image.name} {one.image.version}\n"
            shard.update((f"{one.channel} {row}" if given else row).encode())
        return Plan(
            reading=self._reading(names, channel_of, validation, known),
            images=images,
            skipped=self.skipped,
            dataset=dataset.hexdigest(),
            shard=shard.hexdigest(),
        )

    def _channels(self) -> dict[str, str] | None:
        """The channel of each split; None where the channels are drawn.

        Where there is no validation split, the test split is the validation channel.
        """
        if self.splits.keys() <= {TRAIN}:
            return None
        if not self.splits[TRAIN]:
            raise JobError(
                f"The dataset's split has no picture to train on: all are for "
                f"{' and '.join(sorted(split for split, n in self.splits.items() if n))}."
            )
        test = TEST if self.splits[VALIDATION] else VALIDATION
        return {TRAIN: TRAIN, VALIDATION: VALIDATION, TEST: test}

    def _reading(
        self,
        names: list[str],
        channel_of: dict[str, str] | None,
        validation: float,
        known: set[int],
    ) -> Reading:
        given = None
        if channel_of is not None:
            given = {
                channel_of[split]: self._source_of(split)
                for split in (TRAIN, VALIDATION, TEST)
                if self.splits[split]
            }
        labels = f"labels of {self.listed}" if self.listed else "class folders"
        if self.split is not None:
            labels += f" in the folders {quoted(self.split.folders, 10)}"
        split = (
            f"; of every class a share of {validation:g} was drawn for validation"
            if given is None
            else "; the split is the dataset's own: "
            + ", ".join(f"{channel} is {source}" for channel, source in given.items())
        )
        channels = tuple(given) if given is not None else (TRAIN, VALIDATION)
        if _NO_CLASS in self.classes:
            channels = (*channels, NONE)
        warnings = self._warnings()
        if added := [name for name in names if self._is_added(self.numbers[name], known)]:
            warnings.append(one_line(f"Only corrections have the classes {quoted(added)}."))
        return Reading(names, channels, given, labels + split, warnings)

    def _is_added(self, number: int, known: set[int]) -> bool:
        """Whether corrections have the class, and the dataset has no image of it."""
        return number not in known and number in self.classes

    def _source_of(self, split: str) -> str:
        """The folders of a split, or its name where a list gave it."""
        if self.split is None:
            return f"'{split}'"
        return quoted(
            (f"{folder}/" for folder, one in self.split.folders.items() if one == split), 10
        )

    def _warnings(self) -> list[str]:
        """Sentences on what looks like a mistake in the paths."""
        warnings = list(self.warnings)
        for label, folders in sorted(self.folders_in.items()):
            if label not in self.with_images and len(folders) > 1:
                more = " or more" if len(folders) == _MOST_NAMED else ""
                warnings.append(
                    f"The class '{label}' has no picture in its folder itself, but in "
                    f"{len(folders)}{more} folders in it, {quoted(sorted(folders))}: all are taken "
                    "for one class. If they are classes, put them a level higher."
                )
        for folder, count in sorted(self.unlabelled.items()):
            warnings.append(
                f"{count:,} pictures right in '{folder}' are in no class folder: they are left out."
            )
        for count, names, sentence in (
            (
                self.ignored[False],
                self.ignored_names[False],
                "pictures beside the class folders are in no class and left out",
            ),
            (
                self.ignored[True],
                self.ignored_names[True],
                "files that systems make are no part of the dataset and passed over",
            ),
        ):
            if count:
                warnings.append(f"{count:,} {sentence}: {quoted(names, 3, count)}.")
        return [one_line(warning) for warning in warnings]


def _draw_of(seed: int, name: str) -> int:
    digest = hashlib.sha256(f"{seed} {name}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big")


def _borders(
    draws: np.ndarray, classes: np.ndarray, validation: float
) -> Iterator[tuple[int, int]]:
    """Each class's number, with the largest draw among its validation images.

    A class's validation images are its share, rounded, at least one and never all; a class with a
    single image has none.
    """
    order = np.argsort(classes, kind="stable")
    if not len(order):
        return
    borders = [0, *(np.flatnonzero(np.diff(classes[order])) + 1), len(order)]
    for start, end in pairwise(borders):
        members = draws[order[start:end]]
        count = min(max(1, round(len(members) * validation)), len(members) - 1)
        if count:
            yield int(classes[order[start]]), int(np.partition(members, count - 1)[count - 1])
