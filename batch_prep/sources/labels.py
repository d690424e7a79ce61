"""Labels of images from a list, instead of from their folders.

A row that cannot be used is refused with a code that begins with "row.", and counts as a bad image.
A path is looked up in the dataset's listing and never opened itself, so that a list cannot refer to
files outside of its dataset.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from batch_prep.errors import JobError
from batch_prep.sources.archives import Archive
from batch_prep.sources.entries import (
    Entry,
    File,
    FolderSeen,
    Ignored,
    Refused,
    UnsafePath,
    readable,
    safe_parts,
)
from batch_prep.sources.ready_made_splits import WORDS, named_split
from droplens.domain.layout import MAX_KEY_BYTES
from droplens.domain.text import class_name_problem, one_line

# The most characters of a reason.
MAX_REASON = 500
# The most characters that are quoted of a word that is no split.
_MAX_SPLIT = 60
# With more rows that cannot be used, the list is refused.
_MOST_BAD_ROWS = 100_000
# Repeated rows are harmless: the first ones are listed, the rest counted.
_MOST_REPEATS = 10_000
_MOST_CLAIMS = 5


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a list.

    number: its line, from 1; path: relative to the list's folder; label: a class's name; split: as
    written in the list, None where the list has no splits.
    """

    number: int
    path: str
    label: str
    split: str | None = None


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used. path: "" where it has none; code, reason: as in `Refused`."""

    number: int
    path: str
    code: str
    reason: str


@dataclass(slots=True)
class Labels:
    """A list that was read.

    name: of its file; unit: of its row numbers, "line" for example; rows: label, row number and
    split ("" for none) by path; refused: rows that cannot be used, and repeated ones.
    """

    name: str
    unit: str = "line"
    rows: dict[str, tuple[str, int, str]] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)
    _bad: int = 0

    def position(self, number: int) -> str:
        """The position of a row, for messages."""
        return f"{self.unit} {number} of {self.name}"

    def refuse(self, bad: BadRow) -> None:
        """Record a row that cannot be used. Raises JobError at _MOST_BAD_ROWS."""
        position = self.position(bad.number)
        self._add(
            Refused(
                one_line(readable(bad.path), MAX_KEY_BYTES) or position,
                (),
                bad.code,
                one_line(f"{position}: {bad.reason}", MAX_REASON),
            )
        )

    def conflict(self, path: str, label: str, reason: str) -> None:
        """Record that the image at `path` has several labels, of which `label` is one."""
        name = readable(path)
        self._add(Refused(name, (label, name), "row.conflict", one_line(reason, MAX_REASON)))

    def _add(self, refused: Refused) -> None:
        self._bad += 1
        if self._bad > _MOST_BAD_ROWS:
            first = next(one for one in self.refused if one.code.startswith("row."))
            raise JobError(
                f"More than {_MOST_BAD_ROWS:,} rows of {self.name} cannot be used; the first is "
                f"{first.name}: {first.reason}."
            )
        self.refused.append(refused)

    def refusal_of(self, path: str, code: str, reason: str) -> Refused:
        """The refusal of the image at a row's path."""
        label, number, _ = self.rows[path]
        name = readable(path)
        return Refused(name, (label, name), code, f"{self.position(number)}: {reason}")


def gather(name: str, rows: Iterable[Row | BadRow], unit: str = "line") -> Labels:
    """Read all rows: every path once, with its label.

    An image with two labels is refused, once for each label; a row that repeats an earlier one is
    reported.
    """
    labels = Labels(name, unit)
    disputed: dict[str, list[tuple[str, int, str]]] = {}
    strings: dict[str, str] = {}  # one string object for each label
    repeats = 0
    for row in rows:
        if isinstance(row, Row):
            row = _checked(row)
        if isinstance(row, BadRow):
            labels.refuse(row)
            continue
        split = row.split or ""
        label, first, first_split = labels.rows.setdefault(
            row.path, (strings.setdefault(row.label, row.label), row.number, split)
        )
        if first == row.number:
            continue
        if (label, first_split) != (row.label, split):
            disputed.setdefault(row.path, [(label, first, first_split)]).append(
                (row.label, row.number, split)
            )
        else:
            repeats += 1
            if repeats <= _MOST_REPEATS:
                repeated = f"{unit} {row.number} repeats it"
                labels.refused.append(labels.refusal_of(row.path, "list.repeated", repeated))
    if repeats > _MOST_REPEATS:
        reason = f"{repeats - _MOST_REPEATS:,} more rows repeat others"
        labels.refused.append(Refused(name, (), "list.repeated", reason))
    for path, claims in disputed.items():
        del labels.rows[path]
        listing = ", ".join(
            f"'{label}'{f' for {split}' if split else ''} in {unit} {number}"
            for label, number, split in claims[:_MOST_CLAIMS]
        )
        more = f" and {len(claims) - _MOST_CLAIMS:,} more" if len(claims) > _MOST_CLAIMS else ""
        differing = "labels" if len({label for label, _, _ in claims}) > 1 else "splits"
        reason = f"{name} gives it several {differing}, {listing}{more}, so it is left out"
        for label in dict.fromkeys(label for label, _, _ in claims):
            labels.conflict(path, label, reason)
    return labels


def _checked(row: Row) -> Row | BadRow:
    """The row with normalised path and label, or why it cannot be used."""
    label = row.label.strip()
    if not label:
        return BadRow(row.number, row.path, "row.label", "it has no label")
    if problem := class_name_problem(label):
        return BadRow(row.number, row.path, "row.label", f"its label {problem}")
    if len(row.path) > MAX_KEY_BYTES:
        reason = f"its path has {len(row.path):,} characters, the limit is {MAX_KEY_BYTES:,}"
        return BadRow(row.number, row.path, "row.path", reason)
    try:
        path = "/".join(safe_parts(row.path))
    except UnsafePath as error:
        return BadRow(row.number, row.path, "row.path", str(error))
    if not path:
        return BadRow(row.number, "", "row.path", "it names no picture")
    split = None
    if row.split is not None:
        split = named_split(row.split)
        if split is None:
            word = one_line(row.split.strip(), _MAX_SPLIT)
            reason = f"its split '{word}' is none of {WORDS}" if word else "it has no split"
            return BadRow(row.number, row.path, "row.split", reason)
    return Row(row.number, path, label, split)


def from_archive(labels: Labels, archive: Archive, name: str) -> Iterator[Entry]:
    """The listed images of an archive, in its order, and the mismatches of list and archive."""
    yield from labels.refused
    seen: set[str] = set()
    for entry in archive.entries:
        if isinstance(entry, FolderSeen | Ignored):
            continue
        path = "/".join(entry.parts)
        if path in seen:
            yield Refused(entry.name, (), "list.repeated", f"{name} holds it more than once")
        elif path not in labels.rows:
            reason = f"{labels.name} does not name it"
            yield (
                entry
                if isinstance(entry, Refused) and not entry.parts
                else Refused(entry.name, (), "list.unnamed", reason)
            )
        else:
            seen.add(path)
            label, _, split = labels.rows[path]
            parts = (label, *entry.parts)
            yield (
                replace(entry, parts=parts, split=split)
                if isinstance(entry, File)
                else Refused(entry.name, parts, entry.code, entry.reason)
            )
    for path in labels.rows:
        if path not in seen:
            yield labels.refusal_of(path, "row.missing", f"{name} holds no such file")
