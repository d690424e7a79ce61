"""A prefix of another bucket is listed, priced, submitted once, followed and collected."""

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from pyarrow import parquet

from droplens.domain import layout
from droplens.domain.inference_job import (
    PARTS_PER_CHILD,
    InferenceJob,
    from_lines,
    job_key,
    to_lines,
)
from droplens.state.cards import Cards
from droplens_cli import cost, inference
from droplens_cli.errors import CommandError, ExitCode
from droplens_cli.results import COLUMNS
from droplens_cli.stack import Stack
from droplens_cli.target import Target
from tests.support.aws_fakes import check_request
from tests.support.builders import RUN, card, go_live
from tests.support.command import run
from tests.support.deployed_stack import Deployed, deployed  # noqa: F401  a fixture
from tests.support.inventories import csv_file, row, store

SOURCE = "photographs"
QUEUE, DEFINITION = "arn:of:queue", "arn:of:definition:3"
ROW = dict.fromkeys(COLUMNS) | {
    "classifier": "cars",
    "status": "classified",
    "label": "audi",
    "top": [{"label": "audi", "probability": 0.5}],
    "probability": 0.5,
    "confident": False,
    "classified_at": "2026-11-27T12:00:00Z",
    "bytes": 1,
}


class Batch:
    """AWS Batch, whose jobs classify what their lists name, at the second look."""

    def __init__(self, stack: Deployed) -> None:
        self.stack = stack
        self.jobs: dict[str, dict[str, Any]] = {}
        self.fails_after: int | None = None

    def submit_job(self, **request: Any) -> dict[str, Any]:
        check_request("batch", "SubmitJob", request)
        job_id = f"job-{len(self.jobs)}"
        self.jobs[job_id] = {**request, "status": "RUNNABLE"}
        return {"jobId": job_id}

    def list_jobs(self, **request: Any) -> dict[str, Any]:
        check_request("batch", "ListJobs", request)
        if "arrayJobId" in request:
            return {"jobSummaryList": [{"jobId": f"{request['arrayJobId']}:0"}]}
        [name] = request["filters"][0]["values"]
        known = [{"jobId": key, **job} for key, job in self.jobs.items() if job["jobName"] == name]
        return {"jobSummaryList": known}

    def describe_jobs(self, jobs: list[str]) -> dict[str, Any]:
        [job_id] = jobs
        if job_id.endswith(":0"):
            return {"jobs": [{"container": {"exitCode": 1, "reason": "Essential container"}}]}
        shown = {"jobId": job_id, **self.jobs[job_id]}
        self.jobs[job_id]["status"] = self._work(self.jobs[job_id])
        return {"jobs": [shown]}

    def _work(self, job: dict[str, Any]) -> str:
        own = self.stack.bucket
        key = job["parameters"]["job"].removeprefix(f"s3://{own.name}/")
        stored = InferenceJob.from_json(own.read(key)[0])
        for part in range(stored.parts)[: self.fails_after]:
            images = from_lines(own.read(stored.images_key(part))[0])
            rows = [{**ROW, "key": image["key"], "bytes": image["bytes"]} for image in images]
            self.stack.put(stored.rows_key(part), to_lines(rows))
        return "SUCCEEDED" if self.fails_after is None else "FAILED"


