"""The closing report: predictions, accuracy, places of the results, next commands."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from demo import ROOT
from demo.dataset import Picture
from demo.thumbnail import can_show, thumbnail
from droplens.domain.figures import counted, percent

ROWS = 20  # that a table of many answers shows
ROWS_WITH_PICTURES = 10  # each is THUMBNAIL[1] lines high
WRONG_SHARE = 0.7  # of the rows, at most, so that some correct ones are shown too
THUMBNAIL = (26, 7)  # columns, lines


@dataclass(frozen=True, slots=True)
class Answer:
    """One held-out image with its result, None if there is none."""

    name: str
    picture: Picture
    result: Mapping[str, Any] | None

    @property
    def label(self) -> str | None:
        """The predicted class, or None for a rejected or missing result."""
        if self.result is None or self.result["status"] != "classified":
            return None
        return str(self.result["prediction"]["label"])

    @property
    def right(self) -> bool:
        """Whether the prediction is correct."""
        return self.label == self.picture.label

    @property
    def confident(self) -> bool:
        """Whether the prediction is confident."""
        if self.result is None or self.label is None:
            return False
        return bool(self.result["prediction"]["confident"])

    @property
    def familiar(self) -> bool | None:
        """Whether the image is like the training images; None where that is not known."""
        if self.result is None or self.label is None:
            return None
        familiar: bool | None = self.result["prediction"].get("familiar")
        return familiar

    @property
    def candidates(self) -> list[str] | None:
        """The classes that the image may show, or None where that is not known."""
        return None if self.result is None else self.result.get("candidates")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of a finished demo.

    stranger: the answer for an image of none of the classes, or None; measured: the live model
    card's "measured"; unconfident_because: why no prediction of that model
    is confident, or None; seconds: how long each step took; report: a copy of the model's
    report page, or None; removed: whether the bucket of the results was deleted.
    """

    answers: Sequence[Answer]
    measured: Mapping[str, Any]
    results_uri: str
    results_folder: Path
    report: Path | None
    input_uri: str
    endpoint_url: str
    stays_up: bool
    seconds: Mapping[str, float]
    removed: bool = False
    unconfident_because: str | None = None
    stranger: Answer | None = None


