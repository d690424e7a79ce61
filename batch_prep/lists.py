"""Labelled lists as people keep them: CSV, SageMaker's JSON Lines, and MXNet's .lst.

A row that cannot be read costs that row; a list that is no list at all ends the job.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, BinaryIO

from batch_prep.errors import JobError
from batch_prep.labels import BadRow, Labels, Row, gather
from batch_prep.storage import Folder

# A longer line is no row of a list: a bounding box and its metadata take a kilobyte.
_LONGEST_LINE = 1024 * 1024
_LONGEST_LIST = 1024**3
_MOST_NAMES = 1_000_000
# The file that gives a numbered list its names, a line each from number 0, by order of preference.
NAME_FILES = ("classes.txt", "synset.txt")
# Column names in the order of preference: a name says more than a number.
_PATH_COLUMNS = ("path", "file", "filename", "file_name", "image", "image_path", "picture", "key")
_LABEL_COLUMNS = ("class_name", "label_name", "label", "class", "category")
_SPLIT_COLUMN = "split"
_DELIMITERS = ",;\t"
# SageMaker's names in an augmented manifest, and Ground Truth's for the kinds of its jobs.
_SOURCE = "source-ref"
_METADATA = "-metadata"
_SINGLE_LABEL = "groundtruth/image-classification"
_WHOLE = re.compile(r"[+-]?\d{1,9}(\.0*)?")


class _BadLabel(ValueError):
    """A row's label cannot be told; the message says why."""


def read_list(place: Folder, name: str, most_lines: int) -> Labels:
    """The labelled list `name` of the folder `place`, of the kind that its ending tells.

    Raises JobError where there is none, where it is no text or has no such columns, or where it
    has more lines than `most_lines`: its rows are kept in memory, some 300 bytes each.
    """
    kind = {"csv": _csv_rows, "jsonl": _json_rows, "lst": _lst_rows}[name.rpartition(".")[2]]
    names = [] if kind is _csv_rows else _class_names(place)
    with _opened(place, name) as stream:
        lines = _lines(stream, name, most_lines)
        labels = gather(name, (_located(row, place) for row in kind(lines, names)))
    if not labels.rows and not labels.refused:
        raise JobError(f"{place.url}{name} names no picture.")
    return labels


def _opened(place: Folder, name: str) -> BinaryIO:
    try:
        stream = place.open(name)
    except FileNotFoundError:
        raise JobError(f"There is no list at {place.url}{name}.") from None
    if stream.seek(0, io.SEEK_END) > _LONGEST_LIST:
        stream.close()
        raise JobError(f"{place.url}{name} has more than {_LONGEST_LIST:,} bytes.")
    stream.seek(0)
    return stream


def _lines(stream: BinaryIO, name: str, most: int) -> Iterator[str]:
    """The lines of a UTF-8 text with their ends. Raises JobError for anything else."""
    number = 0
    while data := stream.readline(_LONGEST_LINE + 1):
        number += 1
        if number > most:
            raise JobError(
                f"{name} has more than {most:,} lines. A list may have twice as many as a dataset "
                "may have pictures (MaxDatasetPictures)."
            )
        if len(data) > _LONGEST_LINE:
            raise JobError(f"Line {number} of {name} is longer than {_LONGEST_LINE:,} bytes.")
        try:
            yield data.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise JobError(f"Line {number} of {name} is not UTF-8: save the list so.") from None


def _class_names(place: Folder) -> list[str]:
    """The names that `place` gives to class numbers, empty where it has no such file."""
    name = next((name for name in NAME_FILES if place.exists(name)), None)
    if name is None:
        return []
    found: dict[str, int] = {}
    with _opened(place, name) as stream:
        for number, line in enumerate(_lines(stream, name, _MOST_NAMES), 1):
            class_name = line.strip()
            if not class_name:
                raise JobError(
                    f"Line {number} of {name} is empty, but every line names one class, the first "
                    "number 0."
                )
            if class_name in found:
                raise JobError(
                    f"Lines {found[class_name]} and {number} of {name} are both '{class_name}': "
                    "two classes need two names."
                )
            found[class_name] = number
    return list(found)


def _located(row: Row | BadRow, place: Folder) -> Row | BadRow:
    """The row with a reference to an object of the dataset turned into its path there."""
    if isinstance(row, BadRow) or "://" not in row.path:
        return row
    path = row.path.removeprefix(place.url)
    if path == row.path:
        reason = (
            f"it lies outside the dataset. Only {place.url} is read, so that a list cannot have "
            "pictures read that its owner has no access to: copy it there"
        )
        return BadRow(row.number, row.path, "row.elsewhere", reason)
    return replace(row, path=path)


