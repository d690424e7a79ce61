"""Which permissions a request to Batch or SageMaker is checked for."""

from localcloud.emulator.authorization import Permission, needed_for_batch, needed_for_sagemaker

SAGEMAKER = "arn:aws:sagemaker:us-east-1:000000000000:"
BATCH = "arn:aws:batch:us-east-1:000000000000:"
ROLE = "arn:aws:iam::000000000000:role/r"


def test_a_training_job_needs_its_action_its_tags_and_its_role() -> None:
    request = {"TrainingJobName": "Cars-1", "RoleArn": ROLE, "Tags": [{"Key": "k", "Value": "v"}]}
    assert list(needed_for_sagemaker("CreateTrainingJob", request)) == [
        Permission("sagemaker:CreateTrainingJob", SAGEMAKER + "training-job/cars-1"),
        Permission("sagemaker:AddTags", SAGEMAKER + "training-job/cars-1"),
        Permission("iam:PassRole", ROLE, {"iam:PassedToService": "sagemaker.amazonaws.com"}),
    ]


def test_an_endpoint_is_checked_on_its_configuration_too() -> None:
    request = {"EndpointName": "e", "EndpointConfigName": "c"}
    assert {p.resource for p in needed_for_sagemaker("CreateEndpoint", request)} == {
        SAGEMAKER + "endpoint/e",
        SAGEMAKER + "endpoint-config/c",
    }


def test_lists_know_no_resource() -> None:
    assert [p.resource for p in needed_for_sagemaker("ListEndpoints", {})] == ["*"]
    assert [p.resource for p in needed_for_batch("ListJobs", {"jobQueue": "q"})] == ["*"]
    tags = list(needed_for_sagemaker("ListTags", {"ResourceArn": SAGEMAKER + "endpoint/e"}))
    assert tags == [Permission("sagemaker:ListTags", SAGEMAKER + "endpoint/e")]


def test_a_job_is_checked_on_its_queue_its_definition_and_its_tags() -> None:
    request = {"jobName": "j", "jobQueue": "q", "jobDefinition": BATCH + "job-definition/d:3"}
    assert list(needed_for_batch("SubmitJob", {**request, "tags": {"run": "1"}})) == [
        Permission("batch:SubmitJob", BATCH + "job-queue/q"),
        Permission("batch:SubmitJob", BATCH + "job-definition/d:3"),
        Permission("batch:TagResource", BATCH + "job/*"),
    ]
