"""Creates virtual environments below .local/venv from hashed locks: tools/venvs.py NAME [NAME ...]

After pip has finished, an environment is stamped with its lock, its interpreter and its path. One
with a current stamp is kept; one that was interrupted, moved or outdated is created again.
Runs on the standard library alone, since nothing is installed when it starts.
"""

import argparse
import fcntl
import hashlib
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENVS = ROOT / ".local" / "venv"
LOCKS = {
    "audit": "requirements/audit.txt",
    "checkov": "requirements/checkov.txt",
    "cleanlab": "benchmarks/trust/requirements-cleanlab.txt",
    "cli": "droplens_cli/requirements.txt",
    "cloud": "localcloud/requirements.txt",
    "demo": "demo/requirements-pictures.txt",
    "dev": "requirements/dev.txt",
    "hooks": "requirements/hooks.txt",
    "im2rec": "benchmarks/packing/requirements-im2rec.txt",
    "lambda": "localcloud/requirements-lambda.txt",
    "lock": "requirements/lock.txt",
    "mxnet": "tests/requirements-mxnet.txt",
    "tools": "requirements/tools.txt",
    "torch": "tests/requirements-torch.txt",
}
# Those in which `python -m pip` is run, as sam build does. One pip installs into all others: to put
# pip into an environment takes 5 s of a core.
WITH_PIP = ("cli", "dev", "tools")
# MXNet's last release works only with a NumPy whose last wheels are for this Python.
# The lock of PyTorch's CPU build has the hash of the wheel for this Python only.
ONLY_ON = {"im2rec": (3, 11), "mxnet": (3, 11), "torch": (3, 11)}
# PyPI offers PyTorch for Linux with CUDA's libraries only, gigabytes that no test needs; its CPU
# build is found only where pip's options name another index.
OPTIONAL = {
    "torch": (
        "No matching distribution found for torch",
        "pip finds PyTorch's CPU build nowhere: tell it by PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL",
    )
}
_VENV = [sys.executable, "-m", "venv", "--clear"]
# pip warns for each package about a local index that lacks it: nothing to act on.
IGNORED_LINES = re.compile(r"^(WARNING: Location .* is ignored|Looking in |\[notice\])")
# pip's own number of retries takes minutes where no index responds.
RETRIES = "2"
_AGAIN = "then run the same command again"
# Patterns in pip's output where the environment is the cause of a failure, and what to do about it;
# the first match counts. {0} is the pattern's group, {1} the version of Python.
ENVIRONMENT_ERRORS = (
    (
        r"after connection broken by '(.+)': /",
        "pip cannot reach the package index ({0}). Look at the network and its proxy, and at the "
        "index that pip takes (PIP_INDEX_URL, `pip config list`), " + _AGAIN,
    ),
    (
        r"located at (\S+) is not a trusted or secure host",
        "pip does not take packages from {0} without https. Name the index by an https address "
        "(PIP_INDEX_URL), or allow it by PIP_TRUSTED_HOST, " + _AGAIN,
    ),
    (
        r"(?:HTTP error |\b)(40[1347]|5\d\d)(?: while| Client| Server)",
        "the package index refuses pip ({0}). Look at the index that pip takes and its "
        "credentials (PIP_INDEX_URL, `pip config list`), " + _AGAIN,
    ),
    (
        r"(?:ReadTimeoutError|TimeoutError|IncompleteRead)\b([^\n]*)",
        "the package index stopped answering pip{0}. Wait, or name a nearer index by "
        "PIP_INDEX_URL, " + _AGAIN,
    ),
    (
        r"(DO NOT MATCH THE HASHES)",
        "the package index sent other files than the locks name ({0}). If it is a mirror, take "
        "another one by PIP_INDEX_URL, " + _AGAIN,
    ),
    (r"(No space left on device)", "the disk is full ({0}). Make room below .local, " + _AGAIN),
    (
        r"No matching distribution found for (\S+)",
        "the package index has no {0} for this Python and machine. Take another index by "
        "PIP_INDEX_URL, or another Python by PYTHON=..., " + _AGAIN,
    ),
    (
        r"(ensurepip is not)\s+available",
        "this Python cannot make virtual environments ({0} available). On Debian and Ubuntu: "
        "apt-get install python{1}-venv, " + _AGAIN,
    ),
)


class InstallError(Exception):
    """An environment could not be created; the message ends with pip's last lines."""

    @property
    def explanation(self) -> str | None:
        """The cause outside this program and what to do about it; None where it is unknown."""
        version = "{}.{}".format(*sys.version_info[:2])
        for pattern, meaning in ENVIRONMENT_ERRORS:
            if found := re.search(pattern, str(self)):
                reason = re.sub(r"<[^>]*>[:,]? ?|^\w+\(|['\")]+$", "", found[1].strip())
                return meaning.format(reason.lstrip("'\""), version)
        return None


