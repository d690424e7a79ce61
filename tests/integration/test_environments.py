"""Environments are made once, and anew after a change or an interruption."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tools import venvs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of all environments of these tests, which are made by the same pip."""
    return tmp_path_factory.mktemp("venv")


@pytest.fixture
def lock(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty lock for the environment "cloud", of which there is none yet, with no index."""
    lock = tmp_path / "cloud.txt"
    lock.write_text("# nothing\n")
    shutil.rmtree(folder / "cloud", ignore_errors=True)
    monkeypatch.setattr(venvs, "VENVS", folder)
    monkeypatch.setitem(venvs.LOCKS, "cloud", str(lock))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return lock


def test_an_environment_is_made_once_and_again_where_its_lock_changed(
    lock: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    venvs.make("cloud", venvs.Progress())
    python = venvs.VENVS / "cloud" / "bin" / "python"
    prefix = subprocess.check_output([python, "-c", "import sys; print(sys.prefix)"], text=True)
    assert prefix.strip() == str(venvs.VENVS / "cloud")
    pip = subprocess.run([python, "-m", "pip"], capture_output=True, text=True, check=False)
    assert "No module named pip" in pip.stderr
    assert "cloud: ready after" in capfd.readouterr().err

    venvs.make("cloud", venvs.Progress())
    assert capfd.readouterr().err == ""

    lock.write_text("# another\n")
    venvs.make("cloud", venvs.Progress())
    assert "cloud: ready after" in capfd.readouterr().err


def test_a_failed_installation_tells_pips_reason_and_is_tried_again(
    lock: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lock.write_text(f"no-such-package==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(venvs.InstallError, match="No matching distribution found"):
        venvs.make("cloud", venvs.Progress())
    with pytest.raises(venvs.InstallError):
        venvs.make("cloud", venvs.Progress())
    assert "ready" not in capfd.readouterr().err


def test_an_environment_for_another_python_is_left_out_and_said_so(
    lock: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["venvs.py", "cloud"])
    monkeypatch.setitem(venvs.ONLY_ON, "cloud", (3, 9))
    assert venvs.main() == 0
    assert "left out, it exists for Python 3.9 only" in capfd.readouterr().err
    assert not (venvs.VENVS / "cloud").exists()


def test_an_environment_that_can_be_done_without_is_left_out_where_its_package_is_nowhere(
    lock: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(venvs.LOCKS, "torch", str(lock))
    monkeypatch.setitem(venvs.ONLY_ON, "torch", sys.version_info[:2])
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setattr(sys, "argv", ["venvs.py", "torch"])
    lock.write_text(f"torch==0.0+cpu --hash=sha256:{'0' * 64}\n")
    assert venvs.main() == 0
    assert "torch: left out, pip finds PyTorch's CPU build nowhere" in capfd.readouterr().err
    assert not (venvs.VENVS / "torch" / ".complete").exists()
    assert str(venvs.absence("torch")).startswith("pip finds PyTorch's CPU build nowhere")

    lock.write_text("# nothing\n")
    assert venvs.main() == 0
    assert venvs.absence("torch") is None

    lock.write_text(f"no-such-package==1.0 --hash=sha256:{'0' * 64}\n")
    assert venvs.main() == 1


def test_a_dead_index_ends_in_one_sentence_with_the_next_step(
    lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"https://127.0.0.1:{closed.getsockname()[1]}/simple"
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", address)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    lock.write_text(f"no-such-package==1.0 --hash=sha256:{'0' * 64}\n")
    other = tmp_path / "other.txt"
    other.write_text(lock.read_text())
    monkeypatch.setitem(venvs.LOCKS, "lambda", str(other))
    monkeypatch.setattr(sys, "argv", ["venvs.py", "cloud", "lambda"])

    assert venvs.main() == 1
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 3, said  # what it begins with, twice, and the sentence
    assert said[-1].startswith("pip cannot reach the package index (")
    assert "Connection refused" in said[-1]
    assert "object at" not in said[-1]
    assert "PIP_INDEX_URL" in said[-1]
    assert said[-1].endswith("then run the same command again")
