"""Results of both versions are read, filtered and written in every format."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from droplens_cli import results
from droplens_cli.app import main
from droplens_cli.errors import CommandError, ExitCode
from tests.support.command import run
from tests.support.deployed_stack import Deployed, deployed  # noqa: F401  a fixture

V1: dict[str, Any] = {
    "schema": "droplens.result.v1",
    "status": "classified",
    "image": {
        "bucket": "b",
        "key": "input/cars/one.jpg",
        "etag": "0" * 32,
        "version_id": "v",
        "bytes": 5,
        "width": 3,
        "height": 4,
        "format": "JPEG",
    },
    "classifier": "cars",
    "prediction": {"label": "audi, new", "probability": 0.75, "confident": True},
    "top": [{"label": "audi, new", "probability": 0.75}],
    "model": {"run_id": "20261122-120000-1a2b3c", "endpoint": "e", "accuracy": 0.9},
    "classified_at": "2026-11-22T12:00:00Z",
}
V2 = V1 | {
    "schema": "droplens.result.v2",
    "image": V1["image"] | {"key": "input/cars/new/two.jpg"},
    "prediction": {
        "label": "bmw",
        "probability": 0.5,
        "confident": False,
        "familiar": False,
        "familiarity": 0.004,
    },
    "candidates": ["bmw", "audi, new"],
    "unknown": {"field": 1},
    "classified_at": "2026-11-23T12:00:00Z",
}
REJECTED = {name: value for name, value in V1.items() if name not in ("prediction", "top")} | {
    "status": "rejected",
    "image": V1["image"] | {"key": "input/cars/three.jpg"},
    "error": {"code": "image.unreadable", "message": "the bytes are not those of a picture"},
    "classified_at": "2026-11-24T12:00:00Z",
}


@pytest.fixture
def three(deployed: Deployed) -> Deployed:  # noqa: F811
    """The stack with three results of "cars", and objects that are none."""
    for document in (V1, V2, REJECTED):
        path = document["image"]["key"].removeprefix("input/")
        deployed.put(f"results/{path}.json", json.dumps(document).encode())
    deployed.put("results/cars/other.json", b'{"schema": "other"}')
    deployed.put("results/cars/torn.json", b'{"schema"')
    deployed.put("results/cars/list.json", b"[1]")
    deployed.put("results/cars/notes.txt", b"no result")
    deployed.put("results/cars-2/other.jpg.json", json.dumps(V1).encode())
    return deployed


def printed(capsys: pytest.CaptureFixture[str], *options: str) -> set[str]:
    """The keys of the results that are printed as JSON Lines."""
    capsys.readouterr()
    assert run("results", "cars", "--format", "jsonl", *options) == 0
    lines = capsys.readouterr().out.splitlines()
    return {Path(json.loads(line)["image"]["key"]).stem for line in lines}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], {"one", "two", "three"}),
        (["--label", "bmw"], {"two"}),
        (["--status", "rejected"], {"three"}),
        (["--confident"], {"one"}),
        (["--unsure"], {"two"}),
        (["--unfamiliar"], {"two"}),
        (["--familiar"], set()),  # v1 does not say
        (["--since", "2026-11-23T12:00:00"], {"two", "three"}),
        (["--until", "2026-11-23T12:00:00"], {"one"}),
        (["--since", "2026-11-23", "--until", "2026-11-24"], {"two"}),
        (["--below", "new/"], {"two"}),
        (["--limit", "1"], {"two"}),  # in the order of the keys
    ],
)
@pytest.mark.usefixtures("three")
def test_filters(
    capsys: pytest.CaptureFixture[str], options: list[str], expected: set[str]
) -> None:
    assert printed(capsys, *options) == expected


@pytest.mark.usefixtures("three")
def test_what_is_no_result_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    run("results", "cars", "--format", "csv")
    assert "3 objects there are no results, the first results/cars/list.json" in (
        capsys.readouterr().err
    )


@pytest.mark.usefixtures("three")
def test_csv_has_a_line_for_each(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    run("results", "cars", "-o", str(path))
    with path.open(newline="", encoding="utf-8") as file:
        rows = {row["key"]: row for row in csv.DictReader(file)}
    assert set(next(iter(rows.values()))) == set(results.COLUMNS)
    first = rows["input/cars/one.jpg"]
    assert (first["label"], first["confident"], first["familiar"]) == ("audi, new", "true", "")
    second = rows["input/cars/new/two.jpg"]
    assert (second["familiar"], second["candidates"]) == ("false", "bmw|audi, new")
    assert rows["input/cars/three.jpg"]["error_code"] == "image.unreadable"


@pytest.mark.usefixtures("three")
def test_json_lines_have_whole_results(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    run("results", "cars", "-o", str(path))
    found = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert found == [V2, V1, REJECTED]


@pytest.mark.usefixtures("three")
def test_parquet_has_types(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    run("results", "cars", "-o", str(path))
    rows = parquet.read_table(path).to_pylist()
    assert [row["candidates"] for row in rows] == [["bmw", "audi, new"], None, None]
    assert [row["confident"] for row in rows] == [False, True, None]
    assert rows[0]["classified_at"].isoformat() == "2026-11-23T12:00:00+00:00"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("three")
def test_a_table_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    run("results", "cars")
    said = capsys.readouterr().out
    assert "unfamiliar" in said
    assert "image.unreadable" in said
    run("results", "birds")
    assert capsys.readouterr().out == "no results\n"


@pytest.mark.usefixtures("three")
def test_a_file_is_complete_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.csv"
    path.write_text("earlier")

    def torn(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(csv.DictWriter, "writerow", torn)
    with pytest.raises(CommandError, match="cannot be written: No space left"):
        run("results", "cars", "-o", str(path))
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "options",
    [
        ["-o", "r.xlsx"],
        ["--format", "xlsx"],
        ["--format", "parquet"],
        ["--status", "lost"],
    ],
)
@pytest.mark.usefixtures("three")
def test_wrong_options_are_usage_errors(options: list[str]) -> None:
    assert main(["--stack", "droplens", "results", "cars", *options]) == ExitCode.USAGE


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"schema": ["droplens.result.v1"]},
        V1 | {"image": None},
        V1 | {"classified_at": "yesterday"},
        V1 | {"classified_at": 5},
        V1 | {"classified_at": "2026-11-22T12:00:00"},
        V1 | {"prediction": "audi"},
    ],
)
def test_a_document_of_another_form_is_no_result(document: dict[str, Any]) -> None:
    assert results.to_row(document) is None
