"""The README's table of figures: written from a report, into its place and nowhere else."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.classify.table import BEGIN, END, markdown, put_into

SPREAD = {"median": 1.1, "low": 1.05, "high": 1.2}
REPORT: dict[str, Any] = {
    "handlers": [{"batch": 10, "ratio": SPREAD}, {"batch": 1, "ratio": SPREAD}],
    "cold_start": {
        "droplens": {"ms": 400.4, "peak_mb": 70.1},
        "bare": {"ms": 250.2, "peak_mb": 60.0},
    },
    "sweeps": [{"pictures": 100, "ms_each": 0.5}],
    "floods": [
        {"pictures": 100, "ms_each": 21.0, "pictures_per_second": 47.6},
        {"pictures": 10_000, "ms_each": 20.0, "pictures_per_second": 50.0},
    ],
    "chaos": {
        "pictures": 10_000,
        "workers_killed": 90,
        "endpoints_killed": 30,
        "lost": 0,
        "doubled": 0,
        "wrong": 0,
    },
}


def test_a_report_is_a_table_of_its_figures() -> None:
    rows = dict(line.strip("| ").split(" | ") for line in markdown(REPORT).splitlines()[2:])
    assert "1.10x (1.05 to 1.20)" in rows.values()
    assert "50 pictures/s" in rows.values()
    assert "21.0 ms of 100, 20.0 ms of 10,000" in rows.values()
    assert "400 ms and 70 MB; bare boto3 250 ms and 60 MB" in rows.values()
    assert "0 lost, 0 doubled, 0 wrong" in rows.values()


def test_the_table_takes_its_place_again_and_again(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"above\n{BEGIN}{END}below\n", "utf-8")
    put_into(page, REPORT)
    put_into(page, REPORT)
    assert page.read_text("utf-8") == f"above\n{BEGIN}{markdown(REPORT)}{END}below\n"


def test_a_page_without_the_place_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("above\n", "utf-8")
    with pytest.raises(ValueError, match="no place for the table"):
        put_into(page, REPORT)
    assert page.read_text("utf-8") == "above\n"


def test_the_readme_shows_the_stored_report(repo_root: Path) -> None:
    shown = (repo_root / "README.md").read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    stored = repo_root / "benchmarks" / "results" / "classify.json"
    if not stored.is_file():
        assert shown == "(No figures are stored yet: run it.)\n"
    else:
        assert shown == markdown(json.loads(stored.read_text("utf-8")))
