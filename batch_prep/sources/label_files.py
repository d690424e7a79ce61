"""Readers of label files: CSV, SageMaker's JSON Lines, MXNet's .lst, and exports.

Exports have documented structures: Hugging Face's metadata.csv and metadata.jsonl
(Datasets, "Create an image dataset", "ImageFolder"), Roboflow's "Multiclass Classification CSV",
_classes.csv in each of its folders (as Datumaro documents it: "Roboflow",
https://openvinotoolkit.github.io/datumaro/latest/docs/data-formats/formats/roboflow.html), and
Label Studio's CSV, JSON and JSON_MIN (https://labelstud.io/guide/export, "Export formats supported
by Label Studio" and "Label Studio JSON format of annotated tasks").

A row that cannot be read is refused alone; a file that is no list ends the job.
"""

import csv
import io
import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, BinaryIO
from urllib.parse import parse_qs, urlsplit

from batch_prep.errors import JobError
from batch_prep.sources.labels import BadRow, Labels, Row, gather
from batch_prep.sources.ready_made_splits import EXPORTS, named_split
from batch_prep.storage.folder import Folder

# A row with a bounding box and its metadata takes a kilobyte.
_LONGEST_LINE = 1024 * 1024
_LONGEST_LIST = 1024**3
_MOST_NAMES = 1_000_000
# Files with the names of numbered classes, a line each from number 0, in order of preference.
NAME_FILES = ("classes.txt", "synset.txt")
# Column names in order of preference: names before numbers.
_PATH_COLUMNS = ("path", "file", "filename", "file_name", "image", "image_path", "picture", "key")
_LABEL_COLUMNS = ("class_name", "label_name", "label", "class", "category", "choice")
_SPLIT_COLUMN = "split"
_ONE_HOT = "_classes.csv"
# The prefix of several choices for one image in Label Studio's CSV.
_SEVERAL_CHOICES = '{"choices"'
_DELIMITERS = ",;\t"
# Keys of SageMaker's augmented manifests, and Ground Truth's name of a type of job.
_SOURCE = "source-ref"
_METADATA = "-metadata"
_SINGLE_LABEL = "groundtruth/image-classification"
_SPLIT_FOLDERS = ("train", "val", "valid", "validation", "test")
# Hugging Face's key of an image's path, in place of source-ref.
_FILE_NAME = "file_name"
# A JSON document is parsed as a whole, which takes ten times its size in memory.
_LONGEST_DOCUMENT = 64 * 1024**2
# URL paths of Label Studio: an uploaded image, and one of its local storage.
_UPLOADED = re.compile(r"/data/(upload/\d+/[^/]+)")
_LOCAL_FILES = "/data/local-files/"
_WHOLE = re.compile(r"[+-]?\d{1,9}(\.0*)?")


class _BadLabel(ValueError):
    """A row has no usable label; the message gives the reason."""


def read_list(root: Folder, name: str, most_lines: int) -> Labels:
    """The labelled list `name` of the folder `root`, in the format of its ending.

    most_lines: the limit of lines, since rows are kept in memory, some 300 bytes each. Raises
    JobError where there is no such file, or it is longer, no text, or without the needed columns.
    """
    folder, slash, file = name.rpartition("/")
    kind = {"csv": _csv_rows, "jsonl": _json_rows, "lst": _lst_rows, "json": _task_rows}[
        file.rpartition(".")[2]
    ]
    if file == _ONE_HOT:
        kind = _one_hot_rows
    names = _class_names(root) if kind in (_json_rows, _lst_rows) else []
    unit = "task" if kind is _task_rows else "line"
    split = named_split(folder)
    with _opened(root, name, _LONGEST_DOCUMENT if kind is _task_rows else _LONGEST_LIST) as stream:
        lines = _lines(
            stream, name, most_lines, longest=None if kind is _task_rows else _LONGEST_LINE
        )
        rows = (_located(row, root, folder + slash, split) for row in kind(lines, names))
        labels = gather(name, rows, unit)
    if not labels.rows and not labels.refused:
        raise JobError(f"{root.url}{name} names no picture.")
    return labels


def exported_lists(root: Folder, top: Collection[str]) -> list[str]:
    """The label files of an export, at the top of `root` or in the folders of its splits.

    top: the files at the top of `root`. Empty where files of these names have no labels but, for
    example, captions.
    """
    for name in EXPORTS:
        if name in top:
            return [name] if _has_labels(root, name) else []
    for name in EXPORTS:
        if root.exists(f"train/{name}"):
            paths = [f"{folder}/{name}" for folder in _SPLIT_FOLDERS]
            found = [path for path in paths if path.startswith("train/") or root.exists(path)]
            return [path for path in found if _has_labels(root, path)]
    return []


