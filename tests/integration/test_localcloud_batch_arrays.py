"""Array jobs and jobs after others in the local cloud: run, fail, end and are told of as on AWS."""

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.localcloud import Cloud, eventually
from tests.support.localcloud_batch import Jobs

CHILD_STATES = ["PENDING", "RUNNABLE", "STARTING", "RUNNING"]
RETRY_ALL_BUT_1 = {
    "attempts": 2,
    "evaluateOnExit": [
        {"onExitCode": "1", "action": "EXIT"},
        {"onReason": "*", "action": "RETRY"},
    ],
}


class Arrays(Jobs):
    """A queue of two vCPUs, and a definition whose children do as they are told."""

    def __init__(self, cloud: Cloud, vcpus: str = "1"):
        super().__init__(cloud)
        self.definition = self.define(
            "shards",
            parameters={"wanted": "{}"},
            retryStrategy=RETRY_ALL_BUT_1,
            containerProperties={
                "command": ["shard", "Ref::wanted"],
                "resourceRequirements": [
                    {"type": "VCPU", "value": vcpus},
                    {"type": "MEMORY", "value": "2048"},
                ],
            },
        )
        self.plain = self.define("after", containerProperties={"command": ["joined"]})

    def array(self, size: int, wanted: dict[str, Any] | None = None, **changes: Any) -> str:
        parameters = {"wanted": json.dumps(wanted or {})}
        array = {"size": size}
        return self.submit(self.definition, arrayProperties=array, parameters=parameters, **changes)

    def after(self, *jobs: str) -> str:
        return self.submit(self.plain, dependsOn=[{"jobId": job} for job in jobs])

    def children(self, parent: str, status: str) -> dict[str, dict[str, Any]]:
        found = self.batch.list_jobs(arrayJobId=parent, jobStatus=status)["jobSummaryList"]
        return {summary["jobId"]: summary for summary in found}

    def ended(self, job_id: str) -> list[str]:
        """The states that the job's events tell, once they tell its end."""

        def told() -> list[str] | None:
            states = [event["detail"]["status"] for event in self.told(job_id)]
            return states if {"SUCCEEDED", "FAILED"} & set(states) else None

        return eventually(f"the end of {job_id}", told)


@pytest.fixture(scope="module")
def jobs(new_cloud: Callable[[], Cloud]) -> Arrays:
    cloud = new_cloud()
    cloud.up()
    return Arrays(cloud)


def test_every_child_runs_with_its_index_and_a_job_after_them_runs_last(jobs: Arrays) -> None:
    parent_id = jobs.array(3)
    after_id = jobs.after(parent_id)
    after = jobs.wait(after_id)
    assert after["status"] == "SUCCEEDED"
    assert after["dependsOn"] == [{"jobId": parent_id}]

    parent = jobs.describe(parent_id)
    assert parent["status"] == "SUCCEEDED"
    assert parent["arrayProperties"]["size"] == 3
    summary = parent["arrayProperties"]["statusSummary"]
    assert summary.pop("SUCCEEDED") == 3
    assert set(summary.values()) == {0}
    assert parent["attempts"] == []

    for index in range(3):
        child = jobs.describe(f"{parent_id}:{index}")
        assert child["jobArn"] == f"{parent['jobArn']}:{index}"
        assert child["jobName"] == parent["jobName"]
        assert child["arrayProperties"] == {"index": index, "statusSummary": {}}
        assert f"shard {index} of 3" in jobs.lines(child)
        assert child["stoppedAt"] <= after["startedAt"]
        assert jobs.ended(child["jobId"]) == [*CHILD_STATES, "SUCCEEDED"]
    assert jobs.ended(parent_id) == ["SUBMITTED", "PENDING", "SUCCEEDED"]

    [first] = [e for e in jobs.told(f"{parent_id}:0") if e["detail"]["status"] == "SUCCEEDED"]
    assert first["detail"]["arrayProperties"] == {"index": 0, "statusSummary": {}}
    assert first["resources"] == [f"{parent['jobArn']}:0"]
    last = jobs.told(parent_id)[-1]
    assert last["detail"]["arrayProperties"]["size"] == 3
    assert last["detail"]["arrayProperties"]["statusSummary"]["SUCCEEDED"] == 3
    assert "arrayProperties" not in jobs.told(after_id)[-1]["detail"]


def test_a_child_that_fails_fails_its_array_and_what_depends_on_it(jobs: Arrays) -> None:
    parent_id = jobs.array(3, {"0": {"codes": [3, 0]}, "1": {"codes": [1]}})
    after_id = jobs.after(parent_id)
    last_id = jobs.after(after_id)
    last = jobs.wait(last_id)

    assert [jobs.describe(f"{parent_id}:{index}")["status"] for index in range(3)] == [
        "SUCCEEDED", "FAILED", "SUCCEEDED",
    ]  # fmt: skip
    retried = jobs.describe(f"{parent_id}:0")
    assert [attempt["container"]["exitCode"] for attempt in retried["attempts"]] == [3, 0]
    parent = jobs.describe(parent_id)
    assert (parent["status"], parent["statusReason"]) == ("FAILED", "Array Child Job failed")
    assert parent["arrayProperties"]["statusSummary"]["FAILED"] == 1
    for job in (jobs.describe(after_id), last):
        assert (job["status"], job["statusReason"]) == ("FAILED", "Dependent Job failed")
        assert job["attempts"] == []
    assert jobs.ended(after_id) == ["SUBMITTED", "PENDING", "FAILED"]

    [summary] = jobs.children(parent_id, "FAILED").values()
    assert summary["jobId"] == f"{parent_id}:1"
    assert summary["arrayProperties"]["index"] == 1
    assert summary["container"]["exitCode"] == 1
    assert summary["statusReason"] == "Essential container in task exited"
    assert jobs.children(parent_id, "SUCCEEDED").keys() == {f"{parent_id}:0", f"{parent_id}:2"}


