"""The examples of docs/results.md, taken out of the page and run on results that the code made."""

import json
import re
from pathlib import Path
from typing import Any

import boto3
import duckdb
import pytest
from moto import mock_aws
from samtranslator.yaml_helper import yaml_parse

from droplens.domain import result
from droplens.domain.result import EVENT_SOURCE, EVENT_TYPE
from tests.support.expanded_template import matches
from tests.support.results import CLASSIFIED, CLASSIFIED_V1, ERROR, PICTURE, REJECTED, REJECTED_V1
from tools.contract import RESULT, schema, validate_named

BUCKET = "droplens-bucket"
UNFAMILIAR = {
    **CLASSIFIED,
    "image": {**CLASSIFIED["image"], "key": "input/cars/cat.jpg"},
    "prediction": {
        **CLASSIFIED["prediction"],
        "confident": False,
        "familiar": False,
        "familiarity": 0.001,
    },
    "candidates": ["Škoda"],
}


@pytest.fixture
def page(repo_root: Path) -> str:
    return (repo_root / "docs" / "results.md").read_text("utf-8")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """results/ as in a bucket: of both versions and two classifiers, with rejected pictures."""
    documents = {
        "cars/a.jpg.json": CLASSIFIED,
        "cars/more/b.jpg.json": CLASSIFIED_V1,
        "cars/cat.jpg.json": UNFAMILIAR,
        "cars/c.jpg.json": REJECTED,
        "cars/d.jpg.json": REJECTED_V1,
        "cats/a.jpg.json": {**CLASSIFIED_V1, "classifier": "cats"},
    }
    for key, document in documents.items():
        validate_named(document)
        file = tmp_path / "results" / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(result.to_json(document))
    return tmp_path


def examples(page: str, heading: str, language: str) -> list[str]:
    """The examples in this language under this heading."""
    section = re.split(r"^## ", page, flags=re.MULTILINE)
    [body] = [part for part in section if part.startswith(heading + "\n")]
    return re.findall(rf"^```{language}\n(.*?)^```", body, re.MULTILINE | re.DOTALL)


def example(page: str, heading: str, language: str) -> str:
    """The only example in this language under this heading."""
    [code] = examples(page, heading, language)
    return code


@pytest.mark.parametrize(
    ("key", "printed"),
    [
        ("cars/a.jpg.json", "Škoda 0.87\n"),
        ("cars/more/b.jpg.json", "Škoda 0.87\n"),
        ("cars/c.jpg.json", f"{ERROR['code']} {ERROR['message']}\n"),
    ],
)
def test_the_boto3_example_reads_a_result(
    page: str, results: Path, capsys: pytest.CaptureFixture[str], key: str, printed: str
) -> None:
    with mock_aws():
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(
            Bucket=BUCKET,
            Key="results/cars/a.jpg.json",
            Body=(results / "results" / key).read_bytes(),
        )
        exec(example(page, "boto3", "python"), {"bucket": BUCKET})  # noqa: S102  our own page
    assert capsys.readouterr().out == printed


def test_the_consumer_takes_each_event_once(page: str) -> None:
    names: dict[str, Any] = {}
    exec(example(page, "EventBridge to SQS", "python"), names)  # noqa: S102
    detail = {"id": "1", "result": {"bucket": BUCKET, "key": "results/cars/a.jpg.json"}}
    seen: set[str] = set()
    bodies = [json.dumps({"detail": {**detail, "id": number}}) for number in ("1", "2", "1")]

    taken = [names["take"](body, seen) for body in bodies]
    address = f"s3://{BUCKET}/results/cars/a.jpg.json"
    assert taken == [address, address, None]


@pytest.mark.parametrize(
    ("prediction", "passes"),
    [
        ({"confident": False, "familiar": True}, True),
        ({"confident": False, "familiar": False}, True),
        ({"confident": False, "familiar": None}, True),
        ({"confident": False}, True),
        ({"confident": True, "familiar": True}, False),
        ({"confident": True, "familiar": None}, False),
        ({"confident": True}, False),
    ],
)
def test_the_rule_lets_the_unsure_and_the_unfamiliar_through(
    page: str, prediction: dict[str, Any], passes: bool
) -> None:
    template = yaml_parse(example(page, "EventBridge to SQS", "yaml"))
    pattern = template["Resources"]["UnsureRule"]["Properties"]["EventPattern"]
    event = {
        "source": EVENT_SOURCE,
        "detail-type": EVENT_TYPE,
        "detail": {**CLASSIFIED, "prediction": prediction},
    }
    assert matches(pattern, event) is passes
    assert not matches(pattern, {**event, "detail": REJECTED})


def test_the_duckdb_examples_read_results_of_both_versions(
    page: str, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(results)
    database = duckdb.connect()
    counts, details = examples(page, "DuckDB", "sql")
    assert database.execute(counts).fetchall() == [("Škoda", 3), ("image.unreadable", 2)]

    unfamiliar, undecided = (part for part in details.split(";") if part.strip())
    assert database.execute(unfamiliar).fetchall() == [("input/cars/cat.jpg", "Škoda", 0.001)]
    assert database.execute(undecided).fetchall() == [(PICTURE["key"], CLASSIFIED["candidates"])]


def test_the_athena_query_means_the_same_in_duckdb(
    page: str, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Athena is not at hand; its queries are of the SQL that both have."""
    monkeypatch.chdir(results)
    database = duckdb.connect()
    database.execute(examples(page, "DuckDB", "sql")[0].partition(";")[0])
    table, unfamiliar = examples(page, "Athena", "sql")
    counted = database.execute(table.partition(";")[2]).fetchall()
    assert counted == [("Škoda", 3), ("image.unreadable", 2)]
    assert database.execute(unfamiliar).fetchall() == [("input/cars/cat.jpg", "Škoda", 0.001)]


@pytest.mark.parametrize("place", ["DuckDB", "Athena"])
def test_the_tables_have_columns_that_a_result_has(page: str, place: str) -> None:
    published = schema(RESULT)
    table = examples(page, place, "sql")[0].partition(";")[0]
    simple = r"^    (\w+):? (?:string|array<string>|'VARCHAR(?:\[\])?'|'TIMESTAMP')"
    columns = re.findall(simple, table, re.MULTILINE)
    structs = re.findall(r"^    (\w+):? '?struct[<(](.*)[>)]", table, re.MULTILINE | re.IGNORECASE)

    assert columns == ["status", "classifier", "candidates", "classified_at"]
    assert [name for name, _ in structs] == ["image", "prediction", "error", "model"]
    assert set(columns) <= published["properties"].keys()
    for name, fields in structs:
        known = published["$defs"][name]["properties"]
        named = re.findall(
            r"[`\"]?(\w+)[`\"]?:? (?:string|bigint|double|boolean|VARCHAR)", fields, re.IGNORECASE
        )
        assert len(named) == fields.count(",") + 1
        assert set(named) <= known.keys()


def test_a_result_is_one_line() -> None:
    text = result.to_json({"label": "two\nlines"})
    assert text.count(b"\n") == 1
    assert text.endswith(b"\n")