@pytest.fixture
def batch(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> Batch:  # noqa: F811
    """The stack with "cars" live, which may read photographs/2026/."""
    go_live(Cards(deployed.bucket), card(classifier="cars"))
    archive = f"{layout.training_prefix('cars', RUN.run_id)}job/output/model.tar.gz"
    model_data = f"s3://{deployed.bucket.name}/{archive}"
    deployed.table.put_item(Item={**asdict(RUN), "model_data": model_data})
    deployed.s3.create_bucket(Bucket=SOURCE)
    fake, others, made = Batch(deployed), Stack.client, Stack.__init__

    def with_inference(stack: Stack, target: Any) -> None:
        made(stack, target)
        stack.outputs |= {"InferenceQueueArn": QUEUE, "InferenceDefinitionArn": DEFINITION}
        stack.parameters |= {"InferenceSources": f"arn:aws:s3:::{SOURCE}/2026/*"}

    monkeypatch.setattr(Stack, "__init__", with_inference)
    monkeypatch.setattr(
        Stack, "client", lambda stack, name: fake if name == "batch" else others(stack, name)
    )
    monkeypatch.setattr(inference, "POLL_SECONDS", 0)
    monkeypatch.setattr(inference, "IMAGES_PER_PART", 2)
    monkeypatch.setattr("droplens.domain.inference_job.IMAGES_PER_PART", 2)
    return fake


def photographs(stack: Deployed, *names: str) -> None:
    for name in names:
        stack.s3.put_object(Bucket=SOURCE, Key=f"2026/{name}", Body=b"xy")


def classify(*arguments: str) -> int:
    return run("classify", "--as", "cars", *arguments)


def test_every_object_has_a_row_in_the_file(
    batch: Batch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photographs(batch.stack, "a.jpg", "b é+.jpg", "c/", "d.jpg")
    out = tmp_path / "out.parquet"
    assert classify("--prefix", f"s3://{SOURCE}/2026/", "--yes", "-o", str(out)) == 0
    table = parquet.read_table(out).to_pylist()
    assert [row["key"] for row in table] == ["2026/a.jpg", "2026/b é+.jpg", "2026/d.jpg"]
    assert tuple(table[0]) == COLUMNS
    said = capsys.readouterr().err
    assert "3 objects of 0.0 GB; about $" in said
    [job] = batch.jobs.values()
    assert (job["jobQueue"], job["jobDefinition"]) == (QUEUE, DEFINITION)
    assert "arrayProperties" not in job


def test_without_a_file_it_says_where_the_rows_are(
    batch: Batch, capsys: pytest.CaptureFixture[str]
) -> None:
    photographs(batch.stack, "a.jpg")
    assert classify("--prefix", f"s3://{SOURCE}/2026/", "--yes") == 0
    place = capsys.readouterr().out
    assert f"s3://{batch.stack.bucket.name}/inference/cars/" in place


def test_nothing_is_stored_before_the_cost_is_confirmed(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs(batch.stack, "a.jpg")
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    with pytest.raises(CommandError, match="nothing was started"):
        classify("--prefix", f"s3://{SOURCE}/2026/")
    assert not batch.jobs
    found = batch.stack.s3.list_objects_v2(Bucket=batch.stack.bucket.name, Prefix="inference/")
    assert found["KeyCount"] == 0


def test_a_job_that_broke_off_is_gone_on_with(batch: Batch, tmp_path: Path) -> None:
    photographs(batch.stack, "a.jpg", "b.jpg", "c.jpg")
    batch.fails_after = 1
    with pytest.raises(CommandError, match="1 of 2 parts are done, then the job ended") as failed:
        classify("--prefix", f"s3://{SOURCE}/2026/", "--yes")
    name = failed.value.next_step.split("--resume ")[1].split("`")[0]
    batch.fails_after = None
    out = tmp_path / "out.csv"
    assert run("classify", "--resume", name, "-o", str(out)) == 0
    with out.open(encoding="utf-8") as file:
        assert [row["key"][-5:] for row in csv.DictReader(file)] == ["a.jpg", "b.jpg", "c.jpg"]
    # Once more submits nothing.
    assert run("classify", "--resume", name) == 0
    assert [job["jobName"] for job in batch.jobs.values()] == [
        f"droplens--{name.replace('/', '-')}"
    ] * 2


def test_a_job_that_is_at_work_is_followed_and_not_submitted_again(batch: Batch) -> None:
    photographs(batch.stack, "a.jpg")
    stack = Stack(Target(stack="droplens"))
    job = inference.new_job(stack, "cars", SOURCE, "2026/", 1)
    assert inference.start(stack, job) == inference.start(stack, job) == "job-0"
    batch.jobs["job-0"]["status"] = "FAILED"
    assert inference.start(stack, job) == "job-1"


def test_many_images_are_an_array_and_its_first_failed_child_says_why(batch: Batch) -> None:
    stack = Stack(Target(stack="droplens"))
    job = inference.new_job(stack, "cars", SOURCE, "2026/", 2 * 3 * PARTS_PER_CHILD)
    assert inference.start(stack, job) == "job-0"
    assert batch.jobs["job-0"]["arrayProperties"] == {"size": 3}
    batch.stack.put(job_key("cars", job.job_id), job.to_json())
    batch.jobs["job-0"]["status"] = "FAILED"
    batch.fails_after = 0
    with pytest.raises(CommandError, match=r"Essential container \(exit code 1\)"):
        list(inference.follow(stack, job, "job-0"))


def inventory(stack: Deployed, *keys: str) -> str:
    """An inventory of the photographs with these keys, in a bucket of its own."""
    stack.s3.create_bucket(Bucket="inventories")
    rows = [row(SOURCE, key, etag="e", StorageClass="STANDARD") for key in keys]
    rows.append(row(SOURCE, "2026/old.jpg", StorageClass="GLACIER"))
    return store(stack.s3, "inventories", SOURCE, csv_file(rows))


def test_what_an_inventory_lists_has_a_row_each(
    batch: Batch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = inventory(batch.stack, "2026/z +é.jpg", "2026/c/", "2026/a.jpg", "2026/b.jpg")
    out = tmp_path / "out.csv"
    assert classify("--manifest", address, "--yes", "-o", str(out)) == 0
    with out.open(encoding="utf-8") as file:
        keys = [row["key"] for row in csv.DictReader(file)]
    assert keys == ["2026/z +é.jpg", "2026/a.jpg", "2026/b.jpg"]
    assert "3 objects of 0.0 GB, 1 archived ones left out; about $" in capsys.readouterr().err
    [submitted] = batch.jobs.values()
    own = batch.stack.bucket
    key = submitted["parameters"]["job"].removeprefix(f"s3://{own.name}/")
    job = InferenceJob.from_json(own.read(key)[0])
    assert (job.bucket, job.source, job.manifest) == (SOURCE, "", address)
    first = next(from_lines(own.read(job.images_key(0))[0]))
    assert first == {"key": "2026/z +é.jpg", "bytes": 2, "etag": "e"}


def test_of_an_inventory_only_what_is_below_the_prefix_or_may_be_read(batch: Batch) -> None:
    address = inventory(batch.stack, "2025/a.jpg", "2026/a.jpg")
    with pytest.raises(CommandError, match=r"may not read s3://photographs/2025/a\.jpg, which"):
        classify("--manifest", address, "--yes")
    assert not batch.jobs
    assert classify("--manifest", address, "--prefix", f"s3://{SOURCE}/2026/", "--yes") == 0
    with pytest.raises(CommandError, match="lists bucket photographs, and --prefix names scans"):
        classify("--manifest", address, "--prefix", "s3://scans/", "--yes")


def test_a_bucket_that_may_not_be_listed_still_names_its_region(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs(batch.stack, "a.jpg")
    stack = Stack(Target(stack="droplens"))
    s3 = stack.client("s3")

    def forbidden(**_: Any) -> None:
        headers = {"x-amz-bucket-region": "eu-west-1"}
        metadata = {"HTTPStatusCode": 403, "HTTPHeaders": headers}
        raise ClientError({"Error": {"Code": "403"}, "ResponseMetadata": metadata}, "HeadBucket")  # type: ignore[typeddict-item]

    monkeypatch.setattr(s3, "head_bucket", forbidden)
    monkeypatch.setattr(stack, "client", lambda _: s3)
    with pytest.raises(CommandError, match="is in eu-west-1"):
        inference.check_region(stack, SOURCE)


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["--prefix", "photographs/2026"], "s3://bucket/prefix", ExitCode.USAGE),
        (["--prefix", "s3://photographs/2025/"], "may not read", ExitCode.NO_TARGET),
        (["--prefix", "s3://photographs/20"], "may not read", ExitCode.NO_TARGET),
        (["--prefix", "s3://photographs/2026/none"], "there is no object", ExitCode.BAD_INPUT),
        (["--manifest", "manifest.json"], "s3://bucket/manifest", ExitCode.USAGE),
        (["--manifest", "s3://photographs/2026/none"], "no such object", ExitCode.BAD_INPUT),
        (["--resume", "cars"], "classifier/job", ExitCode.USAGE),
        (["--resume", "cars/20261127-120000-1a2b3c"], "there is no job", ExitCode.BAD_INPUT),
        ([], "name photos", ExitCode.USAGE),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(
    batch: Batch, arguments: list[str], said: str, code: ExitCode
) -> None:
    assert batch
    with pytest.raises(CommandError, match=said) as refused:
        classify(*arguments)
    assert refused.value.code == code


def test_archived_objects_are_left_out_and_counted(batch: Batch, tmp_path: Path) -> None:
    photographs(batch.stack, "a.jpg")
    batch.stack.s3.put_object(
        Bucket=SOURCE, Key="2026/old.jpg", Body=b"x", StorageClass="DEEP_ARCHIVE"
    )
    listing = inference.Listing(tmp_path)
    listing.list(batch.stack.s3, SOURCE, "2026/")
    assert (listing.images, listing.archived, listing.requests) == (1, 1, 1)
    assert list(from_lines((tmp_path / "00000").read_bytes())) == [
        {"key": "2026/a.jpg", "bytes": 2}
    ]


def test_a_model_of_the_built_in_algorithm_is_refused(batch: Batch) -> None:
    built_in = card(classifier="cars", trainer="builtin")
    batch.stack.put(layout.live_card_key("cars"), built_in.to_json())
    with pytest.raises(CommandError, match="built-in algorithm"):
        inference.new_job(Stack(Target(stack="droplens")), "cars", SOURCE, "", 1)


def test_the_price_of_a_million_images_is_mostly_computing() -> None:
    lines = cost.inference(images=10**6, parts=1000, children=40, vcpus=2, gb=4.0, requests=1001)
    prices = {line.what: cost.Prices().listed(line) for line in lines}
    assert prices["pictures read"] == pytest.approx(0.4, abs=0.01)
    assert 0.1 < prices["Fargate vCPU hours"] < 10


def test_lists_are_the_same_bytes_for_the_same_objects() -> None:
    lines = [{"key": "a b\u2028.jpg", "bytes": 1}]
    assert to_lines(lines) == to_lines(lines)
    assert list(from_lines(to_lines(lines))) == lines