class Progress:
    """Progress output: permanent lines and, on a terminal, one line of counts redrawn in place."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._lock = threading.Lock()
        self._state: dict[str, str] = {}

    def line(self, name: str, text: str) -> None:
        """Print a permanent line about the environment and remove it from the redrawn one."""
        with self._lock:
            self._state.pop(name, None)
            print(f"{self._clear}{name:>7}: {text}", file=sys.stderr, flush=True)
            self._draw()

    def update(self, name: str, text: str) -> None:
        """Replace the environment's state in the redrawn line."""
        with self._lock:
            self._state[name] = text
            self._draw()

    @property
    def _clear(self) -> str:
        return "\r\033[K" if self._terminal else ""

    def _draw(self) -> None:
        if self._terminal and self._state:
            states = "   ".join(f"{name} {text}" for name, text in self._state.items())
            print(f"{self._clear}        {states[:90]}", end="", file=sys.stderr, flush=True)


def make(name: str, progress: Progress) -> None:
    """Create the environment of that name, unless it is complete and current."""
    lock, venv = ROOT / LOCKS[name], VENVS / name
    if not lock.is_file():
        raise InstallError(f"{name}: its lock {LOCKS[name]} does not exist")
    wanted = "\n".join([hashlib.sha256(lock.read_bytes()).hexdigest(), sys.version, str(venv)])
    stamp = venv / ".complete"
    VENVS.mkdir(parents=True, exist_ok=True)
    with (VENVS / f"{name}.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # of two processes at once, the second finds it complete
        if stamp.is_file() and stamp.read_text() == wanted:
            return
        started = time.monotonic()
        total = len(re.findall(r"^[A-Za-z0-9].*==", lock.read_text(), re.MULTILINE))
        progress.line(name, f"installing at most {total} packages from {LOCKS[name]}")
        stamp.unlink(missing_ok=True)
        _absence(name).unlink(missing_ok=True)
        python = venv / "bin" / "python"
        if name in WITH_PIP:
            _run(name, [*_VENV, str(venv)], progress, total)
            pip = [str(python), "-m", "pip"]
        else:
            _run(name, [*_VENV, "--without-pip", str(venv)], progress, total)
            pip = [str(_pip(name, progress)), "-m", "pip", "--python", str(python)]
        # The lock is complete: pip need not resolve it (and would fail at extras in it).
        install = ["install", "--no-input", "--progress-bar", "off", "--no-compile", "--no-deps"]
        options = ["--disable-pip-version-check", *install, "--require-hashes"]
        _run(name, [*pip, *options, "-r", str(lock)], progress, total)
        stamp.write_text(wanted)
        progress.line(name, f"ready after {time.monotonic() - started:.0f} s")


def _pip(name: str, progress: Progress) -> Path:
    """The interpreter whose pip installs into the environments that have none."""
    venv = VENVS / "pip"
    stamp, wanted = venv / ".complete", f"{sys.version}\n{venv}"
    with (VENVS / "pip.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not stamp.is_file() or stamp.read_text() != wanted:
            _run(name, [*_VENV, str(venv)], progress, 0)
            stamp.write_text(wanted)
    return venv / "bin" / "python"


def _run(name: str, command: list[str], progress: Progress, total: int) -> None:
    """Run one step, counting the packages that pip collects; raise with its last lines."""
    tail: list[str] = []
    collected = 0
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={"PIP_RETRIES": RETRIES, **os.environ},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if IGNORED_LINES.match(line):
                continue
            tail = [*tail[-19:], line.rstrip()]
            if line.startswith(("Collecting ", "Processing ")):
                collected += 1
                progress.update(name, f"{collected}/{total}")
            elif line.startswith("Installing collected packages"):
                progress.update(name, "unpacking")
    if process.returncode:
        raise InstallError("\n    ".join([f"{name}: {' '.join(command)} failed:", *tail]))


def _absence(name: str) -> Path:
    return VENVS / f"{name}.absent"


def absence(name: str) -> str | None:
    """Why an optional environment was left out the last time; None where it was not."""
    note = _absence(name)
    return note.read_text("utf-8").strip() if note.is_file() else None


def _optional_failure(error: InstallError) -> tuple[str, str] | None:
    """Name and reason where the environment is optional: it is recorded as left out."""
    for name, (symptom, reason) in OPTIONAL.items():
        if symptom in str(error):
            _absence(name).write_text(f"{reason}\n", "utf-8")
            return name, f"left out, {reason}; what needs it skips"
    return None


def main() -> int:
    """Create the named environments in parallel; returns 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=sorted(LOCKS), metavar="NAME")
    progress = Progress()
    wanted = []
    for name in parser.parse_args().names:
        if sys.version_info[:2] == ONLY_ON.get(name, sys.version_info[:2]):
            wanted.append(name)
        else:
            only = ".".join(map(str, ONLY_ON[name]))
            progress.line(name, f"left out, it exists for Python {only} only; what needs it skips")
    errors: list[InstallError] = []
    with ThreadPoolExecutor(max_workers=max(len(wanted), 1)) as pool:
        for future in [pool.submit(make, name, progress) for name in wanted]:
            try:
                future.result()
            except InstallError as error:
                if why := _optional_failure(error):
                    progress.line(*why)
                    continue
                errors.append(error)
    explanations = [error.explanation or f"\n{error}" for error in errors]
    for explanation in dict.fromkeys(explanations):  # several environments fail for one reason
        print(explanation, file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    raise SystemExit(main())