def _has_labels(root: Folder, name: str) -> bool:
    """Whether the first row has a label, or names a column of labels."""
    with _opened(root, name) as stream:
        first = next((line for line in _lines(stream, name, _MOST_NAMES) if line.strip()), "")
    if name.endswith(_ONE_HOT):
        return True
    if name.endswith(".jsonl"):
        try:
            found = json.loads(first)
        except ValueError:
            return False
        return isinstance(found, dict) and any(column in found for column in _LABEL_COLUMNS)
    delimiter = max(_DELIMITERS, key=first.count)
    return _header(next(csv.reader([first], delimiter=delimiter), [])) is not None


def _opened(root: Folder, name: str, longest: int = _LONGEST_LIST) -> BinaryIO:
    try:
        stream = root.open(name)
    except FileNotFoundError:
        raise JobError(f"There is no list at {root.url}{name}.") from None
    if stream.seek(0, io.SEEK_END) > longest:
        stream.close()
        raise JobError(f"{root.url}{name} has more than {longest:,} bytes.")
    stream.seek(0)
    return stream


def _lines(
    stream: BinaryIO, name: str, most: int, longest: int | None = _LONGEST_LINE
) -> Iterator[str]:
    """The lines of a UTF-8 text with their ends. Raises JobError for anything else."""
    number = 0
    while data := stream.readline(-1 if longest is None else longest + 1):
        number += 1
        if number > most:
            raise JobError(
                f"{name} has more than {most:,} lines. A list may have twice as many as a dataset "
                "may have pictures (MaxDatasetPictures)."
            )
        if longest is not None and len(data) > longest:
            raise JobError(f"Line {number} of {name} is longer than {longest:,} bytes.")
        try:
            yield data.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise JobError(f"Line {number} of {name} is not UTF-8: save the list so.") from None


def _class_names(root: Folder) -> list[str]:
    """The class names by number of a file in NAME_FILES; empty where there is none."""
    name = next((name for name in NAME_FILES if root.exists(name)), None)
    if name is None:
        return []
    found: dict[str, int] = {}
    with _opened(root, name) as stream:
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


def _located(
    row: Row | BadRow, root: Folder, folder: str = "", split: str | None = None
) -> Row | BadRow:
    """The row with its path relative to the dataset.

    folder: of the list, "" or ending in "/"; split: of this folder.
    """
    if isinstance(row, BadRow):
        return row
    if "://" not in row.path:
        path = _studio_path(row.path) or (folder + row.path if row.path else "")
        return replace(row, path=path, split=row.split if split is None else split)
    path = row.path.removeprefix(root.url)
    if path == row.path:
        reason = (
            f"it lies outside the dataset. Only {root.url} is read, so that a list cannot have "
            "pictures read that its owner has no access to: copy it there"
        )
        return BadRow(row.number, row.path, "row.elsewhere", reason)
    return replace(row, path=path)


def _studio_path(path: str) -> str | None:
    """The path of a Label Studio URL below its media folder; None for any other path."""
    if uploaded := _UPLOADED.fullmatch(path):
        return uploaded[1]
    if path.startswith(_LOCAL_FILES):
        return (parse_qs(urlsplit(path).query).get("d") or [""])[0]
    return None


