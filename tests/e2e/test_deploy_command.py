"""`make deploy` as a person meets it: in a terminal, the first time and again.

The local cloud stands for the account, by AWS_ENDPOINT_URL alone.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from droplens_cli.account import running_python
from droplens_cli.saved_answers import Saved
from tests.support.deployed_cloud import Cloud
from tests.support.terminal import in_a_terminal


@pytest.fixture(scope="module")
def deployed(account: Cloud) -> Iterator[str]:
    """What the terminal showed of the first deployment, with its questions answered."""
    code, seen = in_a_terminal(
        ["make", "deploy"],
        account.root,
        account.environment,
        {
            "The stack's name [droplens]": "my-lens",
            "AWS region [us-east-1]": "",
            "Who hears of failures": "me@example.org",
            "How to train": "probe",
            "ask before they are made": "y",
            "Deploy this changeset?": "y",
        },
    )
    assert code == 0, seen
    yield seen
    account.make("destroy", "YES=1")


def stack(account: Cloud) -> dict[str, str]:
    """The deployed parameters."""
    formation = account.client("cloudformation")
    [found] = formation.describe_stacks(StackName="my-lens")["Stacks"]
    assert found["StackStatus"] == "CREATE_COMPLETE"
    return {one["ParameterKey"]: one["ParameterValue"] for one in found["Parameters"]}


def test_the_first_time_it_asks_and_deploys_what_was_answered(
    account: Cloud, deployed: str
) -> None:
    assert "Traceback" not in deployed
    parameters = stack(account)
    assert parameters["Recipe"] == "probe"
    assert parameters["NotificationEmail"] == "me@example.org"
    assert parameters["PythonRuntime"] == running_python()
    saved = Saved(Path(account.environment["ACCOUNT_CONFIG"]))
    assert (saved.stack, saved.session_options) == ("my-lens", {"region_name": "us-east-1"})


@pytest.mark.usefixtures("deployed")
def test_the_second_time_it_asks_nothing(account: Cloud) -> None:
    before = stack(account)
    code, seen = in_a_terminal(["make", "deploy"], account.root, account.environment, {})
    assert code == 0, seen
    assert "is up to date" in seen
    assert "[droplens]" not in seen
    assert stack(account) == before


@pytest.mark.usefixtures("deployed")
def test_commands_on_the_stack_read_the_same_file(account: Cloud) -> None:
    assert "Dead-letter queue is empty" in account.make("redrive")
    assert "stack my-lens: CREATE_COMPLETE" in account.make("status")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "credentials"),
        ({"AWS_ACCESS_KEY_ID": "AKIA" + "A" * 16}, "InvalidClientTokenId"),
        ({"AWS_PROFILE": "nobody-here"}, "nobody-here"),
    ],
)
def test_without_an_identity_it_ends_in_a_sentence(
    account: Cloud, tmp_path: Path, changed: dict[str, str], told: str
) -> None:
    environment = {**account.environment, "ACCOUNT_CONFIG": str(tmp_path / "a.toml"), **changed}
    environment = {name: value for name, value in environment.items() if value}
    answers = {
        question: ""
        for question in ("stack's name", "AWS region", "Who hears", "How to train", "Show each")
        if "AWS_PROFILE" not in changed
    }
    code, seen = in_a_terminal(["make", "deploy"], account.root, environment, answers)
    assert code != 0
    assert told in seen
    assert "Traceback" not in seen
    stacks = account.client("cloudformation").describe_stacks()["Stacks"]
    assert "droplens" not in {one["StackName"] for one in stacks}


def test_without_a_terminal_it_says_how_to_answer(account: Cloud, tmp_path: Path) -> None:
    done = subprocess.run(
        ["make", "deploy"],
        cwd=account.root,
        env={**account.environment, "ACCOUNT_CONFIG": str(tmp_path / "a.toml")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "no terminal to ask at" in done.stderr
    assert "--stack droplens --region" in done.stderr
