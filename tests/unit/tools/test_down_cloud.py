"""What the commands say where the local cloud is down, or has no stack."""

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tools.aws_errors import explained

COMMANDS = (
    ("tools.rollback", "cars"),
    ("tools.resume", "cars"),
    ("tools.redrive",),
    ("tools.destroy", "--yes"),
    ("tools.outputs",),
    ("tools.status",),
)


def test_every_command_says_that_the_local_cloud_is_down_and_how_to_start_it(
    repo_root: Path,
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"

    def said(command: tuple[str, ...]) -> "subprocess.CompletedProcess[str]":
        environment = os.environ | {
            "AWS_ENDPOINT_URL": url,
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
        assert f"nothing answers at {url}" in done.stderr
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
