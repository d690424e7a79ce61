"""Commands that the demo runs: what it tells of them, and what is left when they are cut short."""

import os
import time
from pathlib import Path

import pytest

from demo import DemoError, machine
from demo.machine import CONSOLE_PYTHON, LocalCloud, last_line
from droplens_cli.target import Target, local_target


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalCloud:
    """A local cloud that is not up, with its files in a folder of its own."""
    monkeypatch.setenv("DROPLENS_LOCAL", str(tmp_path))
    monkeypatch.setenv("DROPLENS_PORT", "4999")
    python = tmp_path / "python"
    python.symlink_to("/bin/sh")
    monkeypatch.setattr(machine, "PYTHON", python)
    return LocalCloud()


def run_script(cloud: LocalCloud, script: str, seen: list[str]) -> None:
    cloud._run(["sh", "-c", script], cloud.deploy_log, seen.append)


def test_place_and_port_are_the_callers(cloud: LocalCloud, tmp_path: Path) -> None:
    assert cloud.folder == tmp_path / "demo"
    assert cloud.url == "http://127.0.0.1:4999"
    assert cloud.environment["AWS_ENDPOINT_URL"] == cloud.url


def test_the_console_is_of_this_very_cloud(
    cloud: LocalCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in cloud.console_environment.items():
        monkeypatch.setenv(name, value)
    assert local_target() == Target(folder=str(tmp_path), port=4999)
    assert CONSOLE_PYTHON.parts[-3:] == ("cli", "bin", "python")


def test_the_newest_line_is_told_while_a_command_runs(
    cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "POLL", 0.01)
    seen: list[str] = []
    go_on = cloud.folder / "go-on"

    def watch(line: str) -> None:
        seen.append(line)
        if line == "Building":
            go_on.touch()

    script = f"echo Building; until [ -e '{go_on}' ]; do sleep 0.01; done; echo; echo -----"
    cloud._run(["sh", "-c", script], cloud.deploy_log, watch)
    assert "Building" in seen


def test_a_failed_command_shows_the_end_of_its_log(cloud: LocalCloud) -> None:
    with pytest.raises(DemoError, match="exit code 3") as caught:
        run_script(cloud, "for n in $(seq 50); do echo line $n; done; exit 3", [])
    assert "line 50" in str(caught.value)
    assert "line 30\n" not in str(caught.value)
    assert str(cloud.deploy_log) in caught.value.hint
    assert "line 1\n" in cloud.deploy_log.read_text()


def test_an_interrupted_command_is_ended_with_its_children(
    cloud: LocalCloud, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"

    def interrupt(line: str) -> None:
        if line == "ready":
            raise KeyboardInterrupt

    script = f"sleep 300 & echo $$ $! > '{pids}'; echo ready; wait"
    with pytest.raises(KeyboardInterrupt):
        cloud._run(["sh", "-c", script], cloud.deploy_log, interrupt)
    until = time.monotonic() + 10
    while any(map(is_alive, pids.read_text().split())) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(map(is_alive, pids.read_text().split()))


def is_alive(pid: str) -> bool:
    """Whether the process runs; one that ended and waits for its parent to notice does not."""
    try:
        return Path("/proc", pid, "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_last_line_is_one_that_says_something(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("x" * 5000 + "\nDeploying  \n\n-----\n")
    assert last_line(log) == "Deploying"
    log.write_text("")
    assert last_line(log) == ""


def test_what_make_hands_down_does_not_reach_the_command(
    cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAKEFLAGS", " -- DATASET=cars")
    monkeypatch.setenv("KEPT", os.devnull)
    run_script(cloud, "echo flags=$MAKEFLAGS kept=$KEPT", [])
    assert last_line(cloud.deploy_log) == f"flags= kept={os.devnull}"


def test_a_missing_environment_is_said(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PYTHON", cloud.folder / "none")
    with pytest.raises(DemoError, match="is missing: the local cloud runs on it"):
        LocalCloud()
