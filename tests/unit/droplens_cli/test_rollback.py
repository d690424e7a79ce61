"""`make rollback` says what it goes back to, and asks the stack's function until that answers."""

import re
from typing import Any

import pytest

from droplens.aws.s3 import Bucket
from droplens.domain.run import RunKey, Status
from droplens.state.cards import Cards
from droplens_cli import rollback
from droplens_cli.errors import CommandError
from tests.support.builders import card, go_live
from tests.support.command import run
from tests.support.deployed_stack import ROLLBACK, Deployed, deployed  # noqa: F401  a fixture

FIRST, SECOND, THIRD = (f"2026112{day}-120000-1a2b3c" for day in (1, 2, 3))


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollback, "POLL_SECONDS", 0)


def said(status: str, run_id: str = FIRST) -> dict[str, Any]:
    return {"run": {"classifier": "cars", "run_id": run_id}, "status": status}


def was_live(stack: Deployed, run_id: str, **facts: Any) -> None:
    """A run that went live, and then was replaced, if the facts say so."""
    key = RunKey("cars", run_id)
    stack.runs.open(key, {"version": run_id})
    stack.runs.end(key, Status.LIVE, accuracy=0.9, endpoint=f"e-{run_id}")
    stack.runs.note(key, **facts)


@pytest.fixture
def history(deployed: Deployed) -> Deployed:  # noqa: F811
    """The first model, the second, which was left for the first, then the third, which is live."""
    cards = Cards(Bucket(deployed.s3, deployed.outputs["BucketName"]))
    for run_id in (FIRST, SECOND):
        go_live(cards, card(run_id))
    first = cards.of_run("cars", FIRST)
    assert first is not None
    cards.roll_back(first, SECOND)
    go_live(cards, card(THIRD))
    replaced = {"status": "replaced", "replaced_at": "2026-11-25T08:00:00+00:00"}
    was_live(deployed, FIRST, replaced_by=THIRD, **replaced)
    was_live(deployed, SECOND, replaced_by=FIRST, retired=True, **replaced)
    was_live(deployed, THIRD)
    deployed.runs.open(RunKey("cars", "20261124-120000-1a2b3c"), {"version": "v"})
    return deployed


def test_it_lists_what_there_is_and_goes_back_to_what_was_live_before(
    history: Deployed, capsys: pytest.CaptureFixture[str]
) -> None:
    functions = history.answering(said("live"))
    run("rollback", "cars")
    assert functions.asked == [(ROLLBACK, {"classifier": "cars", "run_id": FIRST})]
    live, _, heads, second, first, _, plan, done = capsys.readouterr().out.splitlines()
    assert live.startswith(
        f"cars: run {THIRD} is live since 2026-11-22 12:30 UTC, "
        "validation accuracy 90.0 % (9 of 10; 59.6 to 98.2)"
    )
    assert re.split(" {2,}", heads.strip()) == [
        "run",
        "validation accuracy",
        "live from (UTC)",
        "replaced (UTC)",
        "replaced by",
        "endpoint",
    ]
    assert second.split()[:3] == [SECOND, "90.0", "%"]
    assert second.endswith("removed")
    assert first.split()[:2] == [">", FIRST]
    assert first.endswith("in service")
    assert f"Roll back to run {FIRST}" in plan
    assert done == f"cars: run {FIRST} is live"


def test_a_run_that_never_was_live_is_not_listed(
    history: Deployed, capsys: pytest.CaptureFixture[str]
) -> None:
    history.answering(said("live"))
    run("rollback", "cars")
    assert "20261124" not in capsys.readouterr().out


@pytest.mark.parametrize(("answer", "goes"), [("y", True), ("", False), ("n", False)])
def test_at_a_terminal_it_asks(
    history: Deployed, monkeypatch: pytest.MonkeyPatch, answer: str, goes: bool
) -> None:
    functions = history.answering(said("live"), said("live"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    if goes:
        run("rollback", "cars")
    else:
        with pytest.raises(CommandError, match="nothing was changed"):
            run("rollback", "cars")
    assert len(functions.asked) == goes
    run("rollback", "cars", "--yes")
    assert len(functions.asked) == goes + 1


def test_where_nothing_was_live_before_it_says_so(deployed: Deployed) -> None:  # noqa: F811
    functions = deployed.answering()
    with pytest.raises(CommandError, match="cars has no live model: `droplens status`"):
        run("rollback", "cars")
    go_live(Cards(Bucket(deployed.s3, deployed.outputs["BucketName"])), card(FIRST))
    was_live(deployed, FIRST)
    with pytest.raises(CommandError, match="no model was live before"):
        run("rollback", "cars")
    assert functions.asked == []


def test_while_the_endpoint_is_made_it_is_asked_for_the_same_run(
    deployed: Deployed,  # noqa: F811
) -> None:
    functions = deployed.answering(said("restoring"), said("restoring"), said("live"))
    run("rollback", "cars", "--run", FIRST, "--reclassify", "all")
    again = {"classifier": "cars", "run_id": FIRST, "reclassify": "all"}
    assert functions.asked == [(ROLLBACK, again)] * 3


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"errorMessage": "cars has no live model"}, "cars has no live model"),
        (said("replaced"), "is replaced"),
    ],
)
def test_a_rollback_that_came_to_nothing_fails(
    deployed: Deployed,  # noqa: F811
    answer: dict[str, Any],
    words: str,
) -> None:
    deployed.answering(answer)
    with pytest.raises(CommandError, match=words):
        run("rollback", "cars", "--run", FIRST)
