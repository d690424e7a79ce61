"""The whole journey, shown step by step: labelled images in, predictions out.

    python -m demo                       on this machine, with scanned digits
    python -m demo --dataset FOLDER      your own pictures: one folder of them per class
    python -m demo --account             in your AWS account, in a stack that is removed again

`make demo` sets up the virtual environments first: make demo DATASET=FOLDER, make demo ACCOUNT=1.
The local cloud is left as before, up or down; with KEEP=1 it stays up. With CONSOLE=1 it stays up
too, and `droplens console` runs on it until Ctrl-C.
"""

import argparse
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from demo import DemoError, account, digits, stranger
from demo.dataset import Dataset, Picture, Split, exam_names, hold_out, read_folder
from demo.journey import Journey, News
from demo.machine import LocalCloud
from demo.place import Place
from demo.report import Answer, Outcome, measured_line, print_report
from demo.screen import Screen
from droplens.domain.run import Status
from localcloud.settings import LocalCloudError
from tools import tried

PICTURES, UPLOAD, ANSWERS = "Pictures", "Upload", "Answers"

# The stages of a run, each with its title and what happens in it.
STAGES = {
    Status.PACKING: ("Packing", "AWS Batch job: pictures into RecordIO"),
    Status.TRAINING: ("Training", "SageMaker training job"),
    Status.DEPLOYING: ("Endpoint", "SageMaker endpoint for the new model"),
    Status.MEASURING: ("Measuring", "validation pictures through that endpoint"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo. 0: every held-out image has a result; 1: something failed; 130: stopped."""
    options = _parser().parse_args(arguments)
    console = Console()
    if options.account or options.remove:
        code = account.main(console, options, run)
        # A local cloud in place of an account does not count.
        if code == 0 and not options.remove and "AWS_ENDPOINT_URL" not in os.environ:
            _record("account", f"recipe {options.recipe}, removed again")
        return code
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        cloud = LocalCloud(keep=_wanted("KEEP") or _wanted("CONSOLE"))
        outcome = run(console, options.dataset, cloud)
    except (DemoError, LocalCloudError) as error:
        return _fail(console, str(error), getattr(error, "hint", ""))
    except (BotoCoreError, ClientError) as error:
        return _fail(console, f"the local cloud did not do as asked: {error}")
    except KeyboardInterrupt:
        console.print(
            "\nStopped before the end. make demo starts anew; make down ends a local cloud "
            "that was to stay up."
        )
        return 130
    print_report(console, outcome, opens_console=_wanted("CONSOLE"))
    answered = sum(answer.result is not None for answer in outcome.answers)
    is_complete = answered == len(outcome.answers)
    if is_complete:
        version = ".".join(map(str, sys.version_info[:3]))
        _record("journey", f"{answered} of {answered} images answered, Python {version}")
    if _wanted("CONSOLE"):
        cloud.become_console()
    return 0 if is_complete else 1


def _wanted(variable: str) -> bool:
    return os.environ.get(variable, "") not in ("", "0")


def _record(kind: str, outcome: str) -> None:
    """With RECORD=1: record that this was tried today."""
    if os.environ.get("RECORD"):
        tried.record(kind, outcome)


def run(console: Console, folder: Path | None, place: Place) -> Outcome:
    """The demo from the images to their predictions, step by step on the screen."""
    console.print(
        "\n[bold]Droplens[/bold]  A folder of labelled pictures becomes a classifier, "
        f"{place.says}.\n",
        soft_wrap=True,
    )
    titles = [PICTURES, place.title, UPLOAD, *(title for title, _ in STAGES.values()), ANSWERS]
    with Screen(console, [*titles, *place.last_titles]) as screen:
        with screen.step(PICTURES, "looking through the folders"):
            if folder is None:
                folder = digits.unpack(place.folder / "pictures" / "digits")
            dataset = read_folder(folder.expanduser())
            split = hold_out(dataset)
            screen.update(PICTURES, _in_words(dataset, split))
        with _left_as_found(screen, place):
            with screen.step(place.title, "starting"):
                place.deploy(lambda line: screen.update(place.title, line))
                journey = place.connect(dataset.classifier)
                screen.update(place.title, place.deployed)
            with screen.step(UPLOAD, "looking at what is there"):
                before = journey.newest_run()
                for done in journey.upload(split.learning):
                    screen.update(UPLOAD, "", done, len(split.learning))
                screen.update(UPLOAD, f"{len(split.learning)} pictures, then {journey.ready_uri}")
            run_id = _follow(screen, journey, before)
            with screen.step(ANSWERS, "dropping the held-out pictures"):
                exam = exam_names(split.held_out)
                drawn = stranger.draw(place.folder / "pictures", frozenset(exam))
                asked = {**exam, drawn.name: drawn}
                *answers, unknown = _examine(screen, journey, f"demo-{run_id}", asked)
            card = journey.live_card()
            report = journey.report(run_id)
            place.examine(screen, journey, f"demo-{run_id}", run_id)
    kept = place.folder / dataset.classifier
    return Outcome(
        answers=answers,
        stranger=unknown,
        measured=card["measured"],
        unconfident_because=card.get("unconfident_because"),
        results_uri=journey.results_uri(f"demo-{run_id}"),
        results_folder=_keep([*answers, unknown], kept / "results"),
        report=_keep_report(report, kept / "report.html"),
        input_uri=journey.input_uri,
        endpoint_url=place.url,
        stays_up=place.stays_up,
        removed=place.removes,
        seconds={step.title: step.seconds for step in screen.steps.values()},
    )


def _in_words(dataset: Dataset, split: Split) -> str:
    aside = f"; {dataset.others} other files left aside" if dataset.others else ""
    return (
        f"{dataset.classifier}: {len(split.learning)} pictures in {len(dataset.classes)} classes, "
        f"{len(split.held_out)} held out for testing{aside}"
    )


def _follow(screen: Screen, journey: Journey, before: str) -> str:
    """Show the run that the upload began, stage by stage, until its model is live; its id."""
    stages = list(STAGES)
    at = 0
    screen.begin(*STAGES[stages[at]])
    try:
        for news in journey.follow(before):
            reached = stages.index(news.status) if news.status in stages else len(stages)
            while at < reached:
                screen.end(STAGES[stages[at]][0], _came_of(stages[at], journey, news))
                at += 1
                if at < len(stages):
                    screen.begin(*STAGES[stages[at]])
            if at < len(stages):
                title, what = STAGES[stages[at]]
                if news.status is Status.TRAINING:
                    what = news.said or what
                screen.update(title, what, news.done, news.total)
    except BaseException:
        screen.end(STAGES[stages[at]][0], failed=True)
        raise
    return news.run_id


def _came_of(stage: Status, journey: Journey, news: News) -> str:
    """The outcome of a finished stage, in a few words."""
    match stage:
        case Status.PACKING:
            counts = journey.packed(news.run_id)["counts"]
            words = f"{counts['train']} for training, {counts['validation']} for validation"
            left_out = {
                "not readable": counts["skipped"],
                "duplicates": counts["duplicates"],
            }
            return ", ".join([words, *(f"{n} {why}" for why, n in left_out.items() if n)])
        case Status.TRAINING:
            return news.said
        case Status.DEPLOYING:
            return str(news.item.get("endpoint", ""))
        case _:
            measured = journey.live_card()["measured"]
            return f"validation accuracy {measured_line(measured)}, so it went live"


def _examine(
    screen: Screen, journey: Journey, folder: str, exam: Mapping[str, Picture]
) -> list[Answer]:
    """Upload the images to input/ and collect the results, in the same order."""
    for done in journey.ask(folder, exam):
        screen.update(ANSWERS, f"dropped into {journey.input_uri}", done, len(exam))
    screen.update(ANSWERS, "dropped; classify_image is starting", 0, len(exam))
    results = {}
    for name, result in journey.answers(folder, exam):
        results[name] = result
        screen.update(ANSWERS, "answered", len(results), len(exam))
    screen.update(ANSWERS, f"{len(results)} of {len(exam)} pictures answered")
    return [Answer(name, picture, results.get(name)) for name, picture in exam.items()]


def _keep(answers: Sequence[Answer], folder: Path) -> Path:
    """Copies of the results as files, in place of an earlier demo's."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for answer in answers:
        if answer.result is not None:
            text = json.dumps(answer.result, ensure_ascii=False, indent=1)
            (folder / f"{answer.name}.json").write_text(text, encoding="utf-8")
    return folder


def _keep_report(page: bytes | None, path: Path) -> Path | None:
    """A copy of the report that a browser can open, in place of an earlier demo's."""
    path.unlink(missing_ok=True)
    if page is None:
        return None
    path.write_bytes(page)
    return path


@contextmanager
def _left_as_found(screen: Screen, place: Place) -> Iterator[None]:
    """Close the place at the end, also after an exception."""
    try:
        yield
    finally:
        place.close(screen)


def _fail(console: Console, message: str, hint: str = "") -> int:
    for text, style in ((f"\n{message}", "bold red"), (hint, "")):
        if text:
            console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
    return 1


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demo",
        description="Train on a folder of labelled pictures and answer held-out ones.",
    )
    parser.add_argument(
        "--dataset",
        type=Path,
        metavar="FOLDER",
        help="a folder with one folder of pictures per class (default: scanned digits)",
    )
    account.add_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
