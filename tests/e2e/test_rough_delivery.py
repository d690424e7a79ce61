"""Events come up to three times, late, in any order: one run, one job, one model, one result."""

import random

from tests.e2e.conftest import CLASSES, Cloud
from tests.e2e.drawn import drawing


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
    jobs = cloud.client("batch").list_jobs(
        jobQueue=cloud.outputs["JobQueueArn"],
        filters=[{"name": "JOB_NAME", "values": ["droplens-twice-*"]}],
    )["jobSummaryList"]
    assert len(jobs) == 1
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
