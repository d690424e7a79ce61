"""Events come up to three times, late, in any order, of a packing in shards: all is done once."""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.support import console_in_browser
from tests.support.console_in_browser import Seen
from tests.support.deployed_cloud import CLASSES, KEY, Cloud
from tests.support.drawn_images import drawing


def packing_jobs(cloud: Cloud, classifier: str) -> list[dict[str, Any]]:
    """The classifier's Batch jobs, without the children of arrays."""
    found: list[dict[str, Any]] = cloud.client("batch").list_jobs(
        jobQueue=cloud.outputs["JobQueueArn"],
        filters=[{"name": "JOB_NAME", "values": [f"droplens--{classifier}-*"]}],
    )["jobSummaryList"]
    return found


@contextmanager
def forbidden(cloud: Cloud, key: str) -> Iterator[None]:
    """Within, nobody may read the object."""
    s3 = cloud.client("s3")
    policy = s3.get_bucket_policy(Bucket=cloud.bucket)["Policy"]
    changed = json.loads(policy)
    changed["Statement"].append(
        {
            "Sid": "Forbidden",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:GetObject",
            "Resource": f"arn:aws:s3:::{cloud.bucket}/{key}",
        }
    )
    s3.put_bucket_policy(Bucket=cloud.bucket, Policy=json.dumps(changed))
    try:
        yield
    finally:
        s3.put_bucket_policy(Bucket=cloud.bucket, Policy=policy)


IN_ORDER = [(label, seed) for label in CLASSES for seed in range(700, 706)]
PICTURES = random.Random(7).sample(IN_ORDER, len(IN_ORDER))


@pytest.fixture(scope="module")
def run(rough_cloud: Cloud) -> dict[str, Any]:
    """The run of a classifier "twice", for which six pictures came before its dataset."""
    for label, seed in PICTURES[:6]:
        rough_cloud.put(f"input/twice/{label}-{seed}.jpg", drawing(label, seed))
    rough_cloud.upload_dataset("twice")
    return rough_cloud.ended_run("twice")


def test_every_event_repeated_and_shuffled_does_everything_once(
    rough_cloud: Cloud, run: dict[str, Any]
) -> None:
    cloud, pictures, late = rough_cloud, PICTURES, PICTURES[6:]
    for label, seed in late:
        cloud.put(f"input/twice/{label}-{seed}.jpg", drawing(label, seed))
    keys = [f"results/twice/{label}-{seed}.jpg.json" for label, seed in pictures]
    results = [cloud.result(key) for key in keys]

    assert run["status"] == "live"
    assert len(cloud.runs("twice")) == 1
    sagemaker = cloud.client("sagemaker")
    [job] = sagemaker.list_training_jobs()["TrainingJobSummaries"]
    assert job["TrainingJobName"] == run["training_job"]
    assert len(sagemaker.list_endpoints()["Endpoints"]) == 1
    assert run["packing_shards"] == 2
    jobs = packing_jobs(cloud, "twice")
    assert {job["jobId"] for job in jobs} == {run["batch_array_id"], run["batch_job_id"]}
    assert {job["status"] for job in jobs} == {"SUCCEEDED"}
    dataset = json.loads(cloud.get(f"packed/twice/{run['run_id']}/dataset.json") or b"")
    assert dataset["counts"]["train"] + dataset["counts"]["validation"] == 42
    assert {result["model"]["run_id"] for result in results} == {run["run_id"]}

    def queue_is_empty() -> bool | None:
        attributes = cloud.client("sqs").get_queue_attributes(
            QueueUrl=cloud.outputs["PictureQueueUrl"],
            AttributeNames=[
                "ApproximateNumberOfMessages",
                "ApproximateNumberOfMessagesNotVisible",
            ],
        )["Attributes"]
        return True if all(value == "0" for value in attributes.values()) else None

    cloud.eventually(queue_is_empty, "an empty picture queue")
    assert [cloud.versions(key) for key in keys] == [1] * len(keys)