def test_an_array_and_its_job_after_are_found_by_name_without_the_children(jobs: Arrays) -> None:
    parent_id = jobs.array(2, jobName="named-shards")
    jobs.wait(parent_id)
    named = [{"name": "JOB_NAME", "values": ["named-*"]}]
    [found] = jobs.batch.list_jobs(jobQueue=jobs.queue, filters=named)["jobSummaryList"]
    assert found["jobId"] == parent_id
    assert found["arrayProperties"]["size"] == 2


def test_a_job_after_one_that_has_ended_does_not_wait(jobs: Arrays) -> None:
    first = jobs.submit(jobs.plain)
    jobs.wait(first)
    assert jobs.wait(jobs.after(first))["status"] == "SUCCEEDED"


def test_terminating_an_array_ends_all_its_children_and_says_why(jobs: Arrays) -> None:
    slow = {str(index): {"seconds": 600} for index in range(4)}
    parent_id = jobs.array(4, slow)
    eventually("a running child", lambda: jobs.children(parent_id, "RUNNING"))
    jobs.batch.terminate_job(jobId=parent_id, reason="no longer needed")
    parent = jobs.wait(parent_id)
    assert (parent["status"], parent["statusReason"]) == ("FAILED", "no longer needed")
    reasons = {child["statusReason"] for child in jobs.children(parent_id, "FAILED").values()}
    assert reasons == {"no longer needed"}
    assert parent["arrayProperties"]["statusSummary"]["FAILED"] == 4


def test_cancelling_an_array_lets_the_running_children_end(jobs: Arrays) -> None:
    parent_id = jobs.array(12, {str(index): {"seconds": 1.5} for index in range(12)})
    eventually("a running child", lambda: jobs.children(parent_id, "RUNNING"))
    jobs.batch.cancel_job(jobId=parent_id, reason="not needed")
    parent = jobs.wait(parent_id)
    assert (parent["status"], parent["statusReason"]) == ("FAILED", "not needed")
    assert jobs.children(parent_id, "SUCCEEDED")
    cancelled = jobs.children(parent_id, "FAILED").values()
    assert {child["statusReason"] for child in cancelled} == {"not needed"}


def test_no_more_children_run_at_once_than_the_queue_has_vcpus_for(
    new_cloud: Callable[[], Cloud],
) -> None:
    cloud = new_cloud()
    cloud.up()
    jobs = Arrays(cloud, vcpus="4")  # of the queue's four
    parent_id = jobs.array(3, {str(index): {"seconds": 0.2} for index in range(3)})
    assert jobs.wait(parent_id)["status"] == "SUCCEEDED"
    children = [jobs.describe(f"{parent_id}:{index}") for index in range(3)]
    spans = sorted((child["startedAt"], child["stoppedAt"]) for child in children)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


def test_after_a_restart_an_array_goes_on_and_an_attempt_that_was_under_way_is_lost(
    new_cloud: Callable[[], Cloud],
) -> None:
    cloud = new_cloud()
    cloud.up()
    jobs = Arrays(cloud)
    whole = jobs.array(2)
    jobs.wait(whole)
    parent_id = jobs.array(2, {"1": {"seconds": 600}})
    after_id = jobs.after(parent_id)
    eventually("a child's end", lambda: jobs.children(parent_id, "SUCCEEDED"))
    eventually("a running child", lambda: jobs.children(parent_id, "RUNNING"))
    cloud.down()
    cloud.up()
    assert jobs.describe(whole)["arrayProperties"]["statusSummary"]["SUCCEEDED"] == 2
    job = jobs.wait(f"{parent_id}:1", "RUNNING")
    [lost] = job["attempts"]
    assert "went down" in lost["statusReason"]
    assert jobs.describe(after_id)["status"] == "PENDING"
    jobs.batch.terminate_job(jobId=parent_id, reason="enough")
    for job_id, reason in ((parent_id, "enough"), (after_id, "Dependent Job failed")):
        job = jobs.wait(job_id)
        assert (job["status"], job["statusReason"]) == ("FAILED", reason)
    assert jobs.describe(f"{parent_id}:0")["status"] == "SUCCEEDED"
    assert jobs.wait(jobs.array(2))["status"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"arrayProperties": {"size": 1}}, "2 to 10000"),
        ({"arrayProperties": {"size": 10_001}}, "2 to 10000"),
        ({"dependsOn": [{"jobId": "nobody"}]}, "nobody does not exist"),
        ({"dependsOn": [{"type": "SEQUENTIAL"}]}, "does not offer"),
        ({"dependsOn": [{"jobId": "nobody"}] * 21}, "at most 20"),
    ],
)
def test_an_array_or_a_dependency_that_cannot_be_is_refused(
    jobs: Arrays, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(ClientError, match=says) as refused:
        jobs.submit(jobs.plain, **change)
    assert refused.value.response["Error"]["Code"] == "ClientException"


def test_jobs_are_listed_by_queue_or_by_array(jobs: Arrays) -> None:
    with pytest.raises(ClientError, match="must be given"):
        jobs.batch.list_jobs(jobStatus="FAILED")
