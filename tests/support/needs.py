"""What some tests need beyond the locked packages, and whether this machine can have it.

A test that lacks a need is skipped by `skip` or `only_with`, which name the need. Where the
environment variable CI is set, a skipped test fails unless its need is one of `NEEDS` and either
this machine cannot have it or DROPLENS_WITHOUT (names with commas between) allows its absence.
The summary at the end of every run names what was not run, and why. A plugin of pytest, which
tests/conftest.py registers.
"""

import functools
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.support import container_engine, container_standin
from tests.support.repository import ROOT
from tools.chromium import find as find_chromium
from tools.venvs import ONLY_ON, absence

_PREFIX = "without "


@dataclass(frozen=True, slots=True)
class Need:
    """obstacle: why this machine cannot have it, None where it can; remedy: how it is had."""

    obstacle: Callable[[], str | None]
    remedy: str


@functools.cache
def _not_installable(*packages: str) -> str | None:
    """Why apt-get cannot install these here; None where it can."""
    if os.geteuid() != 0:
        return "apt-get needs root"
    if shutil.which("apt-get") is None:
        return "there is no apt-get here"
    done = subprocess.run(
        ["apt-get", "install", "--simulate", "--no-install-recommends", *packages],
        capture_output=True,
        text=True,
        check=False,
    )
    last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return f"apt-get cannot install {' '.join(packages)} ({last})" if done.returncode else None


def _no_chromium() -> str | None:
    return None if find_chromium() else _not_installable("chromium")


def _no_containers() -> str | None:
    if container_engine.find(ROOT / ".local" / "containers" / "storage") is None:
        if shutil.which("podman") is None:
            return _not_installable("podman", "runc", "debootstrap")
        return "neither `docker info` nor `podman info` succeeds"
    if os.geteuid() == 0 and shutil.which("debootstrap") is None:
        return _not_installable("debootstrap")
    return container_standin.why_not()


def _no_environment(name: str) -> str | None:
    """As tools/venvs.py decides: on another Python, or where pip found no package."""
    if sys.version_info[:2] != ONLY_ON.get(name, sys.version_info[:2]):
        return "it exists for Python {}.{} only".format(*ONLY_ON[name])
    return absence(name)


def _no_cars24() -> str | None:
    """A named folder must exist; these research data cannot be downloaded."""
    return None if os.environ.get("DROPLENS_CARS24") else "they may not be passed on"


NEEDS = {
    "audit": Need(lambda: None, "tools/venvs.py audit"),
    "cars24": Need(_no_cars24, "name the photographs' folder in DROPLENS_CARS24"),
    "chromium": Need(_no_chromium, ".ci/run installs it; another one's path: DROPLENS_CHROMIUM"),
    "cloud": Need(lambda: None, "make venvs-cloud"),
    "containers": Need(_no_containers, ".ci/run installs podman, runc and debootstrap"),
    "dpkg-deb": Need(
        lambda: None if shutil.which("apt-get") else "this is no Debian", "install dpkg"
    ),
    "gpu": Need(
        lambda: None if Path("/dev/nvidiactl").exists() else "this machine has no NVIDIA GPU",
        "tools/venvs.py torch, of PyTorch's build with CUDA",
    ),
    "linux": Need(lambda: None if sys.platform == "linux" else f"this is {sys.platform}", "Linux"),
    "mxnet": Need(lambda: _no_environment("mxnet"), "make venvs-test"),
    "reference": Need(lambda: None, "make .local/reference/image-classification.json"),
    "tools": Need(lambda: None, "make venvs-tools"),
    "torch": Need(lambda: _no_environment("torch"), "make venvs-test"),
}


def skip(need: str, lacking: str) -> NoReturn:
    """Skip the test that calls, for the lack of a need. lacking: what exactly is not here."""
    pytest.skip(_reason(need, lacking))


def only_with(need: str, here: bool, lacking: str) -> pytest.MarkDecorator:
    """A mark that skips its test where the need is not `here`."""
    return pytest.mark.skipif(not here, reason=_reason(need, lacking))


def environment(name: str) -> Path:
    """The interpreter of the environment .local/venv/`name`; without it the test is skipped."""
    venv = ROOT / ".local" / "venv" / name
    if not (venv / ".complete").is_file():
        skip(name, f"{venv.relative_to(ROOT)} was not made")
    return venv / "bin" / "python"


def chromium() -> str:
    """The path of Chromium or Chrome; without one the test is skipped."""
    found = find_chromium()
    if found is None:
        skip("chromium", "no Chromium or Chrome is on the PATH or named in DROPLENS_CHROMIUM")
    return found


def _reason(need: str, lacking: str) -> str:
    assert need in NEEDS, need
    return f"{_PREFIX}{need}: {lacking}"


def _strict() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def _allowed() -> set[str]:
    listed = os.environ.get("DROPLENS_WITHOUT", "").replace(",", " ").split()
    if unknown := sorted(set(listed) - set(NEEDS)):
        raise pytest.UsageError(
            f"DROPLENS_WITHOUT: nothing is called {', '.join(unknown)}; known: {', '.join(NEEDS)}"
        )
    return set(listed)


def _judge(reason: str) -> tuple[bool, str]:
    """Whether a test may be skipped for this reason, and what to say of it."""
    need = reason.removeprefix(_PREFIX).partition(":")[0]
    if not reason.startswith(_PREFIX) or need not in NEEDS:
        return False, "no need of tests/support/needs.py"
    if need in _allowed():
        return True, "allowed by DROPLENS_WITHOUT"
    if obstacle := NEEDS[need].obstacle():
        return True, f"this machine cannot have it: {obstacle}"
    remedy = NEEDS[need].remedy
    return False, f"this machine can have it: {remedy}; DROPLENS_WITHOUT={need} allows its absence"


def _reason_of(report: Any) -> str | None:
    """Why the test or file of this report was skipped; None where it was not."""
    if not report.skipped or hasattr(report, "wasxfail"):
        return None
    words: str = report.longrepr[2]
    return words.removeprefix("Skipped: ")


def _held(report: Any) -> Any:
    """The report, of a failure in place of a skipped test that must not be skipped here."""
    reason = _reason_of(report)
    if reason is not None and _strict():
        legitimate, verdict = _judge(reason)
        if not legitimate:
            report.outcome, report.longrepr = "failed", f"skipped, {reason}\n{verdict}"
    return report


def pytest_configure() -> None:
    """Refuse unknown names in DROPLENS_WITHOUT before anything runs."""
    _allowed()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Of a test."""
    return _held((yield))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    """Of a file that is skipped as a whole."""
    return _held((yield))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name what was not run, and why."""
    reasons = map(_reason_of, terminalreporter.stats.get("skipped", ()))
    counts = Counter(reason for reason in reasons if reason is not None)
    if counts:
        terminalreporter.section("not run")
        for reason, count in counts.most_common():
            tests = "test" if count == 1 else "tests"
            terminalreporter.line(f"{count} {tests} {reason} ({_judge(reason)[1]})")