def _csv_rows(lines: Iterator[str], _: Sequence[str]) -> Iterator[Row | BadRow]:
    """Rows of a CSV file.

    Columns are found by their names in the header; without a header there are two, path and label.
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
            pass  # an empty line
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
                label = cells[columns.label]
                if label.startswith(_SEVERAL_CHOICES):
                    reason = f"it has not one label but several: {label}"
                    yield BadRow(number, cells[columns.path], "row.label", reason)
                else:
                    yield Row(number, cells[columns.path].strip(), label, split)
            else:
                reason = f"it has {len(cells)} cells, expected {columns.needed}"
                yield BadRow(number, "", "row.malformed", reason)
        number = reader.line_num + 1


@dataclass(frozen=True, slots=True)
class _Columns:
    """Indices of the columns; split: None where there is none."""

    path: int
    label: int
    split: int | None = None

    @property
    def needed(self) -> int:
        """The number of cells that a row needs."""
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
            source = _FILE_NAME if isinstance(found, dict) and _FILE_NAME in found else _SOURCE
            if not isinstance(found, dict) or not isinstance(found.get(source), str):
                raise _BadLabel(f"it is no JSON object with a {_SOURCE}")
            found[source].encode()  # raises for a lone surrogate, which JSON can escape
            path = found.pop(source)
            split = _json_split(found)
            yield Row(number, path, _json_label(found, names), split)
        except RecursionError:
            yield BadRow(number, path, "row.malformed", "its JSON is nested too deeply")
        except json.JSONDecodeError as error:
            yield BadRow(number, path, "row.malformed", f"it is not JSON: {error.msg}")
        except ValueError as error:
            code = "row.label" if path else "row.malformed"
            yield BadRow(number, path, code, str(error))


def _one_hot_rows(lines: Iterator[str], _: Sequence[str]) -> Iterator[Row | BadRow]:
    """Rows of Roboflow's _classes.csv: an image's name, and a 1 in the column of its class."""
    reader = csv.reader(lines, skipinitialspace=True)
    classes: list[str] = []
    number = 1
    while True:
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            yield BadRow(number, "", "row.malformed", f"it is not CSV: {error}")
            number = reader.line_num + 1
            continue
        if not any(cells):
            pass
        elif not classes:
            classes = cells[1:]
            if not classes or cells[0].lower() not in _PATH_COLUMNS:
                raise JobError(
                    f"Line {number} of {_ONE_HOT} is no header: it begins with 'filename' and "
                    "names a class in each other column."
                )
        elif len(cells) != len(classes) + 1:
            reason = f"it has {len(cells)} cells, expected {len(classes) + 1}"
            yield BadRow(number, cells[0], "row.malformed", reason)
        else:
            chosen = [name for name, cell in zip(classes, cells[1:], strict=True) if cell == "1"]
            if len(chosen) == 1:
                yield Row(number, cells[0], chosen[0])
            else:
                named = ", ".join(chosen) or "none"
                reason = f"it has not one label but {len(chosen)}: {named}"
                yield BadRow(number, cells[0], "row.label", reason)
        number = reader.line_num + 1


def _task_rows(lines: Iterator[str], _: Sequence[str]) -> Iterator[Row | BadRow]:
    """Tasks of Label Studio's JSON or JSON_MIN export."""
    try:
        tasks = json.loads("".join(lines))
    except (ValueError, RecursionError) as error:
        raise JobError(f"labels.json is not JSON: {error}.") from None
    if not isinstance(tasks, list):
        raise JobError("labels.json is no list of tasks, as Label Studio exports it.")
    for number, task in enumerate(tasks, 1):
        try:
            yield _task_row(number, task)
        except _BadLabel as error:
            yield BadRow(number, "", "row.malformed", str(error))


def _task_row(number: int, task: object) -> Row | BadRow:
    if not isinstance(task, dict):
        raise _BadLabel("it is no JSON object")
    data = task["data"] if isinstance(task.get("data"), dict) else task
    path = next((data[name] for name in _PATH_COLUMNS if isinstance(data.get(name), str)), None)
    if path is None:
        raise _BadLabel(f"it has none of {', '.join(_PATH_COLUMNS)}")
    path = path.encode("utf-8", "replace").decode()
    labels = dict.fromkeys(_task_labels(task))
    if not labels:
        return BadRow(number, path, "list.unlabelled", "nobody has labelled it")
    if len(labels) > 1:
        reason = f"it has not one label but {len(labels)}: {', '.join(labels)}"
        return BadRow(number, path, "row.label", reason)
    split = data.get(_SPLIT_COLUMN)
    return Row(number, path, next(iter(labels)), split if isinstance(split, str) else None)


def _task_labels(task: dict[str, Any]) -> Iterator[str]:
    """The labels of a task's annotations that were not cancelled."""
    if not isinstance(task.get("annotations"), list):
        chosen = next((task[name] for name in _LABEL_COLUMNS if name in task), None)
        yield from _choices(chosen)
        return
    for annotation in task["annotations"]:
        if not isinstance(annotation, dict) or annotation.get("was_cancelled"):
            continue
        for result in annotation.get("result") or ():
            if isinstance(result, dict) and result.get("type") == "choices":
                yield from _choices(result.get("value"))


def _choices(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        value = value.get("choices")
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, str) and one.strip():
            yield one.strip().encode("utf-8", "replace").decode()


def _json_split(found: dict[str, Any]) -> str | None:
    """The split of an object, removed from it; None where that attribute is the label."""
    described = _SPLIT_COLUMN + _METADATA in found
    if described or not isinstance(found.get(_SPLIT_COLUMN), str) or len(found) < 2:
        return None
    return str(found.pop(_SPLIT_COLUMN))


def _json_label(found: dict[str, Any], names: Sequence[str]) -> str:
    """The label of an augmented manifest's object. Raises _BadLabel unless there is one."""
    attributes = [name for name in found if not name.endswith(_METADATA)]
    described = {name: found.get(name + _METADATA) for name in attributes}
    single_labels = [
        name
        for name, metadata in described.items()
        if isinstance(metadata, dict) and metadata.get("type") == _SINGLE_LABEL
    ]
    named = [name for name in _LABEL_COLUMNS if name in found]
    chosen = single_labels or named[:1] or attributes
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
    """Rows of MXNet's im2rec lists: number, label and path, separated by tabs."""
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
    """The name of a class number such as "3" or "3.000000"; without `names`, the number itself.

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
