"""Figures are kept with their origin, and a spread is what its name says."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks import harness

IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@example.org")


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *IDENTITY, *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One commit with a source and a results file."""
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    (results / "packing.json").write_text("{}")
    (tmp_path / "source.py").write_text("1\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "All")
    return tmp_path


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results folder that is not the repository's, and is not there yet."""
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def test_the_commit_is_that_of_the_sources(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    (repository / "benchmarks" / "results" / "packing.json").write_text('{"faster": true}')
    (repository / "notes").write_text("not a file of the repository")
    assert harness.commit(repository) == head
    (repository / "source.py").write_text("2\n")
    assert harness.commit(repository) == f"{head}-dirty"


def test_without_a_repository_the_commit_is_what_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("DROPLENS_COMMIT", raising=False)
    assert harness.commit(tmp_path) == "unknown"
    monkeypatch.setenv("DROPLENS_COMMIT", "abc123")
    assert harness.commit(tmp_path) == "abc123"


def test_figures_are_kept_with_their_origin(results: Path) -> None:
    begun = datetime.now(UTC).replace(microsecond=0)
    harness.keep("packing", harness.provenance(cores=2) | {"speed": 4.0})
    stored = harness.stored("packing")
    assert stored == json.loads((results / "packing.json").read_text("utf-8"))
    assert datetime.fromisoformat(stored["measured_at"]) >= begun
    assert stored["speed"] == 4.0
    assert stored["machine"]["cores"] == 2
    assert stored["machine"]["memory_gb"] > 0
    assert stored["commit"]


def test_figures_without_an_origin_are_refused(results: Path) -> None:
    with pytest.raises(ValueError, match="packing: figures without command, commit"):
        harness.keep("packing", {"speed": 4.0, "measured_at": "", "machine": {}})
    assert harness.stored("packing") == {}


def test_the_command_is_what_a_person_types(tmp_path: Path) -> None:
    package = tmp_path / "benchmarks_here"
    package.mkdir()
    (package / "__main__.py").write_text(
        "from benchmarks.harness import command\nprint(command())\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks_here", "--folder", "two words"],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{harness.ROOT}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "python -m benchmarks_here --folder 'two words'\n"


def test_a_spread_is_what_its_name_says() -> None:
    # Rank p(n + 1), as R's quantile(type = 6): 1.5 and 4.5 of 1 to 5.
    assert harness.quartiles([5, 1, 2, 3, 4]) == {"median": 3, "low": 1.5, "high": 4.5}
    assert harness.extremes([3, 1, 2.006]) == {"median": 2.01, "min": 1, "max": 3}
    # The sample's: the squares of the distances, 1, 0 and 1, over n - 1.
    assert harness.mean_and_deviation([1, 2, 3]) == {"mean": 2, "sd": 1, "least": 1, "most": 3}
    assert harness.mean_and_deviation([7]) == {"mean": 7, "sd": 0, "least": 7, "most": 7}
