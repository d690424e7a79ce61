"""What the commands say where the local cloud is down, or has no stack."""

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from droplens_cli.aws_errors import explained

COMMANDS = (
    ("droplens_cli", "--local", "rollback", "cars"),
    ("droplens_cli", "--local", "resume", "cars"),
    ("droplens_cli", "--local", "redrive"),
    ("droplens_cli", "--local", "destroy", "--yes"),
    ("droplens_cli", "--local", "status"),
    ("droplens_cli", "--local", "results", "cars"),
    ("tools.outputs",),
)


def test_every_command_says_that_the_local_cloud_is_down_and_how_to_start_it(
    repo_root: Path, tmp_path: Path
) -> None:
    key = tmp_path / "cloud" / "state" / "operator.json"
    key.parent.mkdir(parents=True)
    key.write_text('{"key": "AKIATEST", "secret": "secret"}')
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]

    def said(command: tuple[str, ...]) -> "subprocess.CompletedProcess[str]":
        environment = os.environ | {
            "DROPLENS_LOCAL": str(tmp_path),
            "DROPLENS_PORT": str(port),
            "PYTHONPATH": f"{repo_root}:{repo_root / 'layers/droplens'}",
        }
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=repo_root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    with ThreadPoolExecutor() as together:
        ended = list(together.map(said, COMMANDS))
    for command, done in zip(COMMANDS, ended, strict=True):
        assert done.returncode == 1, (command, done)
        assert "the local cloud is down: `make up` starts it\n" in done.stderr
        assert f"nothing answers at http://127.0.0.1:{port}" in done.stderr
        assert "Traceback" not in done.stderr, (command, done.stderr)


def test_a_stack_that_is_not_there_is_named_with_what_deploys_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = {"Error": {"Code": "ValidationError", "Message": "Stack lens does not exist"}}
    error = ClientError(answer, "DescribeStacks")  # type: ignore[arg-type]
    assert "saved answers; `make deploy`" in explained(error)[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")
    assert "Stack lens does not exist" in explained(error)[0]
    assert "`make deploy-local`" in explained(error)[1]
