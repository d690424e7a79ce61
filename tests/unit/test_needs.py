"""Under CI a skipped test fails, unless this machine cannot have what it needs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = """
from tests.support import needs

def pytest_configure(config):
    for name, obstacle in (("linux", None), ("mxnet", "no such wheel")):
        needs.NEEDS[name] = needs.Need(lambda obstacle=obstacle: obstacle, "install it")
    config.pluginmanager.register(needs)
"""
CANNOT = "def test_cannot():\n    needs.skip('mxnet', 'it is not here')\n"
CAN = "@needs.only_with('linux', False, 'it is not here')\ndef test_can(): ...\n"
PASSES = "def test_passes(): ...\n"
OWN_WORDS = "def test_own_words():\n    pytest.skip('not today')\n"
FILE = "pytest.skip('not this file', allow_module_level=True)\n"
KNOWN_FAULT = "@pytest.mark.xfail\ndef test_fault():\n    assert False\n"


def run(
    folder: Path, repo_root: Path, *tests: str, processes: int = 0, **variables: str
) -> tuple[int, str]:
    """Exit code and output of pytest for these tests in one file; 0 processes: its own only."""
    (folder / "conftest.py").write_text(CONFTEST)
    file = folder / "test_some.py"
    file.write_text("import pytest\nfrom tests.support import needs\n" + "".join(tests))
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "xdist", "-n", str(processes)),
            *("-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(folder), str(file)),
        ],
        cwd=repo_root,
        env=kept | {"PYTHONPATH": f"{repo_root}:{repo_root / 'layers/droplens'}"} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_what_this_machine_cannot_have_is_skipped_and_named(
    tmp_path: Path, repo_root: Path
) -> None:
    code, output = run(tmp_path, repo_root, CANNOT, PASSES, KNOWN_FAULT, CI="true")
    assert code == 0, output
    assert "1 passed, 1 skipped, 1 xfailed" in output
    wanted = "1 test without mxnet: it is not here (this machine cannot have it: no such wheel)"
    assert wanted in output


def test_what_this_machine_can_have_fails_under_ci(tmp_path: Path, repo_root: Path) -> None:
    code, output = run(tmp_path, repo_root, CAN, CANNOT, PASSES, processes=2, CI="true")
    assert code == 1
    assert "1 passed, 1 skipped, 1 error" in output
    assert "without linux: it is not here" in output
    assert "this machine can have it: install it; DROPLENS_WITHOUT=linux" in output


@pytest.mark.parametrize("file", [OWN_WORDS, FILE])
def test_a_reason_that_names_no_need_fails_under_ci(
    tmp_path: Path, repo_root: Path, file: str
) -> None:
    code, output = run(tmp_path, repo_root, file, CI="true", DROPLENS_WITHOUT="linux,mxnet")
    assert code in (1, 2)
    assert "no need of tests/support/needs.py" in output


def test_an_absence_can_be_allowed(tmp_path: Path, repo_root: Path) -> None:
    code, output = run(
        tmp_path, repo_root, CAN, PASSES, CI="true", DROPLENS_WITHOUT="linux,chromium"
    )
    assert code == 0, output
    assert "1 test without linux: it is not here (allowed by DROPLENS_WITHOUT)" in output


def test_an_unknown_name_is_refused(tmp_path: Path, repo_root: Path) -> None:
    code, output = run(tmp_path, repo_root, PASSES, DROPLENS_WITHOUT="chrome")
    assert code == 4
    assert "nothing is called chrome" in output


def test_at_a_developer_s_machine_it_is_only_named(tmp_path: Path, repo_root: Path) -> None:
    code, output = run(tmp_path, repo_root, CAN, CANNOT, OWN_WORDS, PASSES)
    assert code == 0, output
    assert "1 passed, 3 skipped" in output
    assert "1 test without linux: it is not here (this machine can have it: install it" in output
    assert "1 test not today (no need of tests/support/needs.py)" in output
