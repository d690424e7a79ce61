"""The demo in an AWS account: its own stack, the same journey, a report, and its removal.

make demo ACCOUNT=1                       RECIPE=finetune, YES=1, DATASET=..., MINUTES=90
make demo ACCOUNT=1 REMOVE=droplens-demo-k3x9qa      completes an interrupted removal
"""

import argparse
import getpass
import os
import re
import secrets
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoRegionError
from rich.console import Console
from rich.markup import escape

from demo import ROOT, DemoError, digits
from demo.account_report import Outcome as Found
from demo.account_report import Record, Redaction, versions, write
from demo.checks import (
    SINGLE_PICTURES,
    TIMED_CALLS,
    Examination,
    first_failure,
    image_builds,
    remove_artefacts,
    verify_removal,
)
from demo.dataset import Picture, exam_names, hold_out, read_folder
from demo.journey import THREADS, Clients, Journey, Patience, connect
from demo.machine import run_command
from demo.place import Place
from demo.report import Outcome, print_answers
from demo.screen import Screen
from droplens_cli import cost
from droplens_cli.account import RECIPES, config_text, lambda_python, running_python
from droplens_cli.aws_errors import explained
from droplens_cli.destroy import stack_status
from droplens_cli.saved_answers import Saved

PREFIX = "droplens-demo-"
NAME = re.compile(rf"{PREFIX}[a-z0-9]{{6}}")
LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"  # without letters and digits that look alike
STACK, CHECKS, REMOVAL = "Stack", "Checks", "Removal"
MINUTES = 90
METRICS_WAIT = 300
REMOVAL_ATTEMPTS = 3
TOOLS = ROOT / ".local" / "venv" / "tools" / "bin"
DROPLENS = (str(ROOT / ".local" / "venv" / "cli" / "bin" / "python"), "-m", "droplens_cli")
# For tools that are run as make runs them; their output is shown unbuffered.
IMPORTS = {
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "layers" / "droplens")]),
    "PYTHONUNBUFFERED": "1",
}
CONFIG = "samconfig.toml"
PATIENCE = Patience(poll=2.0, run_begins=300.0, run_moves=3600.0, answer=900.0)
LOOK_INSIDE = "the console's CloudWatch Logs have the rest, until the stack is removed"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of a demo in an account."""
    group = parser.add_argument_group("in an AWS account")
    group.add_argument("--account", action="store_true", help="run it there, and remove all of it")
    group.add_argument("--recipe", choices=RECIPES, default="probe", help="finetune needs a GPU")
    group.add_argument("--yes", action="store_true", help="ask nobody")
    group.add_argument("--remove", metavar="STACK", help="only remove what such a demo has left")
    group.add_argument(
        "--config", type=Path, metavar="FILE", help="saved answers: whose region and profile"
    )
    group.add_argument(
        "--minutes", type=float, default=MINUTES, help="after so long it gives up (default: 90)"
    )
    group.add_argument(
        "--metrics-wait",
        type=float,
        default=METRICS_WAIT,
        metavar="SECONDS",
        help="within which CloudWatch is to show the stack's metrics (default: 300)",
    )
    group.add_argument(
        "--parameters", default="", metavar='"NAME=VALUE ..."', help="further template parameters"
    )


class Interruptions:
    """Ctrl-C, SIGTERM and a closed terminal: the first ends the demo, which then removes what
    it created.

    During the removal the next one only warns, and the one after that ends the removal, too.
    """

    def __init__(self, warn: Callable[[], None]) -> None:
        self._warn, self._count = warn, 0
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        self._before = {number: signal.signal(number, self._heed) for number in numbers}

    def removal_begins(self) -> None:
        """From now on the next one warns."""
        self._count = max(self._count, 1)

    def over(self) -> None:
        """Restore the earlier signal handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heed(self, _number: int, _frame: FrameType | None) -> None:
        self._count += 1
        if self._count == 2:
            self._warn()
        else:
            raise KeyboardInterrupt


