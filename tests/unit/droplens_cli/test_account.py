"""What `make deploy` asks and saves, and what is said where AWS does not answer."""

import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    ProfileNotFound,
    UnauthorizedSSOTokenError,
)
from samtranslator.yaml_helper import yaml_parse

from droplens.domain import naming
from droplens_cli import account
from droplens_cli.aws_errors import explained
from droplens_cli.saved_answers import Saved

ANSWERS = """
version = 0.1
[default.global.parameters]
region = "eu-west-1"
[default.deploy.parameters]
stack_name = "my-lens"
profile = "work"
parameter_overrides = "PythonRuntime=\\"python3.12\\" KeepModels=\\"2\\" NotificationEmail=\\"\\""
"""


@pytest.fixture(autouse=True)
def python_to_build_with(pythons: Callable[..., None]) -> None:
    """Lambda's Python, also on a machine whose own is 3.11."""
    pythons("python3.13")


def test_answers_that_sam_saved_give_stack_region_profile_and_parameters(tmp_path: Path) -> None:
    config = tmp_path / "samconfig.account.toml"
    config.write_text(ANSWERS)
    saved = Saved(config)
    assert saved.stack == "my-lens"
    assert saved.session_options == {"region_name": "eu-west-1", "profile_name": "work"}
    assert saved.parameters == {
        "PythonRuntime": "python3.12",
        "KeepModels": "2",
        "NotificationEmail": "",
    }


def test_a_file_that_is_not_there_has_no_answers(tmp_path: Path) -> None:
    saved = Saved(tmp_path / "not-there.toml")
    assert (saved.stack, saved.session_options, saved.parameters) == (None, {}, {})


def test_what_is_written_is_read_again_value_for_value(tmp_path: Path) -> None:
    parameters = {"PythonRuntime": "python3.12", "Note": 'a "b" c\\d', "SubnetIds": "a,b"}
    config = tmp_path / "config.toml"
    config.write_text(
        account.config_text("my-lens", "eu-west-1", "work", parameters, confirm=True), "utf-8"
    )
    saved = Saved(config)
    assert saved.stack == "my-lens"
    assert saved.session_options == {"region_name": "eu-west-1", "profile_name": "work"}
    assert saved.parameters == parameters
    default = tomllib.loads(config.read_text("utf-8"))["default"]
    # Built for the Python that is deployed.
    assert default["build"]["parameters"]["parameter_overrides"] == 'PythonRuntime="python3.12"'
    assert default["deploy"]["parameters"]["capabilities"] == "CAPABILITY_IAM"
    assert default["deploy"]["parameters"]["confirm_changeset"] is True


