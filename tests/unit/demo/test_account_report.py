"""The report of a demo in an account: what is in it, and what must not be."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from demo.account_report import Outcome, Record, Redaction, as_markdown, write

MESSAGE = (
    "User: arn:aws:iam::123456789012:user/jane.doe is not authorized to perform: "
    "sagemaker:CreateEndpoint on resource: "
    "arn:aws:sagemaker:eu-west-1:123456789012:endpoint/droplens-demo-abc234--x, ask "
    "jane@example.org; key AKIA"
    "IOSFODNN7EXAMPLE; role id AROAIOSFODNN7EXAMPLE:session; "
    "account 123456789012; profile work-jane in /home/jane/.aws; cat pictures of jane.doe"
)
WORDS = {
    "123456789012": "<account>",
    "jane.doe": "<user>",
    "jane": "<user>",
    "/home/jane": "~",
    "work-jane": "<profile>",
    "": "<profile>",
}


@pytest.fixture
def record() -> Record:
    """A demo that ended early, with one check of each outcome."""
    made = Record(datetime(2026, 11, 27, 5, 30, tzinfo=UTC))
    made.facts = {"region": "eu-west-1", "sam": "1.170.0"}
    made.steps = {"Upload": (2.04, False), "Training": (30.0, True)}
    made.measure("first answer", 3.0, "s", "whole seconds")
    made.check("deploys", True, "droplens-demo-abc234")
    made.check("answers", False, MESSAGE)
    made.check("metrics", None, "no data | point")
    made.error, made.left = MESSAGE, ["buckets: droplens-demo-abc234-bucket"]
    return made


def test_no_account_arn_key_address_or_name_is_left_in_a_text() -> None:
    cleaned = Redaction(WORDS)(MESSAGE)
    for secret in ("123456789012", "arn:", "jane", "AKIA", "AROA", "@"):
        assert secret not in cleaned
    # What a reader of the issue needs stays.
    assert "not authorized to perform: sagemaker:CreateEndpoint" in cleaned
    assert "<ARN of sagemaker>, ask <address>" in cleaned
    assert "profile <profile> in ~/.aws" in cleaned


def test_a_name_within_another_word_is_that_word() -> None:
    assert (
        Redaction({"ana": "<user>"})("banana ana-2 1234567890123")
        == "banana <user>-2 1234567890123"
    )


def test_both_reports_are_written_clean_and_alike(record: Record, tmp_path: Path) -> None:
    page = write(record, Redaction(WORDS), tmp_path)
    assert page.name == "report-2026-11-27-053000.md"
    document = json.loads(page.with_suffix(".json").read_text("utf-8"))
    text = page.read_text("utf-8")
    assert text == as_markdown(document)
    for secret in ("123456789012", "arn:aws", "jane", "AKIA"):
        assert secret not in text
        assert secret not in json.dumps(document)
    assert [check["outcome"] for check in document["checks"]] == ["passed", "failed", "unknown"]
    assert document["steps"][1] == {"step": "Training", "seconds": 30.0, "failed": True}
    assert document["left"] == ["buckets: droplens-demo-abc234-bucket"]
    assert "## Checks: 1 passed, 1 failed, 1 unknown" in text
    assert "| region | eu-west-1 |" in text
    assert "| Training | 30.0 | failed |" in text
    assert "| first answer | 3 s | whole seconds |" in text
    assert r"no data \| point" in text
    assert "- buckets: droplens-demo-abc234-bucket" in text


def test_unknown_counts_as_neither(record: Record) -> None:
    assert [record.count(outcome) for outcome in Outcome] == [1, 1, 1]