def test_a_shard_that_fails_is_one_failure_in_its_own_words(rough_cloud: Cloud) -> None:
    cloud, unreadable = rough_cloud, "datasets/barred/rings/07.jpg"
    with forbidden(cloud, unreadable):
        cloud.upload_dataset("barred")
        run = cloud.ended_run("barred")

        def ended() -> list[dict[str, Any]] | None:
            jobs = packing_jobs(cloud, "barred")
            return jobs if all(job["status"] == "FAILED" for job in jobs) else None

        jobs = cloud.eventually(ended, "the end of the array and of what waits for it")
    reasons = {job["jobId"]: job["statusReason"] for job in jobs}
    assert reasons == {
        run["batch_array_id"]: "Array Child Job failed",
        run["batch_job_id"]: "Dependent Job failed",
    }
    assert run["status"] == "failed"
    assert run["error"]["code"] == "packing.failed"
    assert unreadable in run["error"]["message"]
    assert "child" in run["error"]["message"]
    assert "exit code 75" in run["error"]["message"]
    assert "training_job" not in run
    [again] = cloud.runs("barred")
    assert again["error"] == run["error"]


def test_with_a_key_of_the_user_s_a_model_is_written_with_it(
    rough_cloud: Cloud, run: dict[str, Any]
) -> None:
    sagemaker = rough_cloud.client("sagemaker")
    job = sagemaker.describe_training_job(TrainingJobName=run["training_job"])
    assert job["OutputDataConfig"]["KmsKeyId"] == KEY


@pytest.fixture(scope="module")
def with_approval(rough_cloud: Cloud, run: dict[str, Any]) -> Cloud:
    """The same cloud, deployed anew with models that wait for a person."""
    assert run["status"] == "live"
    live_card, stack = "models/twice/live.json", rough_cloud.outputs
    before = rough_cloud.get(live_card), rough_cloud.runs("twice")
    rough_cloud.deploy(PARAMETERS=rough_cloud.environment["PARAMETERS"] + " Approval=manual")
    assert rough_cloud.outputs == stack
    assert (rough_cloud.get(live_card), rough_cloud.runs("twice")) == before
    return rough_cloud


def test_a_deployment_with_other_settings_keeps_everything(
    with_approval: Cloud, run: dict[str, Any]
) -> None:
    cloud, (label, seed) = with_approval, PICTURES[0]
    assert cloud.versions(f"results/twice/{label}-{seed}.jpg.json") == 1
    cloud.put("input/twice/afterwards.jpg", drawing(label, seed))
    answer = cloud.result("results/twice/afterwards.jpg.json")
    assert answer["model"]["run_id"] == run["run_id"]


@pytest.fixture
def address(with_approval: Cloud) -> Iterator[str]:
    with console_in_browser.served(with_approval) as found:
        yield found


def test_models_wait_for_a_person_who_promotes_one_and_rejects_the_next(
    with_approval: Cloud, seen: Seen
) -> None:
    cloud, sagemaker = with_approval, with_approval.client("sagemaker")

    def waiting(count: int) -> dict[str, Any]:
        """The run of the dataset that was uploaded last, whose model waits, on its page."""

        def newest() -> dict[str, Any] | None:
            runs = cloud.runs("asked")
            waits = len(runs) == count and runs[-1]["status"] == "awaiting_approval"
            return runs[-1] if waits else None

        found: dict[str, Any] = cloud.eventually(newest, "a run that awaits approval")
        page = seen.open("/")
        page.get_by_role("link", name="model of asked to promote or reject").click()
        page.get_by_role("link", name=f"the model of run {found['run_id']}").click()
        return found

    def decided(run: dict[str, Any], button: str, status: str, mark: str) -> None:
        page = seen.page
        page.get_by_label("Reason").fill(f"{button}, by ann")
        seen.screenshot(f"decision-{button}")
        page.get_by_role("button", name=button).click()
        page.wait_for_url(f"**/runs/asked/{run['run_id']}")
        expect(page.locator("#stages .mark")).to_have_text(mark, timeout=120_000)
        seen.screenshot(f"decided-{button}")
        package = sagemaker.describe_model_package(ModelPackageName=run["model_package"])
        kept = package["ModelApprovalStatus"], package["ApprovalDescription"]
        assert kept == (status, f"{button}, by ann")

    cloud.put("input/asked/early.jpg", drawing("checks", 900))
    cloud.upload_dataset("asked")
    first = waiting(1)
    assert cloud.get("models/asked/live.json") is None
    decided(first, "Promote", "Approved", "live")
    answer = cloud.result("results/asked/early.jpg.json")
    assert answer["model"]["run_id"] == first["run_id"]

    cloud.upload_dataset("asked", seed=1)
    second = waiting(2)
    decided(second, "Reject", "Rejected", "refused")
    refused = cloud.runs("asked")[-1]
    assert "Reject, by ann" in refused["error"]["message"]
    assert json.loads(cloud.get("models/asked/live.json") or b"")["run_id"] == first["run_id"]

    def removed() -> bool | None:  # deleting an endpoint takes a while
        found = sagemaker.list_endpoints()["Endpoints"]
        return second["endpoint"] not in [one["EndpointName"] for one in found] or None

    cloud.eventually(removed, "the removal of the rejected model's endpoint")
    assert seen.complaints == []