@pytest.mark.parametrize(
    "name", ["droplens", "a-b-c", "a" * 30, "a" * 31, "Droplens", "a--b", "a-", ""]
)
def test_a_stack_s_name_is_right_where_the_functions_take_it(name: str) -> None:
    taken = len(name) <= naming.MAX_STACK and bool(naming._STACK.fullmatch(name))
    assert (account._bad_stack(name) == "") == taken


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A terminal at which these lines are typed, one after the other; afterwards it is closed."""
    lines: list[str] = []

    def answer(question: str) -> str:
        sys.stdout.write(question)
        if not lines:
            raise EOFError
        return lines.pop(0)

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    return lines


def test_a_wrong_answer_is_asked_for_again_with_the_reason(
    typed: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed += [
        "My Stack",
        "lens",
        "eu-wst-1",
        "eu-west-1",
        "nobody",
        "me@example.org",
        "",
        "maybe",
        "n",
    ]
    config = tmp_path / "config.toml"
    account.main([str(config)])
    told = capsys.readouterr().out
    assert "not 'My Stack': lower-case letters" in told
    assert "is it eu-west-1" in told
    assert "not 'nobody': an address" in told
    saved = Saved(config)
    assert (saved.stack, saved.session_options) == ("lens", {"region_name": "eu-west-1"})
    assert saved.parameters == {
        "PythonRuntime": account.lambda_python(),
        "Recipe": "finetune",
        "UseSpot": "false",
        "NotificationEmail": "me@example.org",
    }
    assert "confirm_changeset = false" in config.read_text("utf-8")


@pytest.mark.usefixtures("typed")
def test_a_terminal_that_closes_leaves_no_half_answered_file(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    with pytest.raises(SystemExit, match="nothing was saved"):
        account.main([str(config)])
    assert not config.exists()


def test_answers_that_are_there_are_not_asked_for_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(ANSWERS)
    account.main([str(config)])
    assert config.read_text() == ANSWERS
    assert "has the answers already" in capsys.readouterr().out


def test_without_a_terminal_the_options_answer_and_the_message_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    config = tmp_path / "config.toml"
    with pytest.raises(
        SystemExit, match=r"no terminal to ask at: run .*--stack .*--region .*--yes"
    ):
        account.main([str(config)])
    account.main([str(config), "--region", "eu-west-1", "--recipe", "probe", "--yes"])
    saved = Saved(config)
    assert saved.stack == "droplens"
    assert saved.parameters["Recipe"] == "probe"
    with pytest.raises(SystemExit, match="--region mars-1: there is no region"):
        account.main([str(tmp_path / "other.toml"), "--region", "mars-1", "--yes"])


def test_a_profile_that_is_named_is_saved_and_one_that_is_not_there_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles = tmp_path / "aws"
    profiles.write_text("[profile work]\nregion = eu-west-3\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(profiles))
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_PROFILE", "work")
    account.main([str(tmp_path / "config.toml"), "--yes"])
    assert Saved(tmp_path / "config.toml").session_options == {
        "region_name": "eu-west-3",
        "profile_name": "work",
    }
    monkeypatch.setenv("AWS_PROFILE", "wrk")
    with pytest.raises(SystemExit, match=r"wrk.*\n.*list-profiles"):
        account.main([str(tmp_path / "other.toml"), "--yes"])


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "AWS's words"}}, "CreateEndpoint")


@pytest.mark.parametrize(
    ("error", "sentence", "step"),
    [
        (refused("ExpiredTokenException"), "have expired", "sign in again"),
        (refused("UnrecognizedClientException"), "does not know these", "get-caller-identity"),
        (refused("AccessDeniedException"), "does not allow it", "have the right"),
        (refused("ResourceLimitExceeded"), "quota", "make preflight"),
        (refused("Whatever"), "AWS refused", "make preflight"),
        (NoCredentialsError(), "no AWS credentials", "aws configure"),
        (UnauthorizedSSOTokenError(), "sign-in is over", "sign in again"),
        (ProfileNotFound(profile="wrk"), "wrk", "list-profiles"),
        (EndpointConnectionError(endpoint_url="https://x"), "cannot be reached", "region"),
    ],
)
def test_what_aws_says_is_a_sentence_with_a_next_step(
    error: BotoCoreError | ClientError, sentence: str, step: str
) -> None:
    said, hint = explained(error)
    assert sentence in said
    assert step in hint
    if isinstance(error, ClientError):
        assert "AWS's words" in said


def running(monkeypatch: pytest.MonkeyPatch, runtime: str) -> None:
    monkeypatch.setattr(account, "running_python", lambda: runtime)


def test_on_python_3_11_the_newest_that_can_build_is_deployed(
    pythons: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    running(monkeypatch, "python3.11")
    pythons("python3.12")
    pythons("python3.14", works=False)  # a pyenv shim without its version
    assert account.lambda_python() == "python3.13"
    running(monkeypatch, "python3.12")
    assert account.lambda_python() == "python3.12"


def test_where_no_python_can_build_for_lambda_that_is_said_before_anything_is_asked(
    pythons: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    typed: list[str],
) -> None:
    running(monkeypatch, "python3.11")
    pythons(*account.RUNTIMES, works=False)
    with pytest.raises(SystemExit, match=r"needs one of python3\.14.*install one, then run"):
        account.main([str(tmp_path / "config.toml")])
    assert not typed
    assert not (tmp_path / "config.toml").exists()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")
    assert account.lambda_python() == "python3.11"


def test_the_runtimes_are_the_template_s_but_for_the_local_cloud_s_alone(repo_root: Path) -> None:
    template = yaml_parse((repo_root / "template.yaml").read_text("utf-8"))
    allowed = template["Parameters"]["PythonRuntime"]["AllowedValues"]
    assert sorted(account.RUNTIMES) == sorted(set(allowed) - {"python3.11"})
