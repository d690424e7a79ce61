"""AWS Batch of a local cloud, for tests."""

from typing import Any

from tests.support.localcloud import Cloud, eventually, image


class Jobs:
    """A queue, a role, and job definitions made as a test needs them."""

    def __init__(self, cloud: Cloud):
        self.cloud = cloud
        self.batch = cloud.client("batch")
        self.role = cloud.role("job-role", "ecs-tasks.amazonaws.com")
        compute = self.batch.create_compute_environment(
            computeEnvironmentName="compute",
            type="MANAGED",
            computeResources={"type": "FARGATE", "maxvCpus": 4, "subnets": ["subnet-1"]},
        )
        order = [{"order": 1, "computeEnvironment": compute["computeEnvironmentArn"]}]
        self.queue = self.batch.create_job_queue(
            jobQueueName="queue", priority=1, computeEnvironmentOrder=order
        )["jobQueueArn"]
        self.events = cloud.queue_of_events("batch-events", {"source": ["aws.batch"]})

    def define(self, name: str, **changes: Any) -> str:
        container = {
            "image": image("tiny-job"),
            "command": [],
            "jobRoleArn": self.role,
            "resourceRequirements": [
                {"type": "VCPU", "value": "1"},
                {"type": "MEMORY", "value": "2048"},
            ],
            **changes.pop("containerProperties", {}),
        }
        answer = self.batch.register_job_definition(
            jobDefinitionName=name, type="container", containerProperties=container, **changes
        )
        return str(answer["jobDefinitionArn"])

    def submit(self, definition: str, **changes: Any) -> str:
        request = {"jobName": "job", "jobQueue": self.queue, "jobDefinition": definition}
        return str(self.batch.submit_job(**{**request, **changes})["jobId"])

    def describe(self, job_id: str) -> dict[str, Any]:
        (job,) = self.batch.describe_jobs(jobs=[job_id])["jobs"]
        return dict(job)

    def wait(self, job_id: str, *states: str) -> dict[str, Any]:
        wanted = states or ("SUCCEEDED", "FAILED")
        return eventually(
            f"job in {wanted}",
            lambda: job if (job := self.describe(job_id))["status"] in wanted else None,
        )

    def lines(self, job: dict[str, Any]) -> list[str]:
        return self.cloud.log_lines("/aws/batch/job", job["container"]["logStreamName"])

    def told(self, job_id: str) -> list[dict[str, Any]]:
        return [e for e in self.events() if e["detail"]["jobId"] == job_id]
