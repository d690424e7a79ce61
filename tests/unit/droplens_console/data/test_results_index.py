"""The index of results gives the pages that the results in the bucket would give."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from droplens_console.data.results_index import Found, Indexed, Place, ResultsIndex, Wanted

START = datetime(2026, 11, 1, tzinfo=UTC)
CLASSES = ("audi, new", "bmw 100%", "citroën_2")


def row(number: int, **changes: Any) -> dict[str, Any]:
    """The columns of a result; several have the same second."""
    choose = random.Random(number)
    rejected = number % 10 == 0
    return {
        "classifier": "cars",
        "key": f"input/cars/{choose.choice(('day', 'Night'))}/{number:04}.jpg",
        "version_id": f"v{number}",
        "status": "rejected" if rejected else "classified",
        "label": None if rejected else choose.choice(CLASSES),
        "probability": None if rejected else choose.random(),
        "confident": None if rejected else choose.random() < 0.7,
        "familiar": None if rejected else choose.random() < 0.9,
        "error_code": "image.unreadable" if rejected else None,
        "run_id": "20261122-120000-1a2b3c",
        "classified_at": (START + timedelta(seconds=choose.randrange(200))).isoformat(),
    } | changes


def listed(number: int, etag: str = "e") -> Indexed:
    return Indexed(f"results/cars/{number:04}.jpg.json", etag, 1000.0 + number)


@pytest.fixture
def index(tmp_path: Path) -> ResultsIndex:
    return ResultsIndex(tmp_path / "results.sqlite")


@pytest.fixture
def filled(index: ResultsIndex) -> ResultsIndex:
    index.add("cars", [(listed(number), row(number)) for number in range(300)])
    return index


def pages(index: ResultsIndex, wanted: Wanted, limit: int) -> Iterator[list[Found]]:
    after = None
    while True:
        page = index.page("cars", wanted, after, limit)
        yield list(page.rows)
        if page.after is None:
            return
        after = Place.parse(str(page.after))


def takes(wanted: Wanted, of: dict[str, Any]) -> bool:
    at, text = datetime.fromisoformat(of["classified_at"]), wanted.text.lower()
    return (
        wanted.label in ("", of["label"])
        and wanted.status in ("", of["status"])
        and wanted.confident in (None, of["confident"])
        and wanted.familiar in (None, of["familiar"])
        and (text in of["key"].lower() or text in (of["label"] or "").lower())
        and (wanted.since is None or at >= wanted.since)
        and (wanted.until is None or at < wanted.until)
    )


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(),
        Wanted(label="bmw 100%"),
        Wanted(status="rejected"),
        Wanted(confident=False),
        Wanted(familiar=False, status="classified"),
        Wanted(text="nIGHT"),
        Wanted(text="0%"),
        Wanted(text="n_2"),
        Wanted(text="nothing like it"),
        Wanted(since=START + timedelta(seconds=50), until=START + timedelta(seconds=90)),
        Wanted(label="audi, new", confident=True, since=START + timedelta(seconds=100)),
    ],
    ids=repr,
)
def test_all_pages_together_are_the_wanted_results_newest_first(
    filled: ResultsIndex, wanted: Wanted
) -> None:
    found = [one for page in pages(filled, wanted, 7) for one in page]
    expected = [row(number) for number in range(300) if takes(wanted, row(number))]
    assert sorted(one.image for one in found) == sorted(one["key"] for one in expected)
    times = [one.classified_at for one in found]
    assert times == sorted(times, reverse=True)
    assert filled.count("cars", wanted) == len(expected)


def test_a_result_that_comes_between_two_pages_moves_none(filled: ResultsIndex) -> None:
    first = filled.page("cars", Wanted(), None, 10)
    after_before = filled.page("cars", Wanted(), first.after, 10)
    newest = row(900, classified_at=(START + timedelta(days=1)).isoformat())
    filled.add("cars", [(listed(900), newest)])
    assert filled.page("cars", Wanted(), first.after, 10) == after_before


def test_values_are_those_of_the_result(filled: ResultsIndex) -> None:
    found, of = filled.get(listed(11).key), row(11)
    assert found is not None
    assert (found.label, found.probability, found.confident, found.familiar) == (
        of["label"],
        of["probability"],
        of["confident"],
        of["familiar"],
    )
    assert found.classified_at == datetime.fromisoformat(of["classified_at"])
    rejected = filled.get(listed(10).key)
    assert rejected is not None
    assert (rejected.label, rejected.confident, rejected.error_code) == (
        None,
        None,
        "image.unreadable",
    )
    assert filled.get("results/cars/other.json") is None


def test_classes_are_counted(filled: ResultsIndex) -> None:
    counts = dict(filled.labels("cars"))
    assert set(counts) == set(CLASSES)
    assert sum(counts.values()) == filled.count("cars", Wanted(status="classified"))
    assert filled.labels("birds") == []


def test_a_listing_finds_what_is_new_changed_and_gone(filled: ResultsIndex) -> None:
    entries = [listed(number) for number in range(2, 300)]
    entries[5] = listed(7, "another etag")
    entries.append(listed(300))
    assert filled.missing("cars", entries) == [listed(300), listed(7, "another etag")]
    assert filled.get(listed(0).key) is None
    assert filled.count("cars", Wanted()) == 298
    filled.add("cars", [(listed(7, "another etag"), row(7, label="moved"))])
    changed = filled.get(listed(7).key)
    assert changed is not None
    assert changed.label == "moved"
    assert filled.count("cars", Wanted()) == 298


def test_what_is_no_result_is_read_once(filled: ResultsIndex) -> None:
    entries = [listed(number) for number in range(301)]
    filled.add("cars", [(listed(300), None), (listed(3), None)])
    assert filled.missing("cars", entries) == []
    assert filled.count("cars", Wanted()) == 299
    filled.add("cars", [(listed(300), row(300, classifier="birds"))])
    assert filled.missing("cars", entries) == []
    assert filled.missing("cars", [listed(300, "new")]) == [listed(300, "new")]


def test_classifiers_are_apart(filled: ResultsIndex) -> None:
    other = Indexed("results/birds/a.json", "e", 0.0)
    filled.add("birds", [(other, row(1, classifier="birds"))])
    assert filled.missing("birds", []) == []
    assert filled.count("birds", Wanted()) == 0
    assert filled.count("cars", Wanted()) == 300


def test_a_damaged_file_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    path.write_bytes(b"no database" * 1000)
    index = ResultsIndex(path)
    index.add("cars", [(listed(1), row(1))])
    assert ResultsIndex(path).count("cars", Wanted()) == 1


@pytest.mark.parametrize("text", ["", "5", "-", "a-b", "5-", f"{10**20}-1", "1-1 OR 1=1"])
def test_another_text_is_no_place(text: str) -> None:
    assert Place.parse(text) is None
