"""The demo in an account, up to what costs money: what it asks, refuses, and heeds."""

import argparse
import io
import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from rich.console import Console

from demo import DemoError, account
from demo.__main__ import _parser
from demo.account import Interruptions
from demo.account_report import Record
from droplens.domain.naming import resource_name
from droplens_cli.destroy import stack_status
from droplens_cli.saved_answers import Saved


@pytest.fixture
def cloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pythons: Callable[..., None]
) -> Iterator[Path]:
    """An empty account; the folder of the demo's own files."""
    pythons("python3.13")
    monkeypatch.setenv("DROPLENS_LOCAL", str(tmp_path))
    with mock_aws():
        yield tmp_path / "demo-account"


@pytest.fixture
def handlers() -> Iterator[None]:
    """Gives signals back their handlers."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in before.items():
        signal.signal(number, handler)


def options(*words: str) -> argparse.Namespace:
    return _parser().parse_args(["--account", *words])


@pytest.mark.usefixtures("cloud")
def test_each_demo_has_a_stack_of_its_own_with_a_name_that_the_functions_take() -> None:
    names = {account._plan(options()).stack for _ in range(5)}
    assert len(names) == 5
    for name in names:
        assert account.NAME.fullmatch(name)
        assert resource_name(name, "digits", "20261127-053000-1a2b3c").startswith(f"{name}--digits")


@pytest.mark.usefixtures("cloud")
def test_it_trains_a_probe_on_demand_unless_told_otherwise() -> None:
    plan = account._plan(options())
    assert (plan.parameters["Recipe"], plan.parameters["UseSpot"]) == ("probe", "false")
    told = account._plan(options("--recipe", "finetune", "--parameters", "UseSpot=true Epochs=2"))
    assert told.parameters["Recipe"] == "finetune"
    assert (told.parameters["UseSpot"], told.parameters["Epochs"]) == ("true", "2")


@pytest.mark.usefixtures("cloud")
def test_region_and_profile_are_those_of_the_saved_answers(tmp_path: Path) -> None:
    saved = tmp_path / "answers.toml"
    saved.write_text('[default.global.parameters]\nstack_name = "mine"\nregion = "eu-west-3"\n')
    plan = account._plan(options("--config", str(saved)))
    assert plan.region == "eu-west-3"
    assert plan.stack != "mine"


def test_without_a_terminal_it_makes_nothing_unless_agreed(
    cloud: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    plan = account._plan(options())
    with pytest.raises(DemoError, match="no terminal to ask at") as caught:
        account._agree(options(), plan)
    assert "YES=1" in caught.value.hint
    account._agree(options("--yes"), plan)
    assert not cloud.exists()


@pytest.mark.parametrize(
    ("answer", "agreed"), [("y", True), ("yes", True), ("", False), ("n", False)]
)
@pytest.mark.usefixtures("cloud")
def test_a_person_has_to_say_yes(
    monkeypatch: pytest.MonkeyPatch, answer: str, *, agreed: bool
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    plan = account._plan(options())
    if agreed:
        account._agree(options(), plan)
    else:
        with pytest.raises(DemoError, match="nothing was made"):
            account._agree(options(), plan)


@pytest.mark.usefixtures("cloud")
def test_the_cost_is_said_with_its_largest_parts_and_its_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    account._print_cost(Console(width=200), account._plan(options()), 1000, 80)
    probe = capsys.readouterr().out
    account._print_cost(
        Console(width=200), account._plan(options("--recipe", "finetune")), 1000, 80
    )
    finetune = capsys.readouterr().out

    def dollars(text: str) -> float:
        return float(text.partition("costs about $")[2].split()[0])

    assert "minutes of image builds" in probe
    assert 0 < dollars(probe) < dollars(finetune)


@pytest.mark.usefixtures("cloud", "handlers")
def test_another_stack_s_name_is_never_taken() -> None:
    plan = account._plan(options())
    boto3.client("cloudformation").create_stack(
        StackName=plan.stack,
        TemplateBody='{"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}',
    )
    place = account.AccountStack(plan, Console(), _record())
    with pytest.raises(DemoError, match=r"there is a stack .* already"):
        place.prepare()
    assert not plan.config.exists()
    assert stack_status(place.clients, plan.stack) == "CREATE_COMPLETE"


@pytest.mark.usefixtures("cloud", "handlers")
def test_what_removal_needs_is_written_before_anything_is_deployed() -> None:
    plan = account._plan(options())
    account.AccountStack(plan, Console(), _record()).prepare()
    saved = Saved(plan.config)
    assert saved.stack == plan.stack
    assert saved.session_options["region_name"] == plan.region
    assert saved.parameters == plan.parameters


@pytest.mark.usefixtures("cloud")
@pytest.mark.parametrize("name", ["droplens", "droplens-demo", "droplens-demo-ab", "../../etc"])
def test_only_a_demo_s_stack_is_removed_by_it(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError

    told = options("--remove", name)
    assert account.main(Console(width=200), told, never) == 1
    assert "is no stack of a demo" in capsys.readouterr().out


@pytest.mark.usefixtures("handlers")
def test_the_first_interruption_ends_the_demo_the_second_warns_the_third_ends_the_removal() -> None:
    warned: list[int] = []
    Interruptions(lambda: warned.append(1))
    with pytest.raises(KeyboardInterrupt):
        _send(signal.SIGINT)
    _send(signal.SIGTERM)
    assert warned == [1]
    with pytest.raises(KeyboardInterrupt):
        _send(signal.SIGINT)


@pytest.mark.usefixtures("handlers")
def test_an_interruption_while_an_undisturbed_demo_removes_only_warns() -> None:
    warned: list[int] = []
    interruptions = Interruptions(lambda: warned.append(1))
    interruptions.removal_begins()
    _send(signal.SIGINT)
    assert warned == [1]
    with pytest.raises(KeyboardInterrupt):
        _send(signal.SIGINT)


@pytest.mark.usefixtures("handlers")
def test_when_it_is_over_signals_do_what_they_did() -> None:
    before = signal.getsignal(signal.SIGINT)
    Interruptions(lambda: None).over()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_pipe_that_nobody_reads_takes_what_is_written_all_the_same() -> None:
    read, write = os.pipe()
    account.hush_where_nobody_reads(write)
    os.write(write, b"heard")
    assert os.read(read, 10) == b"heard"
    os.close(read)
    with pytest.raises(BrokenPipeError):
        os.write(write, b"nobody")
    account.hush_where_nobody_reads(write)
    assert os.write(write, b"nobody") == 6
    os.close(write)


@pytest.mark.usefixtures("cloud", "handlers")
def test_what_takes_too_long_is_given_up_with_its_limit() -> None:
    place = account.AccountStack(account._plan(options("--minutes", "0.25")), Console(), _record())
    signal.signal(signal.SIGALRM, place._too_long)
    with pytest.raises(DemoError, match=r"longer than 0\.25 minutes"):
        _send(signal.SIGALRM)


@pytest.mark.parametrize(
    ("reason", "step"),
    [
        ("User: x is not authorized to perform: iam:CreateRole", "have the right"),
        ("The account-level service limit is exceeded (Code: LimitExceeded)", "make preflight"),
        ("429 toomanyrequests", "later"),
    ],
)
def test_aws_s_reason_has_a_next_step(reason: str, step: str) -> None:
    assert step in account._advice(reason)
    assert account._advice("Bucket is strange") == ""


def _record() -> Record:
    return Record(datetime.now(UTC))


def _send(number: int) -> None:
    """Deliver a signal to this very process, and give Python a moment to heed it."""
    os.kill(os.getpid(), number)
    time.sleep(0.01)
