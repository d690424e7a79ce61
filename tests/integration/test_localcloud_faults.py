"""Trouble that the local cloud is asked to make: it comes, is of the real kind, and ends."""

import contextlib
import json
import time
from collections.abc import Callable

import pytest
from botocore.exceptions import ClientError

from tests.support.localcloud import Cloud, eventually
from tests.support.localcloud_sagemaker import SageMaker

SLEEPER = """
import time
def handler(event, context):
    time.sleep(event["seconds"])
    return "slept"
"""


@pytest.fixture(scope="module")
def troubled(new_cloud: Callable[[], Cloud]) -> SageMaker:
    """A cloud of this module's own, with an endpoint in it."""
    cloud = new_cloud()
    cloud.up()
    sagemaker = SageMaker(cloud)
    sagemaker.served(sagemaker.serve("model"), "InService")
    return sagemaker


def trouble(cloud: Cloud, *options: str) -> str:
    done = cloud.cli("trouble", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refusal(sagemaker: SageMaker) -> str | None:
    """The code of InvokeEndpoint's error, or None where it answered."""
    try:
        sagemaker.invoke("model", b"hello")
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return None


@pytest.mark.parametrize(
    ("option", "code"), [("--throttle", "ThrottlingException"), ("--fail", "ModelError")]
)
def test_an_endpoint_is_troubled_until_it_is_told_to_stop(
    troubled: SageMaker, option: str, code: str
) -> None:
    assert trouble(troubled.cloud, option, "1") == "trouble\n"
    eventually(code, lambda: refusal(troubled) == code)

    assert trouble(troubled.cloud) == "no trouble any more\n"
    eventually("an answer", lambda: refusal(troubled) is None)


def test_an_endpoints_process_is_killed_and_comes_back(troubled: SageMaker) -> None:
    def process() -> int | None:
        try:
            return int(json.loads(troubled.invoke("model", b"hello")["Body"].read())["pid"])
        except ClientError:
            return None

    first = process()
    trouble(troubled.cloud, "--kill-endpoints", "2")
    eventually("another process", lambda: process() not in (first, None))
    trouble(troubled.cloud)


def test_an_endpoint_answers_while_sagemaker_updates_it(troubled: SageMaker) -> None:
    trouble(troubled.cloud, "--system-updates", "0.1")
    troubled.served("model", "SystemUpdating")
    trouble(troubled.cloud)
    if troubled.served("model")["EndpointStatus"] == "SystemUpdating":
        with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
            troubled.api.delete_endpoint(EndpointName="model")
    assert refusal(troubled) is None
    troubled.served("model", "InService")

    def told() -> set[str]:
        found = {
            event["detail"]["EndpointStatus"]
            for event in troubled.events()
            if event["detail"].get("EndpointName") == "model"
        }
        return found if "SYSTEM_UPDATING" in found else set()

    assert "IN_SERVICE" in eventually("its event", told)


def test_a_new_configuration_is_not_found_for_a_moment(troubled: SageMaker) -> None:
    trouble(troubled.cloud, "--propagation", "3")
    time.sleep(0.5)
    troubled.model("fresh", {})
    with pytest.raises(ClientError, match='Could not find model "arn:') as refused:
        troubled.config("fresh")
    assert refused.value.response["Error"]["Code"] == "ValidationException"

    def made(call: Callable[[], object]) -> Callable[[], bool]:
        def attempt() -> bool:
            with contextlib.suppress(ClientError):
                call()
                return True
            return False

        return attempt

    eventually("the model is found", made(lambda: troubled.config("fresh")))
    create = troubled.api.create_endpoint
    with pytest.raises(ClientError, match='Could not find endpoint configuration "arn:'):
        create(EndpointName="fresh", EndpointConfigName="fresh")
    eventually(
        "the configuration is found",
        made(lambda: create(EndpointName="fresh", EndpointConfigName="fresh")),
    )
    trouble(troubled.cloud)


def test_there_is_no_capacity_for_training_and_for_instances(troubled: SageMaker) -> None:
    trouble(troubled.cloud, "--no-capacity", "1")
    time.sleep(0.5)
    job = troubled.trained(troubled.train("no-capacity"))
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("CapacityError: Unable to provision requested ML")
    name = troubled.serve("no-capacity", InstanceType="ml.m5.large", InitialInstanceCount=1)
    endpoint = troubled.served(name)
    assert endpoint["EndpointStatus"] == "Failed"
    assert "InsufficientInstanceCapacity" in endpoint["FailureReason"]
    trouble(troubled.cloud)


def test_a_role_that_was_just_made_cannot_be_assumed(troubled: SageMaker) -> None:
    trouble(troubled.cloud, "--iam-delay", "3")
    time.sleep(0.5)
    fresh = troubled.cloud.role("fresh-role", "sagemaker.amazonaws.com")
    with pytest.raises(ClientError, match="Could not assume role"):
        troubled.train("fresh-role", RoleArn=fresh)

    def trained() -> bool:
        try:
            troubled.train("fresh-role", RoleArn=fresh)
        except ClientError:
            return False
        return True

    eventually("the role is known", trained)
    trouble(troubled.cloud)


def test_a_worker_is_killed_only_while_it_works(troubled: SageMaker) -> None:
    cloud = troubled.cloud
    cloud.function("sleeper", SLEEPER, Timeout=60)
    assert cloud.invoke("sleeper", {"seconds": 0}) == "slept"

    trouble(cloud, "--kill-workers", "0.1")
    answer = cloud.client("lambda").invoke(
        FunctionName="sleeper", Payload=json.dumps({"seconds": 50})
    )
    assert answer["FunctionError"] == "Unhandled"
    trouble(cloud)
    assert cloud.invoke("sleeper", {"seconds": 0}) == "slept"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--throttle", "0.7", "--fail", "0.7"), "together they are at most 1"),
        (("--kill-workers", "-1"), "kill_workers must not be negative"),
        (("--no-capacity", "2"), "at most 1"),
    ],
)
def test_trouble_that_cannot_be_is_refused(
    troubled: SageMaker, options: tuple[str, ...], says: str
) -> None:
    done = troubled.cloud.cli("trouble", *options)
    assert done.returncode == 1
    assert says in done.stderr


def test_a_cloud_that_starts_is_calm(troubled: SageMaker) -> None:
    trouble(troubled.cloud, "--throttle", "1")
    troubled.cloud.down()
    assert "the cloud is down" in troubled.cloud.cli("trouble").stderr
    troubled.cloud.up()
    eventually("an answer", lambda: refusal(troubled) is None)
