"""The server listens on this machine only, and logs no token."""

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from droplens_cli.errors import CommandError
from droplens_cli.target import Target
from droplens_console.server import serve
from tests.support.deployed_stack import Deployed, deployed  # noqa: F401  a fixture
from tests.support.localcloud import listeners

# In a process of its own: a server ends by a signal.
PROGRAM = """
import pytest
from moto import mock_aws
from droplens_cli.app import main
from tests.support.deployed_stack import Deployed
with mock_aws(), pytest.MonkeyPatch.context() as patch:
    Deployed(patch)
    raise SystemExit(main(["--stack", "droplens", "console", "--no-browser"]))
"""


def test_it_prints_its_address_serves_and_ends_by_an_interrupt(repo_root: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=repo_root,
        env={
            "PYTHONPATH": f"{repo_root}:{repo_root / 'layers/droplens'}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        printed = ""
        while not (found := re.search(r"(http://127\.0\.0\.1:(\d+))(/enter\?token=\S+)", printed)):
            line = process.stdout.readline()
            assert line, printed
            printed += line
        here, port, enter = found.groups()
        with urlopen(here + enter) as answer:
            cookie = answer.headers["Set-Cookie"].partition(";")[0]
            assert "uvicorn" not in str(answer.headers).lower()
        with urlopen(Request(here, headers={"Cookie": cookie})) as answer:
            assert answer.status == 200
        stream = urlopen(Request(f"{here}/overview/live", headers={"Cookie": cookie}))
        assert stream.readline() == b"event: message\n"
        if sys.platform == "linux":
            assert list(listeners({process.pid})) == [f"0100007F:{int(port):04X}"]  # 127.0.0.1
    finally:
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0, rest
    assert "token" not in rest
    assert "Traceback" not in rest, "a stream that was open ends before the server"


def test_a_port_that_is_taken_is_an_error(deployed: Deployed) -> None:  # noqa: F811
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CommandError, match=f"127.0.0.1:{port}: Address already in use"):
            serve(Target(region="us-east-1"), port, browser=False)
