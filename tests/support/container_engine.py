"""Docker or Podman, whichever is available: builds an image and runs it as AWS does."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

PULL_SECONDS = 120
BUILD_SECONDS = 500
RUN_SECONDS = 240
# What no process in a container of ours has need of. Of the ulimits Podman would set the highest
# there are, which a container's own root may not.
CONFINED = (
    "--network=none", "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges",
)  # fmt: skip
ULIMITS = ("--ulimit=nofile=1024:4096", "--ulimit=nproc=4096:4096")
# Settings of pip's that tell where packages come from and how they are reached.
_PIP_SETTINGS = ("index-url", "extra-index-url", "proxy", "trusted-host", "timeout")


class EngineError(Exception):
    """The engine refused; the message ends with its last lines."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A container engine's command line.

    command: how it is called; environment: with what; folder: where, since Podman leaves a file
    "oom" there when a container runs out of memory.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    folder: Path

    def call(
        self, *arguments: str, seconds: float = RUN_SECONDS, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run one command to its end. Raises EngineError where it fails and `check` is set."""
        done = subprocess.run(
            [*self.command, *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
        if check and done.returncode:
            words = f"{self.name} {' '.join(arguments)}: exit code {done.returncode}"
            raise EngineError(f"{words}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done

    def pull(self, image: str) -> bool:
        """Whether the image is here, or could be had."""
        if self.call("image", "inspect", image, check=False).returncode == 0:
            return True
        try:
            return self.call("pull", "-q", image, check=False, seconds=PULL_SECONDS).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def build(self, context: Path, dockerfile: Path, tag: str, work: Path) -> None:
        """Build without a cache. work: a folder for what is lent to the build, and not kept."""
        lent: list[str] = []
        if self.name == "podman":
            # The machine's way to PyPI is mounted while the image is built: none of it stays.
            lent = ["--isolation=chroot", "--network=host", "--format=docker", *_lend_pip(work)]
        elif index := os.environ.get("PIP_INDEX_URL"):
            lent = [f"--build-arg=PIP_INDEX_URL={index}"]
        self.call(
            "build", "--no-cache", *lent, "-t", tag, "-f", str(dockerfile), str(context),
            seconds=BUILD_SECONDS,
        )  # fmt: skip

    def run(self, image: str, arguments: Sequence[str], *options: str) -> "Ended":
        """Run a container to its end, and remove it."""
        done = self.call("run", "--rm", *ULIMITS, *options, image, *arguments, check=False)
        return Ended(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True, slots=True)
class Ended:
    """A container that has ended."""

    exit_code: int
    stdout: str
    stderr: str


def find(storage: Path) -> Engine | None:
    """The engine that works here; None where there is none.

    storage: a folder where Podman keeps images and containers apart from the machine's own.
    """
    storage.mkdir(parents=True, exist_ok=True)
    if _answers(["docker", "info"], dict(os.environ)):
        return Engine("docker", ("docker",), dict(os.environ), storage)
    if shutil.which("podman") is None:
        return None
    settings = storage / "storage.conf"
    lines = ("[storage]", 'driver = "overlay"', f'graphroot = "{storage}/images"',
             f'runroot = "{storage}/run"', "")  # fmt: skip
    settings.write_text("\n".join(lines), "utf-8")
    environment = os.environ | {"CONTAINERS_STORAGE_CONF": str(settings)}
    command = ["podman"]
    if not Path("/run/systemd/system").exists():
        command.append("--cgroup-manager=cgroupfs")
    if shutil.which("runc"):  # crun refuses to start on some layouts of control groups
        command.append("--runtime=runc")
    if not _answers([*command, "info"], environment):
        return None
    return Engine("podman", tuple(command), environment, storage)


def _answers(command: list[str], environment: dict[str, str]) -> bool:
    if shutil.which(command[0]) is None:
        return False
    done = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=60)
    return done.returncode == 0


def _lend_pip(work: Path) -> list[str]:
    """Mounts by which pip in a build goes the same way as pip on this machine."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    # The environment's own come first in the list, and are pip's last word.
    found: dict[str, str] = {}
    for key, value in re.findall(r"^[^.]*\.([a-z-]+)=('.*'|\".*\")$", listed, re.MULTILINE):
        found.setdefault(key.removeprefix("default-"), ast.literal_eval(value))
    wanted = {name: found[name] for name in _PIP_SETTINGS if name in found}
    for name in ("index-url", "extra-index-url"):
        if name in wanted:
            reached = [url for url in wanted[name].split() if urlsplit(url).scheme != "file"]
            wanted[name] = " ".join(reached)
    mounts = []
    if certificates := found.get("cert") or os.environ.get("SSL_CERT_FILE"):
        wanted["cert"] = "/run/lent-certificates.pem"
        mounts.append(f"--volume={Path(certificates).resolve()}:{wanted['cert']}:ro")
    lines = ["[global]", *(f"{name} = {value}" for name, value in wanted.items() if value), ""]
    work.mkdir(parents=True, exist_ok=True)
    (work / "pip.conf").write_text("\n".join(lines), "utf-8")
    return [*mounts, f"--volume={work / 'pip.conf'}:/etc/pip.conf:ro"]


@dataclass(frozen=True, slots=True)
class Containers:
    """An engine, and the name of every image in it."""

    engine: Engine
    names: dict[str, str]