def selection(answers: Sequence[Answer], rows: int) -> list[Answer]:
    """At most `rows` of many: the wrong ones first, then correct ones spread over all classes."""
    wrong = [answer for answer in answers if not answer.right]
    right = [answer for answer in answers if answer.right]
    if len(answers) > rows:
        wrong = wrong[: max(round(rows * WRONG_SHARE), rows - len(right))]
        room = min(rows - len(wrong), len(right))
        right = [right[(2 * i + 1) * len(right) // (2 * room)] for i in range(room)]
    return wrong + right


def accuracy_line(answers: Sequence[Answer]) -> str:
    """The share of predictions that are correct, with its counts and its 95 % interval."""
    return counted(sum(answer.right for answer in answers), len(answers))


def print_report(console: Console, outcome: Outcome, *, opens_console: bool = False) -> None:
    """The table, the accuracy, the times, the places, and what to try next.

    opens_console: whether `droplens console` follows.
    """
    print_answers(console, outcome)
    for title, commands in _what_next(outcome, opens_console):
        console.print(f"\n[bold]{title}[/bold]")
        for command in commands:
            console.print(
                f"  {command}", style="cyan", markup=False, highlight=False, soft_wrap=True
            )
    console.print()


def print_answers(console: Console, outcome: Outcome) -> None:
    """The table, the accuracy, the times and the places."""
    rows = ROWS_WITH_PICTURES if can_show(console) else ROWS
    shown = selection(outcome.answers, rows)
    console.print()
    console.print(answers_table(shown, console, unconfident_because=outcome.unconfident_because))
    if len(shown) < len(outcome.answers):
        console.print(_shown_line(shown, outcome.answers), style="dim", highlight=False)
        console.print()
    steps = ", ".join(f"{title.lower()} {took:.0f}" for title, took in outcome.seconds.items())
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="bold", width=19)
    facts.add_row(
        "Test accuracy",
        Text.assemble((accuracy_line(outcome.answers), "bold"), " on the pictures held out here"),
    )
    facts.add_row("Validation accuracy", f"{measured_line(outcome.measured)} before it went live")
    facts.add_row("Confident", _confident_line(outcome))
    if line := _familiar_line(outcome):
        facts.add_row("Unfamiliar", line)
    if line := _candidates_line(outcome.answers):
        facts.add_row("Candidates", line)
    facts.add_row("Seconds", f"{sum(outcome.seconds.values()):.0f} in total: {steps}")
    console.print(facts, highlight=False)
    # Addresses and commands are never wrapped, so that they can be copied.
    copies = f"{_short(outcome.results_folder)}/ (copies)"
    places = [("Results", outcome.results_uri), ("", copies)]
    if outcome.removed:
        places = [("Results", copies)]
    if outcome.report is not None:
        places.append(("Report", f"{outcome.report.resolve().as_uri()} (open it in a browser)"))
    for title, place in places:
        console.print(f"[bold]{title:10}[/bold]{escape(place)}", highlight=False, soft_wrap=True)


def measured_line(measured: Mapping[str, Any]) -> str:
    """A model card's "measured" as its validation accuracy, with counts and 95 % interval."""
    pictures = int(measured["pictures"])
    return counted(round(measured["accuracy"] * pictures), pictures)


def _confident_line(outcome: Outcome) -> str:
    """How many predictions are confident and how many of those correct, or why none is."""
    if outcome.unconfident_because is not None:
        return f"none, at any probability: {outcome.unconfident_because}"
    confident = [answer for answer in outcome.answers if answer.confident]
    right = sum(answer.right for answer in confident)
    return f"{len(confident)} of {len(outcome.answers)}, {right} of them correct"


def _familiar_line(outcome: Outcome) -> str:
    """Which images are unlike the training images; "" where no result says so."""
    told = [answer for answer in outcome.answers if answer.familiar is not None]
    own = f"{sum(not answer.familiar for answer in told)} of {len(told)} held-out pictures"
    if outcome.stranger is None or outcome.stranger.familiar is None:
        return own if told else ""
    verdict = "taken for familiar" if outcome.stranger.familiar else "unfamiliar"
    if not outcome.stranger.confident:
        verdict += ", so not confident" if not outcome.stranger.familiar else ", not confident"
    return f"{own}; a picture of {outcome.stranger.picture.label}: {verdict}"


def _candidates_line(answers: Sequence[Answer]) -> str:
    """How often the candidates hold the actual class; "" where no result has any."""
    told = [(answer.picture.label, answer.candidates) for answer in answers if answer.candidates]
    if not told:
        return ""
    held = sum(label in candidates for label, candidates in told)
    each = sum(len(candidates) for _, candidates in told) / len(told)
    return f"hold the actual class of {held} of {len(told)} pictures, {each:.1f} classes on average"


def _shown_line(shown: Sequence[Answer], answers: Sequence[Answer]) -> str:
    wrong = sum(not answer.right for answer in answers)
    wrong_shown = sum(not answer.right for answer in shown)
    which = "all" if wrong_shown == wrong else f"{wrong_shown} of"
    first = f", {which} {wrong} wrong ones first" if wrong else ""
    return f"{len(shown)} of {len(answers)} predictions shown{first}."


def _what_next(outcome: Outcome, opens_console: bool) -> list[tuple[str, list[str]]]:
    aws = "aws" if shutil.which("aws") else _short(ROOT / ".local/venv/tools/bin/aws")
    copy = f"{aws} --endpoint-url {outcome.endpoint_url} s3 cp"
    answers_uri = outcome.results_uri.rstrip("/").rpartition("/")[0]
    ask = [
        'eval "$(.local/venv/cloud/bin/python -m localcloud env)"',
        f"{copy} photo.jpg {outcome.input_uri}",
        f"{copy} {answers_uri}/photo.jpg.json -",
    ]
    if not outcome.stays_up:
        ask.insert(
            0, "make up    # the local cloud was stopped; this brings it back, model and all"
        )
    return [
        _console(outcome, opens_console),
        ("Classify a picture of your own", ask),
        ("Train it on classes of your own", ["make demo DATASET=folder-of-class-folders"]),
        ("See the logs of functions, jobs and endpoints, and stop it", ["make logs", "make down"]),
        ("The same in an AWS account: README.md", []),
    ]


def _console(outcome: Outcome, opens: bool) -> tuple[str, list[str]]:
    what = "the run, the model, pictures to review"
    if opens:
        return f"The console, below, shows {what}; the local cloud stays up after it", []
    up = [] if outcome.stays_up else ["make up"]
    return f"See it in the browser: {what}", [*up, "make console-local"]


def _short(path: Path) -> str:
    """The path as one would type it from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def answers_table(
    answers: Sequence[Answer], console: Console, *, unconfident_because: str | None = None
) -> Table:
    """Picture, file, predicted, probability, confident, actual, correct or wrong; a row each.

    unconfident_because: why none is confident, where that is so for all.
    """
    pictures = can_show(console)
    table = Table(box=box.SIMPLE_HEAD, show_lines=pictures, expand=False, pad_edge=False)
    if pictures:
        table.add_column("picture", no_wrap=True)
    table.add_column("file", overflow="fold", style="dim")
    table.add_column("predicted", overflow="fold")
    table.add_column("probability", justify="right", no_wrap=True)
    table.add_column("confident", no_wrap=True)
    table.add_column("actual", overflow="fold")
    table.add_column("", no_wrap=True)
    for answer in answers:
        row = _row(answer, has_threshold=unconfident_because is None)
        if pictures:
            row.insert(0, thumbnail(answer.picture.path, *THUMBNAIL))
        table.add_row(*row)
    return table


def _row(answer: Answer, *, has_threshold: bool) -> list[Text]:
    name, truth = Text(answer.name), Text(answer.picture.label)
    if answer.result is None:
        return [name, Text("no result", "bold red"), Text(), Text(), truth, _mark(False)]
    if answer.result["status"] != "classified":
        reason = Text.assemble(
            ("rejected\n", "yellow"), (str(answer.result["error"]["message"]), "dim")
        )
        return [name, reason, Text(), Text(), truth, _mark(False)]
    prediction = answer.result["prediction"]
    label = Text(str(prediction["label"]), "green" if answer.right else "bold red")
    if not answer.right and (rank := _rank_of_truth(answer)):
        truth.append(f"\n(predicted no. {rank})", "dim")
    share = Text(percent(prediction["probability"]))
    no = "no" if has_threshold else "no: no threshold"
    if answer.familiar is False:
        no = "no: unfamiliar"
    sure = Text("yes", "green") if prediction["confident"] else Text(no, "yellow")
    return [name, label, share, sure, truth, _mark(answer.right)]


def _rank_of_truth(answer: Answer) -> int | None:
    assert answer.result is not None
    labels = [entry["label"] for entry in answer.result["top"]]
    return labels.index(answer.picture.label) + 1 if answer.picture.label in labels else None


def _mark(right: bool) -> Text:
    return Text("✔ correct", "green") if right else Text("✘ wrong", "bold red")
