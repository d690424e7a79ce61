"""Which picture becomes which record: order, number and channel, before a picture is fetched.

All of it follows from the names: each picture's draw is a hash of its name, records are in the
order of the draws, and the smallest draws of every class are its validation pictures. A shard is a
range of draws. So shards that know nothing of each other write what one job would have written,
and a picture keeps its channel when the dataset grows, except at the border.
"""

import hashlib
import json
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from batch_prep.entries import Entry, File, FolderSeen, Refused
from batch_prep.errors import JobError
from batch_prep.staging import Staged
from droplens.domain.text import class_name_problem, one_line

_DRAWS = 2**64
# ImageNet has 21,841. All of them are in one answer of an endpoint, and in memory of a function.
_MOST_CLASSES = 50_000
TRAIN, VALIDATION = "train", "validation"
CHANNELS = (TRAIN, VALIDATION)


@dataclass(frozen=True, slots=True)
class Planned:
    """A picture with its place in the dataset.

    id: its record's number, which no other record of either channel has; label: its class's.
    """

    id: int
    label: int
    channel: str
    picture: File | Staged


@dataclass(frozen=True, slots=True)
class Plan:
    """What one shard packs of a dataset.

    classes: names, sorted; a class's number is its place. pictures: the shard's own, in the order
    of their records. skipped: the shard's own part of what was refused by its name or size, with
    the class that it belongs to ("" for none). dataset, shard: change where another dataset, or
    another part of it, is planned.
    """

    classes: list[str]
    pictures: list[Planned]
    skipped: list[tuple[str, Refused]]
    dataset: str
    shard: str


class Crowded(Exception):
    """The shard has more pictures than may be named in memory. pictures: the dataset's."""

    def __init__(self, pictures: int) -> None:
        super().__init__(pictures)
        self.pictures = pictures


def plan(
    entries: Callable[[], Iterable[Entry | Staged]],
    *,
    listed: bool,
    validation: float,
    seed: int,
    shard: int = 0,
    shards: int = 1,
    most: int | None = None,
) -> Plan:
    """Plan shard number `shard` of `shards`.

    The class folders are the top ones, or those one below where a single top folder wraps them
    all; of a listed source, the first part of a path is the label that its list gave. Of other
    shards' pictures 12 bytes are kept, of the own ones all. Raises Crowded where these are more
    than `most`, and JobError where there is but one class, or one whose name cannot be shown.
    """
    drawing = _Drawing(shard, shards, seed, listed, 0, most)
    drawing.take(entries())
    if not listed and drawing.is_wrapped:
        drawing = _Drawing(shard, shards, seed, listed, 1, most)
        drawing.take(entries())
    return drawing.plan(validation)


@dataclass(slots=True)
class _Drawing:
    """One pass over a dataset's entries. depth: where in a path its class stands."""

    shard: int
    shards: int
    seed: int
    listed: bool
    depth: int
    most: int | None
    numbers: dict[str, int] = field(default_factory=dict)
    draws: "array[int]" = field(default_factory=lambda: array("Q"))
    classes: "array[int]" = field(default_factory=lambda: array("i"))
    own: list[tuple[int, str, int, File | Staged]] = field(default_factory=list)
    skipped: list[tuple[str, Refused]] = field(default_factory=list)
    tops: set[str] = field(default_factory=set)
    has_pictures_in_top: bool = False
    has_nested: bool = False

    @property
    def is_wrapped(self) -> bool:
        return len(self.tops) == 1 and self.has_nested and not self.has_pictures_in_top

    def take(self, entries: Iterable[Entry | Staged]) -> None:
        for entry in entries:
            if entry.parts:
                self.tops.add(entry.parts[0])
            if isinstance(entry, FolderSeen):
                self._number(entry.parts)
                continue
            self.has_nested |= len(entry.parts) > 2
            if isinstance(entry, Refused):
                self._refuse(entry)
                continue
            self.has_pictures_in_top |= len(entry.parts) == 2
            if len(entry.parts) > self.depth + 1:
                self._draw(entry)
        if self.most is not None and len(self.own) > self.most:
            raise Crowded(len(self.draws))

    def _number(self, parts: tuple[str, ...]) -> int | None:
        if len(parts) <= self.depth:
            return None
        return self.numbers.setdefault(parts[self.depth], len(self.numbers))

    def _refuse(self, entry: Refused) -> None:
        if entry.parts and len(entry.parts) <= self.depth + 1:
            return  # beside the class folders
        self._number(entry.parts)
        if self._is_own(_draw_of(self.seed, entry.name)):
            self.skipped.append((entry.parts[self.depth] if entry.parts else "", entry))

    def _draw(self, picture: File | Staged) -> None:
        # A list's label is no part of a name: the same folders give the same order without one.
        name = "/".join(picture.parts[1 if self.listed else self.depth :])
        draw = _draw_of(self.seed, name)
        number = self._number(picture.parts)
        assert number is not None
        self.draws.append(draw)
        self.classes.append(number)
        if self._is_own(draw) and (self.most is None or len(self.own) <= self.most):
            self.own.append((draw, name, number, picture))

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
        draws = np.frombuffer(self.draws, np.uint64)
        classes = np.frombuffer(self.classes, np.int32)
        label_of = {self.numbers[name]: label for label, name in enumerate(names)}
        borders = dict(_borders(draws, classes, validation))
        first = int(np.count_nonzero(draws < -(-self.shard * _DRAWS // self.shards)))
        self.own.sort(key=lambda one: one[:2])
        pictures = [
            Planned(
                first + place,
                label_of[number],
                VALIDATION if draw <= borders.get(number, -1) else TRAIN,
                picture,
            )
            for place, (draw, _, number, picture) in enumerate(self.own)
        ]
        dataset = hashlib.sha256(json.dumps([names, self.seed, validation]).encode())
        dataset.update(np.sort(draws).tobytes())
        shard = dataset.copy()
        for one in pictures:
            shard.update(f"{one.label} {one.picture.name} {one.picture.version}\n".encode())
        return Plan(
            classes=names,
            pictures=pictures,
            skipped=self.skipped,
            dataset=dataset.hexdigest(),
            shard=shard.hexdigest(),
        )


def _draw_of(seed: int, name: str) -> int:
    digest = hashlib.sha256(f"{seed} {name}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big")


def _borders(
    draws: np.ndarray, classes: np.ndarray, validation: float
) -> Iterator[tuple[int, int]]:
    """Each class with the largest draw that is still one of its validation pictures.

    They are the class's share, rounded, at least one and never all; a class with a single picture
    is only trained on.
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
