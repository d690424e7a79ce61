"""Events come up to three times, late, in any order, of a packing in shards: all is done once."""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.e2e.conftest import CLASSES, Cloud
from tests.e2e.drawn import drawing


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


def test_every_event_repeated_and_shuffled_does_everything_once(
    rough_cloud: Cloud, shuffled: random.Random
) -> None:
    cloud = rough_cloud
    pictures = [(label, seed) for label in CLASSES for seed in range(700, 706)]
    shuffled.shuffle(pictures)
    early, late = pictures[:6], pictures[6:]
    for label, seed in early:
        cloud.put(f"input/twice/{label}-{seed}.jpg", drawing(label, seed))
    cloud.upload_dataset("twice")
    run = cloud.ended_run("twice")
    for label, seed in late:
        cloud.put(f"input/twice/{label}-{seed}.jpg", drawing(label, seed))
    keys = [f"results/twice/{label}-{seed}.jpg.json" for label, seed in pictures]
    results = [cloud.result(key) for key in keys]

    assert run["status"] == "live"
    assert len(cloud.runs("twice")) == 1
    sagemaker = cloud.client("sagemaker")
    assert len(sagemaker.list_training_jobs()["TrainingJobSummaries"]) == 1
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
