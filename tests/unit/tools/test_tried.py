"""The README's table of what was tried is what the commands recorded."""

import json
import subprocess
from pathlib import Path

import pytest

from tools import tried


def test_the_readme_says_what_is_recorded_and_no_more(repo_root: Path) -> None:
    records = json.loads((repo_root / "docs/tried.json").read_text("utf-8"))
    assert records.keys() <= tried.ROWS.keys()
    for language, name in (("en", "README.md"), ("zh", "README.zh-CN.md")):
        page = (repo_root / name).read_text("utf-8")
        assert tried.with_table(page, records, language) == page
    makefile = (repo_root / "Makefile").read_text("utf-8")
    for kind, (_, command) in tried.ROWS.items():
        target = command.split()[1]
        assert f"\n{target}:" in makefile or target == "containers"
        assert kind in ("account", "journey") or f"tools.tried {kind} " in makefile


def test_what_was_never_recorded_is_said_to_be_never() -> None:
    record = {"date": "2026-11-27", "commit": "1a2b3c4", "outcome": "3 tests passed, 0 skipped"}
    rows = tried.table({"tests": record}).splitlines()
    assert "| 2026-11-27, commit 1a2b3c4 | 3 tests passed, 0 skipped |" in rows[2]
    assert len(rows) == 2 + len(tried.ROWS)
    assert all("| **never** |  |" in row for row in rows[3:])


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with nothing in it but a README with a place for the table."""
    (tmp_path / "docs").mkdir()
    pages = {"en": tmp_path / "README.md", "zh": tmp_path / "README.zh-CN.md"}
    for page in pages.values():
        page.write_text(f"before\n{tried.BEGIN}{tried.END}after\n")
    (tmp_path / "code.py").write_text("x = 1\n")
    person = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], [*person, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(tried, "ROOT", tmp_path)
    monkeypatch.setattr(tried, "RECORDS", tmp_path / "docs/tried.json")
    monkeypatch.setattr(tried, "READMES", pages)
    return tmp_path


def test_a_record_names_the_commit_and_whether_it_was_changed(clone: Path) -> None:
    head = subprocess.check_output(["git", "rev-parse", "--short=7", "HEAD"], cwd=clone, text=True)
    tried.main(["gpu", "NVIDIA L4"])
    tried.main(["journey", "797 of 797 pictures answered"])
    for name, where in (("README.md", "| a GPU |"), ("README.zh-CN.md", "| GPU |")):
        page = (clone / name).read_text()
        assert page.startswith("before\n")
        assert page.endswith("after\n")
        assert page.count(f", commit {head.strip()} |") == 2
        assert where in page
    (clone / "code.py").write_text("x = 2\n")
    tried.main(["gpu", "NVIDIA L4"])
    assert f"commit {head.strip()} and changes | NVIDIA L4 |" in (clone / "README.md").read_text()


@pytest.mark.parametrize(
    ("counts", "outcome"),
    [
        ('tests="9" failures="0" errors="0" skipped="2"', "7 tests passed, 2 skipped"),
        ('tests="9" failures="0" errors="0" skipped="9"', None),
        ('tests="9" failures="1" errors="0" skipped="2"', None),
        ('tests="0" failures="0" errors="0" skipped="0"', None),
    ],
)
def test_only_what_passed_is_recorded(clone: Path, counts: str, outcome: str | None) -> None:
    junit = clone / "tests.xml"
    junit.write_text(f'<testsuites><testsuite name="pytest" {counts}></testsuite></testsuites>')
    if outcome is None:
        with pytest.raises(SystemExit, match="not recorded"):
            tried.main(["containers", "--junit", str(junit)])
        assert not tried.RECORDS.exists()
    else:
        tried.main(["containers", "--junit", str(junit)])
        assert json.loads(tried.RECORDS.read_text())["containers"]["outcome"] == outcome