def _csv_rows(lines: Iterator[str], _: Sequence[str]) -> Iterator[Row | BadRow]:
    """Rows of a CSV file.

    With a header, the columns are found by their names, also that of the split; without one, there
    are two: path, label.
    """
    head: list[str] = []
    for line in lines:
        head.append(line)
        if line.strip():
            break
    delimiter = max(_DELIMITERS, key="".join(head).count)
    reader = csv.reader(chain(head, lines), delimiter=delimiter, strict=True)
    columns: _Columns | None = None
    number = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield BadRow(number, "", "row.malformed", f"it is not CSV: {error}")
            number = reader.line_num + 1
            continue
        if cells is None:
            return
        if not any(cell.strip() for cell in cells):
            pass  # an empty line, as spreadsheets leave them
        elif columns is None and (columns := _header(cells)) is not None:
            pass
        elif columns is None and len(cells) != 2:
            raise JobError(
                f"Line {number} of labels.csv is neither a header with the columns path and label "
                f"nor a path and a label: it has {len(cells)} cells."
            )
        else:
            columns = columns or _Columns(0, 1)
            if len(cells) >= columns.needed:
                split = None if columns.split is None else cells[columns.split]
                yield Row(number, cells[columns.path].strip(), cells[columns.label], split)
            else:
                reason = f"it has {len(cells)} cells, expected {columns.needed}"
                yield BadRow(number, "", "row.malformed", reason)
        number = reader.line_num + 1


@dataclass(frozen=True, slots=True)
class _Columns:
    """Which cells of a row are what."""

    path: int
    label: int
    split: int | None = None

    @property
    def needed(self) -> int:
        """How many cells a row must have."""
        return max(self.path, self.label, self.split or 0) + 1


def _header(cells: Sequence[str]) -> _Columns | None:
    """The columns of path, label and split, or None where the first row is no header."""
    names = [cell.strip().lower() for cell in cells]
    path = next((names.index(name) for name in _PATH_COLUMNS if name in names), None)
    label = next((names.index(name) for name in _LABEL_COLUMNS if name in names), None)
    if path is None or label is None:
        return None
    return _Columns(path, label, names.index(_SPLIT_COLUMN) if _SPLIT_COLUMN in names else None)


def _json_rows(lines: Iterator[str], names: Sequence[str]) -> Iterator[Row | BadRow]:
    """Rows of an augmented manifest; Ground Truth's metadata gives a label its name.

    https://docs.aws.amazon.com/sagemaker/latest/dg/augmented-manifest.html
    https://docs.aws.amazon.com/sagemaker/latest/dg/sms-data-output.html
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        path = ""
        try:
            found = json.loads(line)
            if not isinstance(found, dict) or not isinstance(found.get(_SOURCE), str):
                raise _BadLabel(f"it is no JSON object with a {_SOURCE}")
            found[_SOURCE].encode()  # JSON can write what no text can hold: half a character
            path = found.pop(_SOURCE)
            split = _json_split(found)
            yield Row(number, path, _json_label(found, names), split)
        except RecursionError:
            yield BadRow(number, path, "row.malformed", "its JSON is nested too deeply")
        except json.JSONDecodeError as error:
            yield BadRow(number, path, "row.malformed", f"it is not JSON: {error.msg}")
        except ValueError as error:
            code = "row.label" if path else "row.malformed"
            yield BadRow(number, path, code, str(error))


def _json_split(found: dict[str, Any]) -> str | None:
    """The split that an object names, which is taken out of it: not where it is the label."""
    described = _SPLIT_COLUMN + _METADATA in found
    if described or not isinstance(found.get(_SPLIT_COLUMN), str) or len(found) < 2:
        return None
    return str(found.pop(_SPLIT_COLUMN))


def _json_label(found: dict[str, Any], names: Sequence[str]) -> str:
    """The label in an augmented manifest's object. Raises _BadLabel where it has not just one."""
    attributes = [name for name in found if not name.endswith(_METADATA)]
    described = {name: found.get(name + _METADATA) for name in attributes}
    judged = [
        name
        for name, metadata in described.items()
        if isinstance(metadata, dict) and metadata.get("type") == _SINGLE_LABEL
    ]
    named = [name for name in _LABEL_COLUMNS if name in found]
    chosen = judged or named[:1] or attributes
    if len(chosen) != 1:
        labels = ", ".join(sorted(chosen)) or "none"
        raise _BadLabel(f"it has not one label but {len(chosen)}: {labels}")
    value, metadata = found[chosen[0]], described[chosen[0]]
    if isinstance(metadata, dict):
        kind = metadata.get("type", _SINGLE_LABEL)
        if kind != _SINGLE_LABEL:
            raise _BadLabel(f"its label '{chosen[0]}' is of the type {kind}, not {_SINGLE_LABEL}")
        if isinstance(metadata.get("class-name"), str):
            return str(metadata["class-name"])
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _BadLabel(f"its label '{chosen[0]}' is neither a text nor a number")
    return _class_name(str(value), names)


def _lst_rows(lines: Iterator[str], names: Sequence[str]) -> Iterator[Row | BadRow]:
    """Rows of MXNet's im2rec: number, label and path with tabs between."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) != 3:
            reason = f"it has {len(cells)} tab-separated cells, expected number, label and path"
            yield BadRow(number, "", "row.malformed", reason)
            continue
        try:
            yield Row(number, cells[2], _class_name(cells[1], names))
        except _BadLabel as error:
            yield BadRow(number, cells[2], "row.label", str(error))


def _class_name(label: str, names: Sequence[str]) -> str:
    """The name of a class number such as "3" or "3.000000": the number itself without `names`.

    Raises _BadLabel where it is no whole number, or has no name.
    """
    if not _WHOLE.fullmatch(label) or float(label) < 0:
        raise _BadLabel(f"its label '{label}' is no whole number from 0")
    number = int(float(label))
    if not names:
        return str(number)
    if number >= len(names):
        raise _BadLabel(f"its label is {number}, but only 0 to {len(names) - 1} have names")
    return names[number]