def what_there_is(cloud: Cloud) -> dict[str, list[str]]:
    """All that the stack and its journey make, by kind; without what sam keeps for every stack."""

    def listed(service: str, call: str, answer: str, name: str = "", **request: Any) -> list[str]:
        found = getattr(cloud.client(service), call)(**request)[answer]
        names = [entry[name] if name else entry for entry in found]
        return [one for one in names if "aws-sam-cli" not in one]

    return {
        "alarms": listed("cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName"),
        "buckets": listed("s3", "list_buckets", "Buckets", "Name"),
        "functions": listed("lambda", "list_functions", "Functions", "FunctionName"),
        "job definitions": listed(
            "batch",
            "describe_job_definitions",
            "jobDefinitions",
            "jobDefinitionName",
            status="ACTIVE",
        ),
        "job queues": listed("batch", "describe_job_queues", "jobQueues", "jobQueueName"),
        "logs": listed("logs", "describe_log_groups", "logGroups", "logGroupName"),
        "endpoints": listed("sagemaker", "list_endpoints", "Endpoints", "EndpointName"),
        "endpoint configs": listed(
            "sagemaker", "list_endpoint_configs", "EndpointConfigs", "EndpointConfigName"
        ),
        "models": listed("sagemaker", "list_models", "Models", "ModelName"),
        "registry": listed(
            "sagemaker",
            "list_model_package_groups",
            "ModelPackageGroupSummaryList",
            "ModelPackageGroupName",
        ),
        "queues": cloud.client("sqs").list_queues().get("QueueUrls", []),
        "repositories": listed("ecr", "describe_repositories", "repositories", "repositoryName"),
        "roles": listed("iam", "list_roles", "Roles", "RoleName"),
        "rules": listed("events", "list_rules", "Rules", "Name"),
        "stacks": listed(
            "cloudformation",
            "list_stacks",
            "StackSummaries",
            "StackName",
            StackStatusFilter=["CREATE_COMPLETE", "UPDATE_COMPLETE", "DELETE_FAILED"],
        ),
        "tables": listed("dynamodb", "list_tables", "TableNames"),
        "topics": listed("sns", "list_topics", "Topics", "TopicArn"),
    }


@pytest.mark.usefixtures("run")
def test_removed_at_last_nothing_is_left(rough_cloud: Cloud) -> None:
    before = what_there_is(rough_cloud)
    assert [kind for kind, names in before.items() if not names] == []
    assert "nothing is left of droplens" in rough_cloud.make("destroy-local", "YES=1")
    left = {kind: names for kind, names in what_there_is(rough_cloud).items() if names}
    # SageMaker's group is the whole account's, and the runs' streams in it are gone; in the other
    # the local cloud notes what topics have sent.
    assert left == {"logs": ["/aws/sagemaker/TrainingJobs", "sns/notifications"]}
