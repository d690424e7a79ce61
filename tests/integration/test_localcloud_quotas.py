"""A new account's quotas: enforced, shown by Service Quotas, and raised on request."""

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.localcloud import Cloud, eventually
from tests.support.localcloud_batch import Jobs
from tests.support.localcloud_sagemaker import SageMaker

SPOT = "ml.m5.xlarge for spot training job usage"
CONCURRENCY = "Maximum total concurrency that can be allocated across all serverless endpoints"


@pytest.fixture(scope="module")
def new_account(new_cloud: Callable[[], Cloud]) -> Cloud:
    cloud = new_cloud()
    cloud.up()
    return cloud


@pytest.fixture(scope="module")
def sagemaker(new_account: Cloud) -> SageMaker:
    return SageMaker(new_account)


@pytest.fixture(scope="module")
def jobs(new_account: Cloud) -> Jobs:
    return Jobs(new_account)


@pytest.fixture
def quotas(new_account: Cloud) -> Any:
    new_account.quotas("--new")
    yield new_account.client("service-quotas")
    new_account.quotas("--new")


def refused(call: Callable[..., Any], *arguments: Any, **request: Any) -> str:
    """The message of a ResourceLimitExceeded."""
    with pytest.raises(ClientError) as caught:
        call(*arguments, **request)
    error = caught.value.response["Error"]
    assert error["Code"] == "ResourceLimitExceeded"
    return str(error["Message"])


def spot(sagemaker: SageMaker, name: str) -> str:
    stopping = {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 120}
    return sagemaker.train(name, EnableManagedSpotTraining=True, StoppingCondition=stopping)


def test_a_new_account_trains_on_no_spot_instance_until_the_quota_is_raised(
    sagemaker: SageMaker, quotas: Any
) -> None:
    assert refused(spot, sagemaker, "spot-refused").startswith(
        f"The account-level service limit '{SPOT}' is 0 Instances, with current utilization of 0 "
        "Instances and a request delta of 1 Instances. Please use AWS Service Quotas"
    )
    asked = quotas.request_service_quota_increase(
        ServiceCode="sagemaker", QuotaCode="L-4CEE6BA6", DesiredValue=1
    )["RequestedQuota"]
    assert (asked["QuotaName"], asked["DesiredValue"]) == (SPOT, 1)
    job = sagemaker.trained(spot(sagemaker, "spot-granted"))
    assert job["TrainingJobStatus"] == "Completed"


def test_an_instance_is_free_again_when_its_training_has_ended(
    sagemaker: SageMaker, quotas: Any, new_account: Cloud
) -> None:
    new_account.quotas("--set", "L-CCE2AFA6=1")
    sagemaker.train("long", {"sleep": "30"})
    assert "is 1 Instances, with current utilization of 1" in refused(sagemaker.train, "waits")
    sagemaker.api.stop_training_job(TrainingJobName="long")
    sagemaker.trained("long")
    assert sagemaker.trained(sagemaker.train("follows"))["TrainingJobStatus"] == "Completed"


def test_a_gpu_is_not_to_be_had(sagemaker: SageMaker, quotas: Any) -> None:
    resources = {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 10}
    message = refused(sagemaker.train, "gpu", ResourceConfig=resources)
    assert "'ml.g5.xlarge for training job usage' is 0 Instances" in message


def test_serverless_endpoints_share_a_concurrency_of_ten(
    sagemaker: SageMaker, quotas: Any, new_account: Cloud
) -> None:
    def of(count: int) -> dict[str, Any]:
        return {"ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": count}}

    for name in ("live", "candidate"):
        sagemaker.serve(name, **of(5))
    assert refused(sagemaker.serve, "third", **of(1)).startswith(
        f"The account-level service limit '{CONCURRENCY}' is 10 None, with current utilization of "
        "10 None and a request delta of 1 None."
    )
    # A second attempt with the same configuration succeeds once one of them is gone.
    sagemaker.served("live", "InService")
    sagemaker.api.delete_endpoint(EndpointName="live")

    def taken() -> bool:
        try:
            sagemaker.api.create_endpoint(EndpointName="third", EndpointConfigName="third")
        except sagemaker.api.exceptions.ResourceLimitExceeded:
            return False
        return True

    eventually("the third is made", taken)
    new_account.quotas("--set", "L-99AD19BF=2")
    assert "'Maximum number of serverless endpoints' is 2" in refused(
        sagemaker.serve, "fourth", **of(1)
    )


