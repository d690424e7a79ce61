"""Live progress: a list of steps that is redrawn in a terminal, plain lines elsewhere."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

PLAIN_EVERY = 5.0  # seconds between two plain lines
BAR_WIDTH = 24  # characters


@dataclass(slots=True)
class Step:
    """One line of the list. began and ended are monotonic seconds, 0 while not yet so."""

    title: str
    detail: str = ""
    done: int | None = None
    total: int | None = None
    began: float = 0.0
    ended: float = 0.0
    failed: bool = False

    @property
    def seconds(self) -> float:
        """The step's duration so far, or in total."""
        return (self.ended or time.monotonic()) - self.began if self.began else 0.0


class Screen:
    """The demo's steps, shown as they happen. A context manager: it draws while it is open."""

    def __init__(self, console: Console, titles: Sequence[str]) -> None:
        self.console = console
        self.steps = {title: Step(title) for title in titles}
        self._drawing = (
            Live(self, console=console, refresh_per_second=10) if is_interactive(console) else None
        )
        self._spinner = Spinner("dots", style="cyan")
        self._opened = self._told = time.monotonic()

    def __enter__(self) -> "Screen":
        if self._drawing:
            self._drawing.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawing:
            self._drawing.stop()

    @contextmanager
    def step(self, title: str, detail: str = "") -> Iterator[Step]:
        """The step lasts as long as the block; it has failed if the block raised."""
        self.begin(title, detail)
        try:
            yield self.steps[title]
        except BaseException:
            self.end(title, failed=True)
            raise
        self.end(title)

    def begin(self, title: str, detail: str = "") -> None:
        """Start the step."""
        step = self.steps[title]
        step.began, step.detail = time.monotonic(), detail
        self._tell(step, detail or "begins")

    def update(
        self, title: str, detail: str, done: int | None = None, total: int | None = None
    ) -> None:
        """Set what the step is doing, and its count where there is one."""
        step = self.steps[title]
        step.detail, step.done, step.total = detail, done, total
        if time.monotonic() - self._told >= PLAIN_EVERY:
            self._tell(step, " ".join(filter(None, [_counted(step), detail])))

    def end(self, title: str, detail: str = "", failed: bool = False) -> None:
        """End the step. detail: its outcome; without one, the last detail stays."""
        step = self.steps[title]
        step.ended, step.failed, step.done, step.total = time.monotonic(), failed, None, None
        step.detail = detail or step.detail
        how = "failed" if failed else "done"
        self._tell(step, f"{how} after {step.seconds:.1f} s: {step.detail}")

    def _tell(self, step: Step, text: str) -> None:
        if self._drawing is None:
            self._told = time.monotonic()
            line = f"[{self._told - self._opened:4.0f} s] {step.title}: {text}"
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # Space for the "^C" that a terminal writes at the cursor: it must not begin a line.
        table = Table.grid(padding=(0, 1))
        table.width = options.max_width - len("^C") - 1
        table.add_column(width=1)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        table.add_column(justify="right", no_wrap=True)
        for step in self.steps.values():
            table.add_row(*self._row(step))
        yield table

    def _row(self, step: Step) -> tuple[RenderableType, ...]:
        if not step.began:
            return Text("·", "dim"), Text(step.title, "dim"), "", ""
        seconds = Text(f"{step.seconds:.1f} s", "dim")
        if step.failed:
            return Text("✘", "bold red"), Text(step.title, "bold red"), Text(step.detail), seconds
        if step.ended:
            return Text("✔", "green"), Text(step.title), Text(step.detail), seconds
        return self._spinner, Text(step.title, "bold cyan"), _doing(step), seconds


def is_interactive(console: Console) -> bool:
    """Whether the output is a terminal that can redraw its lines."""
    return console.is_terminal and not console.is_dumb_terminal and not os.environ.get("CI")


def _doing(step: Step) -> RenderableType:
    detail = Text(step.detail, "cyan", overflow="ellipsis", no_wrap=True)
    if not step.total:
        return detail
    line = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=step.total, completed=step.done or 0, width=BAR_WIDTH)
    line.add_row(bar, Text(_counted(step)), detail)
    return line


def _counted(step: Step) -> str:
    return f"{step.done} of {step.total}" if step.total else ""
