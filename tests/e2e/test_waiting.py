"""A run that meets a quota of the account, twice, and comes to its model all the same."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.deployed_cloud import Cloud
from tests.support.drawn_images import drawing

TRAINING = "ml.m5.xlarge for training job usage"
SERVERLESS = "Maximum total concurrency that can be allocated across all serverless endpoints"


@pytest.fixture
def account(cloud: Cloud) -> Iterator[Cloud]:
    """The account, whose quotas are what they were afterwards."""
    yield cloud
    cloud.localcloud("quotas", "--published")


def waiting(cloud: Cloud, stage: str) -> dict[str, Any]:
    """Wait until the classifier's run waits at a stage."""

    def waits() -> dict[str, Any] | None:
        for run in cloud.runs("patient"):
            if run["status"] == "waiting" and run["waits_for"]["stage"] == stage:
                return run
            assert run["status"] not in ("failed", "refused"), run
        return None

    run: dict[str, Any] = cloud.eventually(waits, f"a run that waits at stage {stage}")
    return run


def told(cloud: Cloud, queue: str, subject: str) -> str:
    """Wait for a notification; returns its message."""

    def look() -> str | None:
        answer = cloud.client("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
        for message in answer.get("Messages", []):
            body = json.loads(message["Body"])
            if body["Subject"] == subject:
                return str(body["Message"])
        return None

    message: str = cloud.eventually(look, subject)
    return message


def jobs(cloud: Cloud) -> list[str]:
    answer = cloud.client("sagemaker").list_training_jobs(NameContains="patient-")
    return [job["TrainingJobName"] for job in answer["TrainingJobSummaries"]]


def test_a_run_waits_for_quotas_and_goes_on_from_where_it_stood(account: Cloud) -> None:
    notices = account.listen_to_failures("waiting-notices")
    account.localcloud("quotas", "--set", f"{TRAINING}=0", "--set", f"{SERVERLESS}=0")
    account.put("input/patient/early.jpg", drawing("rings", 61))
    account.upload_dataset("patient")

    run = waiting(account, "train")
    assert run["waits_for"]["code"] == "account.quota"
    assert TRAINING in told(account, notices, "Droplens: patient waits at train")
    assert jobs(account) == []

    account.localcloud("quotas", "--set", f"{TRAINING}=4")
    said = account.make("resume-local", "CLASSIFIER=patient")
    assert f"run {run['run_id']} is retried from stage train" in said
    run = waiting(account, "deploy")
    [trained] = jobs(account)
    assert trained == run["training_job"]
    assert SERVERLESS in told(account, notices, "Droplens: patient waits at deploy")

    account.localcloud("quotas", "--set", f"{SERVERLESS}=200")
    account.make("resume-local", "CLASSIFIER=patient", f"RUN={run['run_id']}")
    ended = account.ended_run("patient")
    assert ended["status"] == "live"
    assert jobs(account) == [trained]  # what was trained was not trained again
    result = account.result("results/patient/early.jpg.json")
    assert result["model"]["run_id"] == run["run_id"]

    # What the tries before have left is gone, and a live run has nothing to be resumed.
    looked = account.client("lambda").invoke(
        FunctionName=account.outputs["ResumeFunctionName"],
        Payload=json.dumps({"source": "aws.events"}),
    )
    assert json.load(looked["Payload"]) == {"tried": []}
    models = account.client("sagemaker").list_models(NameContains="patient-")["Models"]
    assert [model["ModelName"] for model in models] == [ended["endpoint"]]
    refused = account.client("lambda").invoke(
        FunctionName=account.outputs["ResumeFunctionName"],
        Payload=json.dumps({"classifier": "patient"}),
    )
    assert "does not wait: it is live" in refused["Payload"].read().decode()