def test_a_real_time_endpoint_takes_instances_of_its_type(
    sagemaker: SageMaker, quotas: Any, new_account: Cloud
) -> None:
    new_account.quotas("--set", "ml.c5.large for endpoint usage=0")
    message = refused(
        sagemaker.serve, "instances", InstanceType="ml.c5.large", InitialInstanceCount=1
    )
    assert "'ml.c5.large for endpoint usage' is 0 Instances" in message


def test_jobs_beyond_the_account_s_vcpus_wait_and_are_not_refused(
    new_account: Cloud, jobs: Jobs, quotas: Any
) -> None:
    new_account.quotas("--set", "L-3032A538=0.5")
    job_id = jobs.submit(jobs.define("waits"))

    def runnable() -> bool:
        return bool(jobs.describe(job_id)["status"] == "RUNNABLE")

    eventually("it waits", runnable)
    assert jobs.describe(job_id).get("startedAt") is None
    new_account.quotas("--set", "L-3032A538=1")
    assert jobs.wait(job_id)["status"] == "SUCCEEDED"


def test_a_job_that_can_never_run_is_ended_on_request(
    new_account: Cloud, jobs: Jobs, quotas: Any
) -> None:
    new_account.quotas("--set", "L-3032A538=0")
    job_id = jobs.submit(jobs.define("never"))
    eventually("it waits", lambda: jobs.describe(job_id)["status"] == "RUNNABLE")
    jobs.batch.terminate_job(jobId=job_id, reason="not needed")
    job = jobs.wait(job_id)
    assert (job["status"], job["statusReason"]) == ("FAILED", "not needed")


def test_service_quotas_shows_what_is_enforced(quotas: Any, new_account: Cloud) -> None:
    shown = {
        quota["QuotaCode"]: quota["Value"]
        for page in quotas.get_paginator("list_service_quotas").paginate(
            ServiceCode="sagemaker", PaginationConfig={"PageSize": 7}
        )
        for quota in page["Quotas"]
    }
    assert (shown["L-4CEE6BA6"], shown["L-96300102"], shown["L-99AD19BF"]) == (0, 10, 5)
    new_account.quotas("--set", f"{CONCURRENCY}=40")
    one = quotas.get_service_quota(ServiceCode="sagemaker", QuotaCode="L-96300102")["Quota"]
    assert (one["Value"], one["QuotaName"]) == (40, CONCURRENCY)
    published = quotas.get_aws_default_service_quota(ServiceCode="fargate", QuotaCode="L-3032A538")[
        "Quota"
    ]
    assert published["Value"] == 6
    assert "40\t" + CONCURRENCY in new_account.quotas()


@pytest.mark.parametrize(
    ("operation", "request_", "code"),
    [
        ("get_service_quota", {"ServiceCode": "sagemaker"}, "NoSuchResourceException"),
        ("get_service_quota", {"ServiceCode": "nothing"}, "NoSuchResourceException"),
        (
            "request_service_quota_increase",
            {"ServiceCode": "fargate", "QuotaCode": "L-3032A538", "DesiredValue": 1.0},
            "IllegalArgumentException",
        ),
    ],
)
def test_what_service_quotas_does_not_know_is_refused(
    quotas: Any, operation: str, request_: dict[str, Any], code: str
) -> None:
    with pytest.raises(ClientError) as caught:
        getattr(quotas, operation)(**{"QuotaCode": "L-00000000", **request_})
    assert caught.value.response["Error"]["Code"] == code


@pytest.mark.parametrize("change", ["L-4CEE6BA6", "L-4CEE6BA6=many", "L-12345678=1"])
def test_a_change_that_cannot_be_made_is_refused(new_account: Cloud, change: str) -> None:
    result = new_account.cli("quotas", "--set", change)
    assert result.returncode == 1
    assert change.partition("=")[0] in result.stderr


def test_quotas_outlive_a_restart(new_account: Cloud, quotas: Any) -> None:
    new_account.quotas("--set", "L-4CEE6BA6=3")
    new_account.down()
    new_account.up()
    quota = quotas.get_service_quota(ServiceCode="sagemaker", QuotaCode="L-4CEE6BA6")["Quota"]
    assert quota["Value"] == 3
