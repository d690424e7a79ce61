"""The target is said once, and every command works there."""

import json
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from droplens_cli import target
from droplens_cli.app import main
from droplens_cli.errors import CommandError, ExitCode
from droplens_cli.session import session_of
from droplens_cli.target import Target
from tests.support.command import run
from tests.support.deployed_stack import Deployed, deployed  # noqa: F401  a fixture


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "settings" / "target.toml"
    monkeypatch.setenv("DROPLENS_TARGET", str(path))
    monkeypatch.delenv("MAKELEVEL", raising=False)
    return path


def test_without_one_a_command_says_how_to_set_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == ExitCode.NO_TARGET
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "error: no target is set, so it is not known where to work"
    assert "`droplens target local`" in said[1]
    assert len(said) == 2


def test_a_stack_that_was_set_once_is_where_commands_work(
    deployed: Deployed,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("target", "aws", "--stack", "droplens", "--region", "us-east-1", target=()) == 0
    assert run("status", target=()) == 0
    assert "stack droplens: CREATE_COMPLETE" in capsys.readouterr().out
    assert run("target", target=()) == 0
    assert "stack droplens in an AWS account, region us-east-1" in capsys.readouterr().out
    with pytest.raises(CommandError, match="there is no stack other") as failed:
        run("--stack", "other", "--region", "us-east-1", "status", target=())
    assert failed.value.code is ExitCode.NO_TARGET


def test_the_saved_answers_of_make_deploy_are_a_target(tmp_path: Path) -> None:
    config = tmp_path / "samconfig.account.toml"
    config.write_text(
        '[default.deploy.parameters]\nstack_name = "mine"\nregion = "eu-west-1"\n'
        'profile = "me"\nparameter_overrides = "Recipe=\\"probe\\""\n'
    )
    run("target", "aws", "--config", str(config), target=())
    assert target.saved_target() == Target(
        stack="mine", region="eu-west-1", profile="me", config=str(config)
    )


def test_names_with_quotes_and_line_breaks_are_kept() -> None:
    odd = Target(profile='a"b\\c\nd', folder="/home/é ü")
    target.save(odd)
    assert target.saved_target() == odd


@pytest.mark.parametrize("text", ["stack = [", "stack = 5\n", 'unknown = "x"\n', "\xff"])
def test_a_damaged_file_is_a_sentence(place: Path, text: str) -> None:
    place.parent.mkdir()
    place.write_text(text, encoding="latin-1")
    with pytest.raises(CommandError, match=str(place)) as failed:
        target.saved_target()
    assert failed.value.next_step == "`droplens target` writes it anew"


# --- the local cloud


def test_a_local_cloud_that_never_ran_is_a_sentence(tmp_path: Path) -> None:
    run("target", "local", "--folder", str(tmp_path), "--port", "1", target=())
    with pytest.raises(
        CommandError, match=f"the local cloud is down[^§]*it was never up in {tmp_path}"
    ):
        run("status", target=())


def test_its_clients_never_reach_an_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.amazonaws.com")
    state = tmp_path / "cloud" / "state"
    state.mkdir(parents=True)
    (state / "operator.json").write_text(json.dumps({"key": "AKIA1", "secret": "s"}))
    monkeypatch.delenv("AWS_PROFILE")
    session = session_of(Target(folder=str(tmp_path), port=4599))
    for service in ("s3", "dynamodb", "lambda", "sts"):
        client = session.client(service)
        assert client.meta.endpoint_url == "http://127.0.0.1:4599"
    credentials = session.get_credentials()
    assert credentials is not None
    assert credentials.access_key == "AKIA1"


def test_the_working_copy_s_is_found_from_any_folder_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repo_root: Path
) -> None:
    monkeypatch.delenv("DROPLENS_LOCAL", raising=False)
    monkeypatch.setenv("DROPLENS_PORT", "4600")
    monkeypatch.chdir(repo_root / "docs")
    assert target.local_target() == Target(folder=str(repo_root / ".local"), port=4600)
    monkeypatch.setenv("DROPLENS_LOCAL", "second")
    assert target.local_target().folder == str(repo_root / "second")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandError, match="in no working copy of Droplens"):
        target.local_target()
    assert target.local_target(str(tmp_path)).folder == str(tmp_path)
    monkeypatch.setenv("DROPLENS_PORT", "many")
    with pytest.raises(CommandError, match="DROPLENS_PORT='many' is no port"):
        target.local_target(str(tmp_path))


def test_messages_name_commands_as_the_user_calls_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Target().command("status") == "droplens status"
    monkeypatch.setenv("MAKELEVEL", "1")
    assert Target().command("status") == "make status"
    assert Target(folder="/x").command("status") == "make status-local"


# --- errors and exit codes


def test_wrong_options_end_with_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--nonsense"]) == ExitCode.USAGE
    assert "No such option" in capsys.readouterr().err
    assert main(["nonsense"]) == ExitCode.USAGE


def test_an_error_of_aws_is_a_sentence_with_the_next_step(
    deployed: Deployed,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refused(*_: object) -> None:
        answer = {"Error": {"Code": "AccessDenied", "Message": "no dynamodb:Scan"}}
        raise ClientError(answer, "Scan")  # type: ignore[arg-type]

    monkeypatch.setattr("droplens_cli.status.collect", refused)
    assert main(["--stack", "droplens", "status"]) == ExitCode.FAILED
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("error: AWS does not allow it: ")
    assert said[1].startswith("  have the right that it names given")


def test_an_interruption_is_no_traceback(
    deployed: Deployed,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("droplens_cli.status.collect", interrupted)
    assert main(["--stack", "droplens", "status"]) == ExitCode.INTERRUPTED
    assert "Traceback" not in capsys.readouterr().err
