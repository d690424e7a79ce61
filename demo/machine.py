"""The local cloud for the demo: start it with the template deployed, stop it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NoReturn

import boto3
from botocore.config import Config

from demo import ROOT, DemoError
from demo.journey import THREADS, Clients, Journey, Patience, connect
from demo.screen import Screen
from localcloud.settings import Settings, client_environment

LOOK_INSIDE = "make up && make logs shows what functions, jobs and endpoints said"
SHUT_DOWN = "Shut down"
STACK = "droplens"  # as samconfig.toml's environment "local" calls it
PYTHON = ROOT / ".local" / "venv" / "cloud" / "bin" / "python"
LOCALCLOUD = (str(PYTHON), "-m", "localcloud")
# The environment of the command, which the deployment makes.
CONSOLE_PYTHON = ROOT / ".local" / "venv" / "cli" / "bin" / "python"
CONSOLE = ("-m", "droplens_cli", "--local", "console")
# Serverless endpoints, and the concurrency that they have together.
MORE_ENDPOINTS = ("--set", "L-99AD19BF=50", "--set", "L-96300102=200")
POLL = 0.2  # seconds between looks at a running command
LAST_LINES = 12  # of a failed command's log that its reader is shown


class LocalCloud:
    """The local cloud of this working copy. folder: for the demo's own files.

    It is left as before, up or down; with keep, it stays up.
    """

    title = "Local cloud"
    says = "all on this machine"
    removes = False

    def __init__(self, *, keep: bool = False) -> None:
        self.settings = Settings.from_environment()
        if not PYTHON.is_file():
            raise DemoError(
                f"{PYTHON} is missing: the local cloud runs on it", "make demo makes it first"
            )
        self.folder = self.settings.cloud.parent / "demo"
        self.environment = client_environment(self.settings)
        self.url = self.settings.url
        self.deploy_log = self.folder / "deploy.log"
        self.down_log = self.folder / "down.log"
        self.stays_up = keep or self.is_up()

    def is_up(self) -> bool:
        """Whether it was started and responds."""
        answer = subprocess.run(
            [*LOCALCLOUD, "status"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        return answer.returncode == 0

    def deploy(self, watch: Callable[[str], None]) -> None:
        """`make deploy-local`: start the cloud, build the images, sam build, sam deploy.

        watch: gets the newest line of output a few times a second. Raises DemoError with the end
        of the log if the command fails.
        """
        # A new account's quotas allow one classifier; several need larger quotas.
        self._run([*LOCALCLOUD, "quotas", *MORE_ENDPOINTS], self.deploy_log)
        self._run(["make", "--no-print-directory", "deploy-local"], self.deploy_log, watch)

    @property
    def deployed(self) -> str:
        """Where the stack is, in words."""
        return f"{self.url}, with the stack {STACK!r} deployed by sam"

    @property
    def last_titles(self) -> list[str]:
        """The titles of the steps after the predictions."""
        return [] if self.stays_up else [SHUT_DOWN]

    def connect(self, classifier: str) -> Journey:
        """The classifier's journey. The endpoint is the local cloud's and nothing else, so that no
        real account can be meant by mistake."""
        session = boto3.Session(
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
            region_name=self.environment["AWS_DEFAULT_REGION"],
        )
        config = Config(
            s3={"addressing_style": "path"},
            max_pool_connections=THREADS,
            retries={"mode": "standard", "total_max_attempts": 5},
        )
        clients = Clients(session, config, endpoint_url=self.url)
        return connect(classifier, STACK, clients, Patience(), LOOK_INSIDE)

    def examine(self, screen: Screen, journey: Journey, folder: str, run_id: str) -> None:
        """Nothing: on one machine there is no more to check."""

    def close(self, screen: Screen) -> None:
        """Stop it, unless it is to stay up."""
        if self.stays_up:
            return
        impatience = signal.signal(signal.SIGINT, signal.SIG_IGN)
        with screen.step(SHUT_DOWN, "ending everything that the local cloud started"):
            self.down()
            screen.update(SHUT_DOWN, "nothing is left running; make up brings all of it back")
        signal.signal(signal.SIGINT, impatience)

    def become_console(self) -> NoReturn:
        """Replace this process by the stack's console, which an interrupt ends."""
        sys.stdout.flush()
        os.execve(  # noqa: S606  no shell
            CONSOLE_PYTHON, [str(CONSOLE_PYTHON), *CONSOLE], os.environ | self.console_environment
        )

    @property
    def console_environment(self) -> dict[str, str]:
        """The variables by which the command finds its code and this cloud."""
        return {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'layers' / 'droplens'}",
            "DROPLENS_LOCAL": str(self.settings.cloud.parent),
            "DROPLENS_PORT": str(self.settings.port),
        }

    def down(self) -> None:
        """Stop everything that the cloud started; its state stays on disk."""
        self._run([*LOCALCLOUD, "down"], self.down_log)

    def _run(
        self, command: list[str], log: Path, watch: Callable[[str], None] | None = None
    ) -> None:
        run_command(command, log, watch)


def run_command(
    command: list[str],
    log: Path,
    watch: Callable[[str], None] | None = None,
    *,
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run it, its output in `log`; `watch` gets the newest line a few times a second.

    environment: variables in addition to those of this process. Raises DemoError with the end of
    the log if the command fails. An interruption ends the command and its children.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output, _started(command, output, cwd, environment or {}) as process:
        while process.poll() is None:
            time.sleep(POLL)
            if watch:
                watch(last_line(log))
    if process.returncode != 0:
        tail = log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        raise DemoError(
            f"`{' '.join(command)}` ended with exit code {process.returncode}; "
            "the end of its output:\n  " + "\n  ".join(tail),
            f"everything it said is in {log}",
        )


def last_line(log: Path) -> str:
    """The newest line of a log that is not empty, or "". Reads its last 4 KiB only."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if any(map(str.isalnum, line))), "")


@contextmanager
def _started(
    command: list[str], output: IO[bytes], cwd: Path, variables: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a session of its own, so that Ctrl-C reaches it through us, and only once."""
    # The calling make's variables (its job server, DATASET=...) are not meant for this one.
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")
    } | dict(variables)
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
