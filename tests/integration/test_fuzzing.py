"""Seconds of mutants in the gate: the same ones everywhere, as many as the time allows."""

import os
import subprocess
import sys
from pathlib import Path

MINUTES = 0.2


def test_seconds_of_mutants_find_nothing(repo_root: Path, tmp_path: Path) -> None:
    """In a process without threads, from which the children fork."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--minutes", str(MINUTES), "--finds", str(tmp_path)],
        cwd=repo_root,
        env={**os.environ, "PYTHONPATH": f"{repo_root}:{repo_root / 'layers/droplens'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    # Where something is found, its inputs are kept for whoever mends it.
    for find in tmp_path.iterdir():
        kept = repo_root / ".local" / "fuzz"
        kept.mkdir(parents=True, exist_ok=True)
        (kept / find.name).write_bytes(find.read_bytes())
    assert done.returncode == 0, done.stdout.replace(str(tmp_path), ".local/fuzz") + done.stderr
    assert " 0 inputs" not in done.stdout
