"""`make resume` asks the stack's function once, and says where the run goes on."""

from pathlib import Path

import pytest
from moto import mock_aws

from droplens_cli.errors import CommandError
from tests.support.command import run as command
from tests.support.deployed_stack import RESUME, Deployed, deployed  # noqa: F401  a fixture

TAKEN_UP = {"run": {"classifier": "cars", "run_id": "20261122-120000-1a2b3c"}, "stage": "deploy"}


@pytest.mark.parametrize("run", [None, "20261122-120000-1a2b3c"])
def test_it_names_the_run_and_the_stage(
    run: str | None,
    deployed: Deployed,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    functions = deployed.answering(TAKEN_UP)
    command("resume", "cars", *(["--run", run] if run else []))
    asked = {"classifier": "cars"} | ({"run_id": run} if run else {})
    assert functions.asked == [(RESUME, asked)]
    said = capsys.readouterr().out
    assert said.startswith("cars: run 20261122-120000-1a2b3c is retried from stage deploy")
    assert "`droplens status` shows its progress" in said


def test_a_refusal_is_its_words(deployed: Deployed) -> None:  # noqa: F811
    deployed.answering({"errorMessage": "run 20261122 does not wait: it is live"})
    with pytest.raises(CommandError, match="resume: run 20261122 does not wait: it is live"):
        command("resume", "cars")


def test_the_stack_is_the_one_of_the_saved_answers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "samconfig.account.toml"
    config.write_text('[default.deploy.parameters]\nstack_name = "mine"\n')
    with mock_aws():
        functions = Deployed(monkeypatch, "mine").answering(TAKEN_UP)
        command("resume", "cars", target=("--config", str(config)))
        with pytest.raises(CommandError, match="there is no stack droplens: `make deploy`"):
            command("resume", "cars")
    assert functions.asked == [(RESUME, {"classifier": "cars"})]
