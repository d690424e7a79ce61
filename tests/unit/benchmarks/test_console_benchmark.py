"""The console's benchmark is of results as the product writes them, and says what it measured."""

import itertools

from benchmarks.console.images import CLASSIFIER, results
from benchmarks.console.table import markdown
from droplens.domain import layout
from droplens_cli.results import to_row
from tools.contract import validate_named


def test_results_are_those_of_the_schema_and_the_same_in_every_run() -> None:
    found = dict(results(300))
    assert found == dict(results(300))
    assert list(found) == sorted(found)
    for key, result in found.items():
        validate_named(result)
        assert layout.result_key(result["image"]["key"], CLASSIFIER) == key
    rows = [row for row in map(to_row, found.values()) if row is not None]
    assert len(rows) == 300
    for name, values in {
        "status": {"classified", "rejected"},
        "confident": {True, False, None},
        "familiar": {True, False, None},
    }.items():
        assert {row[name] for row in rows} == values
    assert all(
        first["probability"] >= second["probability"]
        for result in found.values()
        for first, second in itertools.pairwise(result.get("top", []))
    )


def test_the_table_names_every_page_that_was_timed() -> None:
    spread = {"median": 12.3, "low": 11.0, "high": 14.0}
    report = {
        "review": {
            "images": 100,
            "images_per_minute": 41.3,
            "person_seconds_per_image": 1.36,
            "next_image_ms": spread,
            "next_image_ms_p95": 100.5,
            "page_share": 0.0175,
        },
        "gallery": {
            "results": 100_000,
            "pages_ms": {"the newest": spread, "rejected": spread},
            "read_per_second": 145.0,
            "listed": 10_000,
            "listing_seconds": 12.34,
            "index_bytes_per_result": 450,
        },
    }
    table = markdown(report)
    assert "| images reviewed a minute, of 100 | 41.3 |" in table
    assert "12 ms (11 to 14), 100 ms at most in 95 %" in table
    assert "| a page of 100,000 results: rejected | 12 ms (11 to 14) |" in table
    assert "1.8%" in table
