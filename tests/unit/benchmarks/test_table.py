"""The table of bench-classify's figures."""

from typing import Any

from benchmarks.classify.table import markdown

SPREAD = {"median": 1.1, "low": 1.05, "high": 1.2}
CPU = {"median": 1.7, "low": 1.6, "high": 1.9}
REPORT: dict[str, Any] = {
    "machine": {"cores": 2},
    "handlers": [
        {"batch": 10, "batches": 60, "ratio": SPREAD, "cpu_ratio": CPU},
        {"batch": 1, "batches": 60, "ratio": SPREAD, "cpu_ratio": CPU},
    ],
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
    lines = markdown(REPORT).splitlines()
    rows = dict(line.strip("| ").split(" | ") for line in lines[2:] if line.startswith("|"))
    assert "1.10x (1.05 to 1.20)" in rows.values()
    assert list(rows.values()).count("1.70x (1.60 to 1.90)") == 2  # of CPU time
    assert "50 pictures/s" in rows.values()
    assert "21.0 ms of 100, 20.0 ms of 10,000" in rows.values()
    assert "400 ms and 70 MB; bare boto3 250 ms and 60 MB" in rows.values()
    assert "0 lost, 0 doubled, 0 wrong" in rows.values()


def test_a_real_model_in_both_modes_has_rows_of_its_own() -> None:
    both = {"inside": 9.04, "behind": 20.0}
    found = {
        "batch": 10,
        "ratio": SPREAD,
        "ms_per_picture": both,
        "cpu_ms_per_picture": {"inside": 8.0, "behind": 25.0},
    }
    modes = {
        "in_batches": found,
        "alone": {**found, "batch": 1},
        "cold_start": {way: {"seconds": 1.234, "peak_mb": 210} for way in both},
        "floods": {way: {"pictures": 1000, "pictures_per_second": 80.4} for way in both},
        "growth": {way: [{"pictures": 100, "ms_each": 12.3}] for way in both},
        "faults": {
            way: {"pictures": 2016, "lost": 0, "doubled": number, "wrong": 0}
            for number, way in enumerate(both)
        },
        "chaos": {"pictures": 400, "workers_killed": 7, "lost": 0, "doubled": 0, "wrong": 3},
    }
    text = markdown({**REPORT, "modes": modes})
    assert "9.0 ms; an endpoint 20.0 ms; 1.10x (1.05 to 1.20)" in text
    assert text.count("`EndpointMode=lambda` 8.0 ms; an endpoint 25.0 ms |") == 2
    assert "`EndpointMode=lambda` 1.23 s, 210 MB; an endpoint 1.23 s, 210 MB" in text
    assert "1,000 pictures dropped at once | `EndpointMode=lambda` 80 pictures/s; an" in text
    assert "`EndpointMode=lambda` 12.3 ms of 100; an endpoint 12.3 ms of 100" in text
    assert "0 lost, 0 doubled, 0 wrong; an endpoint 0 lost, 1 doubled, 0 wrong" in text
    assert "400 pictures, events as above, 7 workers killed" in text
    assert "| 0 lost, 0 doubled, 3 wrong |" in text