def hush_where_nobody_reads(descriptor: int) -> None:
    """Redirect the stream to nowhere if its terminal or pipe is closed.

    Otherwise the first line that the removal writes would end it.
    """
    looking = select.poll()
    looking.register(descriptor, 0)
    if any(event & (select.POLLERR | select.POLLHUP) for _, event in looking.poll(0)):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The settings of one demo. folder: for the files of all demos in accounts."""

    stack: str
    folder: Path
    recipe: str
    parameters: dict[str, str]
    region: str
    profile: str | None
    metrics_wait: float
    minutes: float

    @property
    def own_folder(self) -> Path:
        """The folder of this demo's files, which its removal needs."""
        return self.folder / self.stack

    @property
    def config(self) -> Path:
        """Its samconfig.toml."""
        return self.own_folder / CONFIG

    @property
    def finish(self) -> str:
        """The command that completes its removal."""
        return f"make demo ACCOUNT=1 REMOVE={self.stack}"


class AccountStack:
    """A stack in the user's account during one demo; a Place."""

    title = STACK
    says = "in your AWS account, and all of it is removed at the end"
    url = ""
    stays_up = False
    removes = True

    def __init__(self, plan: Plan, console: Console, record: Record) -> None:
        self.plan, self.record, self._console = plan, record, console
        self.folder = plan.folder
        session = boto3.Session(profile_name=plan.profile, region_name=plan.region)
        config = Config(
            max_pool_connections=THREADS, retries={"mode": "standard", "total_max_attempts": 8}
        )
        self.clients = Clients(session, config)
        self.picture: Picture | None = None
        self.interruptions = Interruptions(self._warn)

    @property
    def last_titles(self) -> list[str]:
        """The titles of the steps after the predictions."""
        return [CHECKS, REMOVAL]

    @property
    def deployed(self) -> str:
        """Where the stack is, in words."""
        return f"{self.plan.stack} in {self.plan.region}, deployed by sam"

    def prepare(self) -> None:
        """Write the files for deployment and removal; raises DemoError if the stack exists."""
        if stack_status(self.clients, self.plan.stack):
            raise DemoError(
                f"there is a stack {self.plan.stack} already", "the same command takes another name"
            )
        self.plan.own_folder.mkdir(parents=True, exist_ok=True)
        plan = self.plan
        text = config_text(plan.stack, plan.region, plan.profile, plan.parameters, confirm=False)
        plan.config.write_text(text, encoding="utf-8")

    def preflight(self) -> bool:
        """Check the account (preflight) and show the outcome."""
        done = subprocess.run(
            [*DROPLENS, "--config", str(self.plan.config), "preflight"],
            cwd=ROOT,
            env=os.environ | IMPORTS,
            check=False,
        )
        return done.returncode == 0

    def deploy(self, watch: Callable[[str], None]) -> None:
        """sam build, then sam deploy. Raises DemoError with CloudFormation's reason."""
        signal.setitimer(signal.ITIMER_REAL, self.plan.minutes * 60)
        signal.signal(signal.SIGALRM, self._too_long)
        own, config = self.plan.own_folder, ["--config-file", str(self.plan.config)]
        path = {"PATH": f"{TOOLS}{os.pathsep}{os.environ.get('PATH', '')}"}
        template = ["--template-file", str(ROOT / "template.yaml")]
        # What sam has built before, for the local cloud and for other stacks: as the Makefile.
        shared = os.environ.get("SAM_CACHE") or str(self.folder.parent / "sam/.aws-sam/cache")
        cache = ["--cache-dir", shared]
        for log, command in {
            "build.log": ["sam", "build", *template, *cache, *config],
            "deploy.log": ["sam", "deploy", *config, "--no-confirm-changeset", "--no-progressbar"],
        }.items():
            try:
                run_command(command, own / log, watch, cwd=own, environment=path)
            except DemoError as error:
                reason = first_failure(self.clients, self.plan.stack)
                if reason:
                    hint = "if it is not your account's, the report is there for an issue"
                    raise DemoError(f"the stack could not be made: {reason}", hint) from error
                raise
        for image, seconds in image_builds(self.clients, self.plan.stack):
            note = "CloudFormation's times of the resource that waits for CodeBuild"
            self.record.measure(f"image build, {image}", seconds, "s", note)
        self.record.check("the template deploys", True, self.deployed)

    def connect(self, classifier: str) -> Journey:
        """The classifier's journey through the stack."""
        return connect(classifier, self.plan.stack, self.clients, PATIENCE, LOOK_INSIDE)

    def examine(self, screen: Screen, journey: Journey, folder: str, run_id: str) -> None:
        """Check what only an account can show."""
        assert self.picture is not None
        examination = Examination(
            self.clients, self.plan.stack, self.record, self.plan.metrics_wait
        )
        with screen.step(CHECKS, "looking at times, logs, queues, metrics and alarms"):
            examination.run(
                journey, folder, run_id, self.picture, lambda what: screen.update(CHECKS, what)
            )
            screen.update(CHECKS, self.counted)

    @property
    def counted(self) -> str:
        """The number of checks by outcome."""
        return ", ".join(f"{self.record.count(outcome)} {outcome.value}" for outcome in Found)

    def close(self, screen: Screen) -> None:
        """Remove everything and verify that; the outcome is noted in `record`."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.interruptions.removal_begins()
        for descriptor in (1, 2):
            hush_where_nobody_reads(descriptor)
        self.record.left = ["not known: the removal did not come to its end"]
        log = self.plan.own_folder / "remove.log"

        def watch(what: str) -> None:
            screen.update(REMOVAL, what)

        try:
            with screen.step(REMOVAL, "listing what the stack and its journey made"):
                self._destroy(log, watch)
                uploads = remove_artefacts(self.clients, self.plan.stack)
                left = verify_removal(self.clients, self.plan.stack, self.record, watch)
                self.record.left = left
                if left:
                    raise DemoError(f"left in the account: {'; '.join(left)}")
                unknown = sum(
                    one.outcome is Found.UNKNOWN and one.what.startswith("after removal")
                    for one in self.record.checks
                )
                unseen = f"; {unknown} kinds could not be listed" if unknown else ""
                watch(f"nothing is left of {self.plan.stack}, nor of {uploads} uploads{unseen}")
        except (DemoError, BotoCoreError, ClientError) as error:
            said, _ = explained(error) if not isinstance(error, DemoError) else (str(error), "")
            raise DemoError(
                f"the removal did not come to its end: {said}", f"end it by: {self.plan.finish}"
            ) from error
        finally:
            for title, step in screen.steps.items():
                if step.began:
                    self.record.steps[title] = (step.seconds, step.failed)
            took = sum(seconds for seconds, _ in self.record.steps.values())
            self.record.measure("from beginning to end", took, "s")

    def _destroy(self, log: Path, watch: Callable[[str], None]) -> None:
        """As make destroy, repeated: an interruption may end it at its start, and deleting a stack
        may fail at first."""
        command = [*DROPLENS, "--config", str(self.plan.config), "destroy", "--yes"]
        for attempt in range(1, REMOVAL_ATTEMPTS + 1):
            try:
                run_command(command, log, watch, environment=IMPORTS)
            except DemoError:
                if attempt == REMOVAL_ATTEMPTS:
                    raise
                watch("once more, since something was left")
            else:
                return

    def _too_long(self, _number: int, _frame: FrameType | None) -> None:
        raise DemoError(
            f"it has taken longer than {self.plan.minutes:g} minutes",
            "MINUTES=... gives it more; the report says which step took how long",
        )

    def _warn(self) -> None:
        self._console.print(
            f"\nThe removal goes on. Stopped now, it would leave what is billed: the stack "
            f"{self.plan.stack} with its bucket, images, alarms and, if there is one, its endpoint."
            f"\nOnce more stops it; then end it by: {self.plan.finish}",
            style="bold yellow",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def main(
    console: Console,
    options: argparse.Namespace,
    run: Callable[[Console, Path | None, Place], Outcome],
) -> int:
    """Run the demo in the account. 0: no check failed, and nothing is left; 1: otherwise; 130:
    stopped."""
    try:
        if options.remove:
            return _finish_removal(console, options)
        return _demonstrate(console, options, run)
    except DemoError as error:
        return _say(console, str(error), error.hint)
    except (BotoCoreError, ClientError) as error:
        return _say(console, *explained(error))
    except KeyboardInterrupt:
        console.print("\nStopped; nothing was made.")
        return 130


def _demonstrate(
    console: Console,
    options: argparse.Namespace,
    run: Callable[[Console, Path | None, Place], Outcome],
) -> int:
    plan = _plan(options)
    record = Record(datetime.now(UTC))
    place = AccountStack(plan, console, record)
    identity = place.clients.client("sts").get_caller_identity()
    folder = options.dataset.expanduser() if options.dataset else None
    dataset = read_folder(folder or digits.unpack(place.folder / "pictures" / "digits"))
    split = hold_out(dataset)
    place.picture = next(iter(exam_names(split.held_out).values()))
    place.prepare()
    try:
        if not place.preflight():
            raise DemoError("the account cannot take it as it is; nothing was made")
        _print_cost(console, plan, len(split.learning), len(split.held_out))
        _agree(options, plan)
    except BaseException:
        shutil.rmtree(plan.own_folder)
        raise
    record.facts = {
        "region": plan.region,
        "recipe": plan.recipe,
        "pictures": f"{len(dataset.pictures)} in {len(dataset.classes)} classes",
        **versions(ROOT, _sam_version()),
    }
    redact = _redaction(identity, plan, dataset.classifier if folder else "")
    outcome, code = None, 1
    try:
        outcome = run(console, folder, place)
    except DemoError as error:
        record.error, record.hint = str(error), _advice(str(error)) or error.hint
    except (BotoCoreError, ClientError) as error:
        record.error, record.hint = explained(error)
    except KeyboardInterrupt:
        record.error, code = "stopped by its user", 130
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        place.interruptions.over()
        took = sum(seconds for seconds, _ in record.steps.values())
        kept = None if outcome is None else took <= plan.minutes * 60
        record.check("all of it within its time", kept, f"{took / 60:.0f} of {plan.minutes:g} min")
        page = write(record, redact, place.folder)
    if outcome is not None:
        print_answers(console, outcome)
        answered = all(answer.result for answer in outcome.answers)
        code = 0 if answered and not record.count(Found.FAILED) and not record.left else 1
    _print_end(console, place, page)
    return code


def _finish_removal(console: Console, options: argparse.Namespace) -> int:
    """Remove what an earlier demo left, using the files that it wrote before deploying."""
    folder = _folder()
    if not NAME.fullmatch(options.remove):
        raise DemoError(
            f"{options.remove!r} is no stack of a demo: those are called {PREFIX} and six letters",
            "make destroy STACK=... removes another stack",
        )
    config = folder / options.remove / CONFIG
    saved = Saved(config if config.is_file() else _saved_answers(options))
    region = _region(saved)
    plan = Plan(
        stack=options.remove,
        folder=folder,
        recipe="probe",
        parameters={},
        region=region,
        profile=saved.session_options.get("profile_name"),
        metrics_wait=0.0,
        minutes=options.minutes,
    )
    if not config.is_file():
        plan.own_folder.mkdir(parents=True, exist_ok=True)
        built = {"PythonRuntime": running_python()}  # a removal builds nothing
        text = config_text(plan.stack, region, plan.profile, built, confirm=False)
        config.write_text(text, encoding="utf-8")
    place = AccountStack(plan, console, Record(datetime.now(UTC)))
    try:
        with Screen(console, [REMOVAL]) as screen:
            place.close(screen)
    except KeyboardInterrupt:
        _say(console, "stopped while removing", f"end it by: {plan.finish}")
        return 130
    return 0


def _plan(options: argparse.Namespace) -> Plan:
    saved = Saved(_saved_answers(options))
    ours = {
        "PythonRuntime": lambda_python(),
        "TrainerImage": "droplens",
        "Recipe": options.recipe,
        # A new account has no quota of spot instances, and waiting costs more than it saves.
        "UseSpot": "false",
        "MaxTrainingMinutes": str(cost.DEMO_TRAINING_MINUTES),
        "LogRetentionDays": "1",
    }
    given = dict(pair.partition("=")[::2] for pair in options.parameters.split())
    return Plan(
        stack=PREFIX + "".join(secrets.choice(LETTERS) for _ in range(6)),
        folder=_folder(),
        recipe=options.recipe,
        parameters=ours | given,
        region=_region(saved),
        profile=saved.session_options.get("profile_name"),
        metrics_wait=options.metrics_wait,
        minutes=options.minutes,
    )


def _folder() -> Path:
    return ROOT / os.environ.get("DROPLENS_LOCAL", ".local") / "demo-account"


def _saved_answers(options: argparse.Namespace) -> Path:
    return options.config or ROOT / "samconfig.account.toml"


def _region(saved: Saved) -> str:
    session = boto3.Session(**saved.session_options)
    if session.region_name is None:
        raise NoRegionError
    return session.region_name


def _sam_version() -> str:
    done = subprocess.run(
        [str(TOOLS / "sam"), "--version"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip().rpartition(" ")[2]


def _print_cost(console: Console, plan: Plan, learned: int, answered: int) -> None:
    """The expected cost, before anything is created."""
    prices = cost.Prices()
    lines = list(cost.demo(plan.recipe, learned, answered + SINGLE_PICTURES, TIMED_CALLS))
    total = sum(map(prices.listed, lines))
    most = cost.demo_at_most(plan.recipe, cost.DEMO_TRAINING_MINUTES, prices)
    dearest = sorted(lines, key=prices.listed, reverse=True)[:4]
    parts = ", ".join(f"{line.what} {cost.dollars(prices.listed(line))}" for line in dearest)
    console.print(
        f"\nThis makes the stack [bold]{plan.stack}[/bold] in {plan.region}, trains, serves, and "
        f"removes all of it again.\n"
        f"It costs about [bold]{cost.dollars(total)}[/bold] ({escape(parts)}, …), and if builds "
        f"and training go on until they are stopped about {cost.dollars(most)}: list prices of "
        f"{prices.region}, {prices.as_of}.\n"
        f"Pictures: {learned} to learn from, {answered} to answer. It is given up after "
        f"{plan.minutes:g} minutes.",
        highlight=False,
        soft_wrap=True,
    )
    overridden = {"TrainingInstanceType", "EndpointMode", "EndpointInstanceType"} & set(
        plan.parameters
    )
    if overridden:
        console.print(f"Not in the sum: {', '.join(sorted(overridden))}.", style="bold yellow")


def _agree(options: argparse.Namespace, plan: Plan) -> None:
    """Ask for confirmation. Raises DemoError without it."""
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise DemoError(
            "there is no terminal to ask at, and nothing was made",
            "YES=1 agrees: make demo ACCOUNT=1 YES=1",
        )
    try:
        answer = input(f"Make {plan.stack} in your account? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise DemoError("not agreed; nothing was made")


def _redaction(identity: dict[str, Any], plan: Plan, classifier: str) -> Redaction:
    """Removes the identity of account, user and machine from texts.

    classifier: of the user's own dataset, or "": its folder may have a person's name.
    """
    user = identity["Arn"].rpartition("/")[2]
    words = {
        identity["Account"]: "<account>",
        user: "<user>",
        plan.profile or "": "<profile>",
        str(ROOT): "<here>",
        str(Path.home()): "~",
        classifier: "<classifier>",
        os.uname().nodename: "<machine>",
    }
    me = getpass.getuser()
    return Redaction(words if me == "root" else {**words, me: "<user>"})


def _advice(reason: str) -> str:
    """What to do about AWS's reason; "" for an unknown one."""
    lower = reason.lower()
    if "not authorized" in lower or "accessdenied" in lower or "access denied" in lower:
        return "have the right that it names given to your identity, then run the same command"
    if "limit" in lower or "quota" in lower:
        return "`make preflight` names the quota, how to have it raised and what avoids it"
    if "toomanyrequests" in lower or "rate exceeded" in lower:
        return "a registry or AWS was asked too often: run the same command later"
    return ""


def _print_end(console: Console, place: AccountStack, page: Path) -> None:
    record = place.record
    if record.error:
        _say(console, record.error, record.hint)
    console.print(f"\n[bold]Checks[/bold]    {place.counted}", highlight=False)
    styles = {Found.FAILED: "bold red", Found.UNKNOWN: "yellow"}
    for check in record.checks:
        if check.outcome in styles:
            console.print(
                f"  {check.outcome.value}: {check.what}: {check.said}",
                style=styles[check.outcome],
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
    console.print(
        f"[bold]Report[/bold]    {escape(_short(page))} (for an issue: names are taken out)"
    )
    if record.left:
        console.print(f"[bold red]Left[/bold red]      end it by: {place.plan.finish}")
    else:
        console.print(f"[bold]Left[/bold]      nothing of {place.plan.stack}", highlight=False)


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _say(console: Console, message: str, hint: str = "") -> int:
    for text, style in ((f"\n{message}", "bold red"), (hint, "")):
        if text:
            console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
    return 1
