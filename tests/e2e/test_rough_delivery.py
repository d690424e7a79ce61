"""Events come up to three times, late, in any order, of a packing in shards: all is done once."""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

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


def test_a_deployment_with_other_settings_keeps_everything_and_they_count_from_now_on(
    rough_cloud: Cloud, run: dict[str, Any]
) -> None:
    cloud, live_card = rough_cloud, "models/twice/live.json"
    before = cloud.get(live_card), cloud.runs("twice")
    stack = cloud.outputs
    cloud.deploy(PARAMETERS=cloud.environment["PARAMETERS"] + " Approval=manual")
    assert cloud.outputs == stack
    assert (cloud.get(live_card), cloud.runs("twice")) == before
    label, seed = PICTURES[0]
    assert cloud.versions(f"results/twice/{label}-{seed}.jpg.json") == 1
    cloud.put("input/twice/afterwards.jpg", drawing(label, seed))
    answer = cloud.result("results/twice/afterwards.jpg.json")
    assert answer["model"]["run_id"] == run["run_id"]

    cloud.put("input/asked/early.jpg", drawing("checks", 900))
    cloud.upload_dataset("asked")

    def waiting() -> dict[str, Any] | None:
        runs = cloud.runs("asked")
        return runs[0] if runs and runs[0]["status"] == "awaiting_approval" else None

    asked = cloud.eventually(waiting, "a run that awaits approval")
    assert cloud.get("models/asked/live.json") is None
    cloud.client("sagemaker").update_model_package(
        ModelPackageArn=asked["model_package"], ModelApprovalStatus="Approved"
    )
    assert cloud.ended_run("asked")["status"] == "live"
    answer = cloud.result("results/asked/early.jpg.json")
    assert answer["model"]["run_id"] == asked["run_id"]


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
