"""Batch in the local cloud: jobs are processes, and everything AWS would tell of them is told."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.localcloud import ACCOUNT, REGION, Cloud, eventually, image
from tests.support.localcloud_batch import Jobs

STATES = ["SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING"]


@pytest.fixture(scope="module")
def jobs(cloud: Cloud) -> Jobs:
    return Jobs(cloud)


def test_a_job_gets_its_parameters_and_tells_of_every_state(jobs: Jobs) -> None:
    definition = jobs.define(
        "parameters",
        parameters={"from": "default", "size": "256"},
        containerProperties={
            "command": ["Ref::from", "Ref::size", "Ref::unknown", "/opt/program/x"],
            "environment": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
        },
        tags={"of": "definition"},
        propagateTags=True,
    )
    job_id = jobs.submit(
        definition,
        parameters={"from": "given"},
        containerOverrides={"environment": [{"name": "B", "value": "3"}]},
        tags={"run": "r1"},
    )
    job = jobs.wait(job_id)
    assert job["status"] == "SUCCEEDED"
    assert job["statusReason"] == "Essential container in task exited"
    assert [attempt["container"]["exitCode"] for attempt in job["attempts"]] == [0]
    (line,) = [line for line in jobs.lines(job) if line.startswith("arguments ")]
    *words, path = json.loads(line.removeprefix("arguments "))
    assert words == ["given", "256", "Ref::unknown"]
    assert path.endswith("/opt/program/x")  # the folder that stands for it

    def all_told() -> bool:
        return len(jobs.told(job_id)) == len(STATES) + 1

    eventually("six events", all_told)
    events = jobs.told(job_id)
    assert [event["detail"]["status"] for event in events] == [*STATES, "SUCCEEDED"]
    last = events[-1]
    arn = f"arn:aws:batch:{REGION}:{ACCOUNT}:job/{job_id}"
    assert (last["source"], last["detail-type"]) == ("aws.batch", "Batch Job State Change")
    assert last["resources"] == [arn] == [last["detail"]["jobArn"]]
    detail = last["detail"]
    assert detail["jobQueue"] == jobs.queue
    assert detail["jobDefinition"] == definition
    assert detail["parameters"] == {"from": "given", "size": "256"}
    assert detail["tags"] == {"resourceArn": arn, "of": "definition", "run": "r1"}
    assert detail["container"]["exitCode"] == 0
    assert {"name": "B", "value": "3"} in detail["container"]["environment"]
    assert isinstance(detail["createdAt"], int)
    assert detail["createdAt"] <= detail["startedAt"] <= detail["stoppedAt"]


def test_a_job_has_its_roles_credentials_and_nothing_of_the_callers_environment(
    jobs: Jobs,
) -> None:
    definition = jobs.define(
        "environment",
        containerProperties={
            "command": ["environment"],
            "environment": [{"name": "GIVEN", "value": "/opt/program/data"}],
        },
    )
    job = jobs.wait(jobs.submit(definition))
    (line,) = [line for line in jobs.lines(job) if line.startswith("ENVIRONMENT ")]
    seen = json.loads(line.removeprefix("ENVIRONMENT "))
    assert seen.keys() <= {
        "PATH", "LANG", "HOME", "TMPDIR", "PYTHONNOUSERSITE", "LC_CTYPE",
        "PYTHONUNBUFFERED", "PROGRAM_HOME", "GIVEN",
        "AWS_BATCH_JOB_ID", "AWS_BATCH_JOB_ATTEMPT", "AWS_BATCH_JQ_NAME",
        "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_EC2_METADATA_DISABLED",
    }  # fmt: skip
    assert seen["AWS_BATCH_JOB_ID"] == job["jobId"]
    assert seen["PROGRAM_HOME"].endswith("/opt/program")
    assert seen["GIVEN"] == seen["PROGRAM_HOME"] + "/data"
    assert seen["AWS_ACCESS_KEY_ID"].startswith("ASIA")


def test_a_failed_attempt_is_tried_again_as_often_as_the_definition_says(jobs: Jobs) -> None:
    definition = jobs.define(
        "retry",
        retryStrategy={"attempts": 2},
        containerProperties={"command": ["fail-once"]},
    )
    job = jobs.wait(jobs.submit(definition))
    assert job["status"] == "SUCCEEDED"
    assert [attempt["container"]["exitCode"] for attempt in job["attempts"]] == [3, 0]
    eventually("its last event", lambda: jobs.told(job["jobId"])[-1]["detail"].get("stoppedAt"))
    told = [event["detail"]["status"] for event in jobs.told(job["jobId"])]
    assert told == [*STATES, "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED"]


def test_an_exit_rule_can_end_a_job_at_its_first_failure(jobs: Jobs) -> None:
    definition = jobs.define(
        "exit-rule",
        retryStrategy={
            "attempts": 3,
            "evaluateOnExit": [{"onExitCode": "1", "action": "EXIT"}],
        },
        containerProperties={"environment": [{"name": "EXIT_CODE", "value": "1"}]},
    )
    job = jobs.wait(jobs.submit(definition))
    assert job["status"] == "FAILED"
    assert len(job["attempts"]) == 1
    assert job["container"]["exitCode"] == 1


def test_log_lines_can_be_read_while_the_job_runs_and_terminating_it_gives_the_reason(
    jobs: Jobs,
) -> None:
    definition = jobs.define("sleeper", containerProperties={"command": ["sleep"]})
    job_id = jobs.submit(definition, jobName="sleeper-1")
    job = jobs.wait(job_id, "RUNNING")
    eventually("a line", lambda: [x for x in jobs.lines(job) if x.startswith("CHILD")])
    assert jobs.describe(job_id)["status"] == "RUNNING"
    running = jobs.batch.list_jobs(jobQueue=jobs.queue)["jobSummaryList"]
    assert job_id in [summary["jobId"] for summary in running]
    named = jobs.batch.list_jobs(
        jobQueue=jobs.queue, filters=[{"name": "JOB_NAME", "values": ["sleeper-*"]}]
    )["jobSummaryList"]
    assert [summary["jobId"] for summary in named] == [job_id]
    jobs.batch.terminate_job(jobId=job_id, reason="no longer needed")
    job = jobs.wait(job_id)
    assert (job["status"], job["statusReason"]) == ("FAILED", "no longer needed")
    assert job["container"]["exitCode"] == 143


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        (image("no-such-image"), "there is no"),
        (f"123456789012.dkr.ecr.{REGION}.amazonaws.com/x:1", "can run only on AWS"),
    ],
)
def test_an_image_that_cannot_run_fails_the_job_and_says_why(
    jobs: Jobs, uri: str, says: str
) -> None:
    definition = jobs.define("no-image", containerProperties={"image": uri})
    job = jobs.wait(jobs.submit(definition))
    assert (job["status"], job["statusReason"]) == ("FAILED", "Task failed to start")
    assert says in job["container"]["reason"]
    assert any(says in line for line in jobs.lines(job))


def test_a_role_that_trusts_another_service_fails_the_job(jobs: Jobs) -> None:
    wrong = jobs.cloud.role("wrong-role", "sagemaker.amazonaws.com")
    definition = jobs.define("wrong-role", containerProperties={"jobRoleArn": wrong})
    job = jobs.wait(jobs.submit(definition))
    assert "ecs-tasks.amazonaws.com" in job["container"]["reason"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"jobQueue": "nowhere"}, "nowhere does not exist"),
        ({"jobDefinition": "nothing"}, "nothing does not exist"),
        ({"timeout": {"attemptDurationSeconds": 5}}, "at least 60"),
        (
            {"containerOverrides": {"environment": [{"name": "AWS_BATCH_X", "value": "1"}]}},
            "may not start with AWS_BATCH",
        ),
    ],
)
def test_a_request_that_batch_would_refuse_is_refused(
    jobs: Jobs, change: dict[str, Any], says: str
) -> None:
    definition = jobs.define("refused")
    with pytest.raises(ClientError, match=says) as refused:
        jobs.submit(definition, **change)
    assert refused.value.response["Error"]["Code"] == "ClientException"


FARGATE = {"platformCapabilities": ["FARGATE"]}
EXECUTION = {"executionRoleArn": f"arn:aws:iam::{ACCOUNT}:role/execution"}


def needs(vcpus: str, memory: str) -> list[dict[str, str]]:
    return [{"type": "VCPU", "value": vcpus}, {"type": "MEMORY", "value": memory}]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"containerProperties": {**EXECUTION, "resourceRequirements": needs("2", "2048")}},
            "2048",
        ),
        (
            {"containerProperties": {**EXECUTION, "resourceRequirements": needs("3", "8192")}},
            "3 vCPU",
        ),
        ({"containerProperties": {"resourceRequirements": needs("1", "2048")}}, "executionRoleArn"),
        ({"containerProperties": {**EXECUTION, "privileged": True}}, "privileged"),
        ({"retryStrategy": {"attempts": 11}}, "between 1 and 10"),
        (
            {
                "retryStrategy": {
                    "attempts": 2,
                    "evaluateOnExit": [
                        {"onExitCode": str(code), "action": "EXIT"} for code in range(6)
                    ],
                }
            },
            "At most 5",
        ),
    ],
)
def test_a_definition_that_batch_would_refuse_is_refused(
    jobs: Jobs, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(ClientError, match=says) as refused:
        jobs.define("refused-definition", **{**FARGATE, **change})
    assert refused.value.response["Error"]["Code"] == "ClientException"


def test_a_job_on_fargate_may_not_ask_for_another_pair(jobs: Jobs) -> None:
    properties = {**EXECUTION, "resourceRequirements": needs("2", "4096")}
    definition = jobs.define("pairs", containerProperties=properties, **FARGATE)
    overrides = {"resourceRequirements": [{"type": "VCPU", "value": "8"}]}
    with pytest.raises(ClientError, match="8 vCPU, 4096 MiB"):
        jobs.submit(definition, containerOverrides=overrides)
    assert jobs.wait(jobs.submit(definition))["status"] == "SUCCEEDED"


def test_cloudformation_creates_updates_and_deletes_the_batch_types(
    cloud: Cloud, jobs: Jobs
) -> None:
    template = {
        "Parameters": {"Cpus": {"Type": "Number", "Default": 4}},
        "Resources": {
            "Compute": {
                "Type": "AWS::Batch::ComputeEnvironment",
                "Properties": {
                    "Type": "MANAGED",
                    "ReplaceComputeEnvironment": False,
                    "ComputeResources": {
                        "Type": "FARGATE",
                        "MaxvCpus": {"Ref": "Cpus"},
                        "Subnets": ["subnet-1"],
                        "SecurityGroupIds": ["sg-1"],
                    },
                },
            },
            "Queue": {
                "Type": "AWS::Batch::JobQueue",
                "Properties": {
                    "JobQueueName": "stack-queue",
                    "Priority": "1",
                    "ComputeEnvironmentOrder": [
                        {"Order": 1, "ComputeEnvironment": {"Ref": "Compute"}}
                    ],
                },
            },
            "Definition": {
                "Type": "AWS::Batch::JobDefinition",
                "Properties": {
                    "Type": "container",
                    "JobDefinitionName": "stack-definition",
                    "Parameters": {"KeepMyCase": "x"},
                    "RetryStrategy": {"Attempts": "2"},
                    "ContainerProperties": {
                        "Image": image("tiny-job"),
                        "Environment": [{"Name": "CPUS", "Value": {"Ref": "Cpus"}}],
                    },
                },
            },
        },
        "Outputs": {
            "Queue": {"Value": {"Ref": "Queue"}},
            "Definition": {"Value": {"Ref": "Definition"}},
            "Compute": {"Value": {"Fn::GetAtt": ["Compute", "ComputeEnvironmentArn"]}},
        },
    }
    stacks, body = cloud.client("cloudformation"), json.dumps(template)

    def outputs(waiter: str) -> dict[str, str]:
        stacks.get_waiter(waiter).wait(StackName="batch", WaiterConfig={"Delay": 1})
        (stack,) = stacks.describe_stacks(StackName="batch")["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    stacks.create_stack(StackName="batch", TemplateBody=body)
    first = outputs("stack_create_complete")
    assert first["Definition"].endswith("job-definition/stack-definition:1")
    (definition,) = _definitions(jobs, "stack-definition", "ACTIVE")
    assert definition["retryStrategy"]["attempts"] == 2
    assert definition["parameters"] == {"KeepMyCase": "x"}

    parameters = [{"ParameterKey": "Cpus", "ParameterValue": "8"}]
    stacks.update_stack(StackName="batch", TemplateBody=body, Parameters=parameters)
    second = outputs("stack_update_complete")
    assert second["Definition"].endswith("job-definition/stack-definition:2")
    assert (second["Queue"], second["Compute"]) == (first["Queue"], first["Compute"])
    (definition,) = _definitions(jobs, "stack-definition", "ACTIVE")
    assert definition["containerProperties"]["environment"] == [{"name": "CPUS", "value": "8"}]
    (compute,) = jobs.batch.describe_compute_environments(computeEnvironments=[second["Compute"]])[
        "computeEnvironments"
    ]
    assert compute["computeResources"]["maxvCpus"] == 8

    stacks.delete_stack(StackName="batch")
    stacks.get_waiter("stack_delete_complete").wait(StackName="batch", WaiterConfig={"Delay": 1})
    assert not _definitions(jobs, "stack-definition", "ACTIVE")
    assert not jobs.batch.describe_job_queues(jobQueues=["stack-queue"])["jobQueues"]


def _definitions(jobs: Jobs, name: str, status: str) -> list[dict[str, Any]]:
    found = jobs.batch.describe_job_definitions(jobDefinitionName=name, status=status)
    return list(found["jobDefinitions"])
