"""Make virtual environments below .local/venv from hashed locks: tools/venvs.py NAME [NAME ...]

An environment is stamped with its lock, its interpreter and its place once pip has finished, so
making it again costs nothing, and one that was interrupted, moved or outdated is made anew.
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
# MXNet's last release works only with a NumPy whose last wheels are for this Python.
# The lock of PyTorch's CPU build knows the hash of the wheel for this Python.
ONLY_ON = {"im2rec": (3, 11), "mxnet": (3, 11), "torch": (3, 11)}
# PyPI offers PyTorch for Linux with CUDA's libraries only, gigabytes that no test needs; its CPU
# build comes from elsewhere, where pip was told of it.
OPTIONAL = {
    "torch": (
        "No matching distribution found for torch",
        "pip finds PyTorch's CPU build nowhere: tell it by PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL",
    )
}
# pip warns once per package about a local index that lacks it: nothing a reader can act on.
NOISE = re.compile(r"^(WARNING: Location .* is ignored|Looking in |\[notice\])")
# Once more after a failure, and once again: where no index answers, pip would go on for minutes.
RETRIES = "2"
_AGAIN = "then run the same command again"
# What pip says where an installation fails for the surroundings' sake, and what to do about it; the
# first that is found counts. {0} is what the pattern's group has.
SURROUNDINGS = (
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
    """An environment could not be made; the message ends with pip's last lines."""

    @property
    def sentence(self) -> str | None:
        """What of the surroundings was the cause, and the next step; None where that is unclear."""
        version = "{}.{}".format(*sys.version_info[:2])
        for pattern, meaning in SURROUNDINGS:
            if found := re.search(pattern, str(self)):
                reason = re.sub(r"<[^>]*>[:,]? ?|^\w+\(|['\")]+$", "", found[1].strip())
                return meaning.format(reason.lstrip("'\""), version)
        return None


class Progress:
    """Lasting lines, and below them, on a terminal, one line of counts redrawn in place."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._lock = threading.Lock()
        self._state: dict[str, str] = {}

    def line(self, name: str, text: str) -> None:
        """Print a lasting line about the environment and take it off the redrawn one."""
        with self._lock:
            self._state.pop(name, None)
            print(f"{self._clear}{name:>7}: {text}", file=sys.stderr, flush=True)
            self._draw()

    def update(self, name: str, text: str) -> None:
        """Replace what the redrawn line says of the environment."""
        with self._lock:
            self._state[name] = text
            self._draw()

    @property
    def _clear(self) -> str:
        return "\r\033[K" if self._terminal else ""

    def _draw(self) -> None:
        if self._terminal and self._state:
            shown = "   ".join(f"{name} {text}" for name, text in self._state.items())
            print(f"{self._clear}        {shown[:90]}", end="", file=sys.stderr, flush=True)


def make(name: str, progress: Progress) -> None:
    """Make the environment of that name, or leave it alone where it is complete and current."""
    lock, venv = ROOT / LOCKS[name], VENVS / name
    if not lock.is_file():
        raise InstallError(f"{name}: its lock {LOCKS[name]} does not exist")
    wanted = "\n".join([hashlib.sha256(lock.read_bytes()).hexdigest(), sys.version, str(venv)])
    stamp = venv / ".complete"
    VENVS.mkdir(parents=True, exist_ok=True)
    with (VENVS / f"{name}.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # two makes at once: the second finds the work done
        if stamp.is_file() and stamp.read_text() == wanted:
            return
        started = time.monotonic()
        total = len(re.findall(r"^[A-Za-z0-9].*==", lock.read_text(), re.MULTILINE))
        progress.line(name, f"installing at most {total} packages from {LOCKS[name]}")
        stamp.unlink(missing_ok=True)
        _absence(name).unlink(missing_ok=True)
        _run(name, [sys.executable, "-m", "venv", "--clear", str(venv)], progress, total)
        pip = [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
        # The lock is complete, so pip need not resolve it again (nor trip over extras in it).
        install = ["install", "--no-input", "--progress-bar", "off", "--no-compile", "--no-deps"]
        _run(name, [*pip, *install, "--require-hashes", "-r", str(lock)], progress, total)
        stamp.write_text(wanted)
        progress.line(name, f"ready after {time.monotonic() - started:.0f} s")


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
            if NOISE.match(line):
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
    """Why an environment that can be done without was left out when it was last made, if it was."""
    note = _absence(name)
    return note.read_text("utf-8").strip() if note.is_file() else None


def _dispensable(error: InstallError) -> tuple[str, str] | None:
    """The name of an environment that can be done without, and why it was left out."""
    for name, (symptom, reason) in OPTIONAL.items():
        if symptom in str(error):
            _absence(name).write_text(f"{reason}\n", "utf-8")
            return name, f"left out, {reason}; what needs it skips"
    return None


def main() -> int:
    """Make the named environments side by side; 1 where one of them failed."""
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
                if why := _dispensable(error):
                    progress.line(*why)
                    continue
                errors.append(error)
    sentences = [error.sentence or f"\n{error}" for error in errors]
    for sentence in dict.fromkeys(sentences):  # four environments meet one dead index
        print(sentence, file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    raise SystemExit(main())
