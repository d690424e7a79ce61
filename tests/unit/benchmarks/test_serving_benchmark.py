"""What bench-serving computes, and that docs/serving.md's example is one that SageMaker takes."""

import re
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

from benchmarks.harness import quartiles, stored
from benchmarks.serving.__main__ import corpus, milliseconds


@pytest.fixture
def report() -> dict[str, Any]:
    return stored("serving")


def test_the_figures_in_front_are_those_of_the_report(report: dict[str, Any]) -> None:
    assert report["cold_start_seconds"] == report["cold_start"]["droplens"]["median"]
    assert report["latency_ratio"] == report["latency"]["ratio"]["median"]
    assert report["concurrent_ratio"] in [row["ratio"]["median"] for row in report["clients"][1:]]
    assert report["int8_speedup"] == report["int8"]["speedup"]["median"]
    assert report["int8_speedup_over_http"] == report["int8"]["speedup_over_http"]["median"]
    assert 0 < report["memory_mb"]["idle"] <= report["memory_mb"]["peak"]


def test_a_spread_is_the_median_between_its_quartiles() -> None:
    assert quartiles([5, 1, 2, 3, 4]) == {"median": 3, "low": 1.5, "high": 4.5}
    assert milliseconds([0.001, 0.003])["p50"] == 2.0


def test_without_photographs_pictures_are_made_up(tmp_path: Path) -> None:
    said, pictures = corpus(tmp_path / "nowhere")
    assert said.startswith("generated pictures")
    assert len(set(pictures)) == len(pictures) > 0


def test_the_transform_example_is_a_call_that_sagemaker_knows(
    monkeypatch: pytest.MonkeyPatch, repo_root: Path
) -> None:
    [code] = re.findall(
        r"^```python\n(.*?)^```",
        (repo_root / "docs/serving.md").read_text("utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    client = boto3.client("sagemaker")
    monkeypatch.setattr(boto3, "client", lambda _: client)
    asked = ("TransformJobName", "ModelName", "TransformInput", "TransformOutput")
    expected = dict.fromkeys((*asked, "TransformResources"), ANY)
    with Stubber(client) as sagemaker:
        arn = "arn:aws:sagemaker:us-east-1:123456789012:transform-job/cars-2026-11"
        sagemaker.add_response("create_transform_job", {"TransformJobArn": arn}, expected)
        given = {"model": "cars", "pictures": "s3://b/input/", "answers": "s3://b/out/"}
        exec(code, given)  # noqa: S102  our own page
        sagemaker.assert_no_pending_responses()
