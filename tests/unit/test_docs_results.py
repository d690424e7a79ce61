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
from tests.support.results import CLASSIFIED, ERROR, REJECTED
from tools.contract import RESULT, SCHEMAS, validate

BUCKET = "droplens-bucket"


@pytest.fixture
def page(repo_root: Path) -> str:
    return (repo_root / "docs" / "results.md").read_text("utf-8")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """results/ as it is in a bucket: two classes, a rejected picture, another classifier."""
    documents = {
        "cars/a.jpg.json": CLASSIFIED,
        "cars/more/b.jpg.json": CLASSIFIED,
        "cars/c.jpg.json": REJECTED,
        "cats/a.jpg.json": {**CLASSIFIED, "classifier": "cats"},
    }
    for key, document in documents.items():
        validate(RESULT, document)
        file = tmp_path / "results" / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(result.to_json(document))
    return tmp_path


def example(page: str, heading: str, language: str) -> str:
    """The one example in this language under this heading."""
    section = re.split(r"^## ", page, flags=re.MULTILINE)
    [body] = [part for part in section if part.startswith(heading + "\n")]
    [code] = re.findall(rf"^```{language}\n(.*?)^```", body, re.MULTILINE | re.DOTALL)
    return str(code)


@pytest.mark.parametrize(
    ("key", "printed"),
    [
        ("cars/a.jpg.json", "Škoda 0.87\n"),
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


@pytest.mark.parametrize(("confident", "passes"), [(False, True), (True, False)])
def test_the_rule_lets_the_unsure_through(page: str, confident: bool, passes: bool) -> None:
    template = yaml_parse(example(page, "EventBridge to SQS", "yaml"))
    pattern = template["Resources"]["UnsureRule"]["Properties"]["EventPattern"]
    event = {
        "source": EVENT_SOURCE,
        "detail-type": EVENT_TYPE,
        "detail": {**CLASSIFIED, "prediction": {"confident": confident}},
    }
    assert matches(pattern, event) is passes
    assert not matches(pattern, {**event, "detail": REJECTED})


def test_the_duckdb_example_counts_answers(
    page: str, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(results)
    answers = duckdb.connect().execute(example(page, "DuckDB", "sql")).fetchall()
    assert answers == [("Škoda", 2), ("image.unreadable", 1)]


@pytest.mark.parametrize("place", ["DuckDB", "Athena"])
def test_the_tables_have_columns_that_a_result_has(page: str, place: str) -> None:
    schema = json.loads((SCHEMAS / f"{RESULT}.json").read_text("utf-8"))
    table = example(page, place, "sql").partition(";")[0]
    columns = re.findall(r"^    (\w+):? (?:string|'VARCHAR'|'TIMESTAMP')", table, re.MULTILINE)
    structs = re.findall(r"^    (\w+):? '?struct[<(](.*)[>)]", table, re.MULTILINE | re.IGNORECASE)

    assert columns == ["status", "classifier", "classified_at"]
    assert [name for name, _ in structs] == ["image", "prediction", "error", "model"]
    assert set(columns) <= schema["properties"].keys()
    for name, fields in structs:
        known = schema["$defs"][name]["properties"]
        named = re.findall(
            r"[`\"]?(\w+)[`\"]?:? (?:string|bigint|double|boolean|VARCHAR)", fields, re.IGNORECASE
        )
        assert len(named) == fields.count(",") + 1
        assert set(named) <= known.keys()


def test_a_result_is_one_line() -> None:
    text = result.to_json({"label": "two\nlines"})
    assert text.count(b"\n") == 1
    assert text.endswith(b"\n")
