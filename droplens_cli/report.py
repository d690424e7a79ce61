"""What commands print about datasets, pictures and results, and their progress."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from droplens.domain.figures import percent
from droplens.domain.text import one_line
from droplens_cli.folder_check import LocalDataset, LocalFile, unreadable
from droplens_cli.table import table

MOST_LISTED = 10
MOST_CLASSES = 30


class Shown:
    """The progress bars of one command; without a terminal nothing is drawn."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def packing(self, stage: str, done: int, total: int | None) -> None:
        """A report of the packing code, from a thread of its own."""
        with self._lock:
            self._set({"reading": "reading", "packing": "checking"}.get(stage, stage), done, total)

    def counting(self, what: str, total: int | None) -> Callable[[], None]:
        """A bar that counts; call the returned function for each. total: None if not known."""
        self._set(what, 0, total)
        return lambda: self._advance(what, 1)

    def uploading(self, dataset: LocalDataset) -> Callable[[LocalFile], None]:
        """A bar of bytes; call the returned function for each file."""
        self._start(DownloadColumn())
        self._set("uploading", 0, sum(one.bytes for one in dataset.files))
        return lambda file: self._advance("uploading", file.bytes)

    def close(self) -> None:
        """Stop drawing."""
        if self._bars is not None:
            self._bars.stop()

    def _start(self, *columns: Any) -> Progress:
        if self._bars is None:
            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                *(columns or (MofNCompleteColumn(),)),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
                disable=not self._console.is_terminal,
            )
            self._bars.start()
        return self._bars

    def _set(self, what: str, done: int, total: int | None) -> None:
        bars = self._start()
        if what not in self._tasks:
            self._tasks[what] = bars.add_task(what, total=total)
        bars.update(self._tasks[what], completed=done, total=total)

    def _advance(self, what: str, count: int) -> None:
        assert self._bars is not None
        self._bars.advance(self._tasks[what], count)


@contextmanager
def progress(console: Console) -> Iterator[Shown]:
    """Progress bars, which end with the block."""
    shown = Shown(console)
    try:
        yield shown
    finally:
        shown.close()


def checked(manifest: Mapping[str, Any], source: Path) -> str:
    """The outcome of a check: classes, counts, warnings, and files that cannot be used."""
    counts, classes = manifest["counts"], manifest["per_class"]
    used = counts["train"] + counts["validation"] + counts.get("test", 0)
    lines = [f"{source}: {used:,} pictures of {len(classes):,} classes; {manifest['read_as']}"]
    rows = [
        (
            one["name"],
            f"{one['files']:,}",
            f"{one['train']:,}",
            f"{one['validation']:,}",
            f"{one['skipped']:,}" if one["skipped"] else "",
        )
        for one in sorted(classes, key=lambda one: one["files"])[:MOST_CLASSES]
    ]
    lines.append(table(("class", "files", "train", "validation", "not used"), rows))
    if len(classes) > MOST_CLASSES:
        lines.append(f"… and {len(classes) - MOST_CLASSES:,} larger classes")
    lines += listed("unreadable, left here", [_because(one) for one in unreadable(manifest)])
    others = [one for one in manifest["skipped"] if one not in unreadable(manifest)]
    lines += listed("no pictures, not used", [_because(one) for one in others])
    for key, words in (
        ("duplicates", "the same file twice in a class, used once"),
        ("conflicts", "the same file in several classes, not used"),
    ):
        lines += listed(words, [f"{one['name']} = {one['same_as']}" for one in manifest[key]])
    lines += [f"warning: {one_line(warning)}" for warning in manifest["warnings"]]
    return "\n".join(lines)


def _because(entry: Mapping[str, str]) -> str:
    return f"{entry['name']}: {entry['reason']}"


def listed(words: str, entries: Sequence[str]) -> list[str]:
    """The number of entries, and the first of them, a line each; nothing where there is none."""
    if not entries:
        return []
    shown = [f"  {one_line(entry, 300)}" for entry in entries[:MOST_LISTED]]
    more = len(entries) - len(shown)
    return [f"{words}: {len(entries):,}", *shown, *([f"  … and {more:,} more"] if more else [])]


def predictions(found: Iterable[tuple[Path, Mapping[str, Any] | None]]) -> str:
    """The predictions for photographs, as a table."""
    rows = []
    for path, result in found:
        if result is None:
            rows.append((str(path), "no result yet", "", "", ""))
        elif result["status"] == "rejected":
            error = result["error"]
            rows.append((str(path), "rejected", "", "", f"{error['code']}: {error['message']}"))
        else:
            prediction = result["prediction"]
            candidates = result.get("candidates") or []
            rows.append(
                (
                    str(path),
                    prediction["label"],
                    percent(prediction["probability"]),
                    _trust(prediction),
                    f"or {', '.join(candidates[1:])}" if len(candidates) > 1 else "",
                )
            )
    return table(("photo", "class", "probability", "", ""), rows)


def rows(found: Iterable[Mapping[str, Any]]) -> str:
    """Results as a table."""
    lines = [
        (
            row["key"],
            row["label"] or row["status"],
            "" if row["probability"] is None else percent(row["probability"]),
            row["error_code"] or _trust(row),
            row["classified_at"],
            row["run_id"],
        )
        for row in found
    ]
    if not lines:
        return "no results"
    return table(("picture", "class", "probability", "", "classified at (UTC)", "run"), lines)


def _trust(prediction: Mapping[str, Any]) -> str:
    if prediction.get("familiar") is False:
        return "unfamiliar"
    return "confident" if prediction["confident"] else "unsure"
