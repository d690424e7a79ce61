"""Fault injection of the local cloud: faults begin, are those of AWS, and end."""

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
def faulty(new_cloud: Callable[[], Cloud]) -> SageMaker:
    """A cloud of this module's own, with an endpoint in it."""
    cloud = new_cloud()
    cloud.up()
    sagemaker = SageMaker(cloud)
    sagemaker.served(sagemaker.serve("model"), "InService")
    return sagemaker


def inject(cloud: Cloud, *options: str) -> str:
    done = cloud.cli("faults", *options)
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
def test_an_endpoint_fails_until_no_fault_is_requested(
    faulty: SageMaker, option: str, code: str
) -> None:
    assert inject(faulty.cloud, option, "1") == "faults are injected\n"
    eventually(code, lambda: refusal(faulty) == code)

    assert inject(faulty.cloud) == "no faults are injected any more\n"
    eventually("an answer", lambda: refusal(faulty) is None)


def test_an_endpoints_process_is_killed_and_comes_back(faulty: SageMaker) -> None:
    def process() -> int | None:
        try:
            return int(json.loads(faulty.invoke("model", b"hello")["Body"].read())["pid"])
        except ClientError:
            return None

    first = process()
    inject(faulty.cloud, "--kill-endpoints", "2")
    eventually("another process", lambda: process() not in (first, None))
    inject(faulty.cloud)


def test_an_endpoint_answers_while_sagemaker_updates_it(faulty: SageMaker) -> None:
    inject(faulty.cloud, "--system-updates", "0.1")
    faulty.served("model", "SystemUpdating")
    inject(faulty.cloud)
    if faulty.served("model")["EndpointStatus"] == "SystemUpdating":
        with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
            faulty.api.delete_endpoint(EndpointName="model")
    assert refusal(faulty) is None
    faulty.served("model", "InService")

    def reported() -> set[str]:
        found = {
            event["detail"]["EndpointStatus"]
            for event in faulty.events()
            if event["detail"].get("EndpointName") == "model"
        }
        return found if "SYSTEM_UPDATING" in found else set()

    assert "IN_SERVICE" in eventually("its event", reported)


def test_a_new_configuration_is_not_found_for_a_moment(faulty: SageMaker) -> None:
    inject(faulty.cloud, "--propagation", "3")
    time.sleep(0.5)
    faulty.model("fresh", {})
    with pytest.raises(ClientError, match='Could not find model "arn:') as refused:
        faulty.config("fresh")
    assert refused.value.response["Error"]["Code"] == "ValidationException"

    def made(call: Callable[[], object]) -> Callable[[], bool]:
        def attempt() -> bool:
            with contextlib.suppress(ClientError):
                call()
                return True
            return False

        return attempt

    eventually("the model is found", made(lambda: faulty.config("fresh")))
    create = faulty.api.create_endpoint
    with pytest.raises(ClientError, match='Could not find endpoint configuration "arn:'):
        create(EndpointName="fresh", EndpointConfigName="fresh")
    eventually(
        "the configuration is found",
        made(lambda: create(EndpointName="fresh", EndpointConfigName="fresh")),
    )
    inject(faulty.cloud)


def test_there_is_no_capacity_for_training_and_for_instances(faulty: SageMaker) -> None:
    inject(faulty.cloud, "--no-capacity", "1")
    time.sleep(0.5)
    job = faulty.trained(faulty.train("no-capacity"))
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("CapacityError: Unable to provision requested ML")
    name = faulty.serve("no-capacity", InstanceType="ml.m5.large", InitialInstanceCount=1)
    endpoint = faulty.served(name)
    assert endpoint["EndpointStatus"] == "Failed"
    assert "InsufficientInstanceCapacity" in endpoint["FailureReason"]
    inject(faulty.cloud)


def test_a_role_that_was_just_made_cannot_be_assumed(faulty: SageMaker) -> None:
    inject(faulty.cloud, "--iam-delay", "3")
    time.sleep(0.5)
    fresh = faulty.cloud.role("fresh-role", "sagemaker.amazonaws.com")
    with pytest.raises(ClientError, match="Could not assume role"):
        faulty.train("fresh-role", RoleArn=fresh)

    def trained() -> bool:
        try:
            faulty.train("fresh-role", RoleArn=fresh)
        except ClientError:
            return False
        return True

    eventually("the role is known", trained)
    inject(faulty.cloud)


def test_a_worker_is_killed_only_while_it_works(faulty: SageMaker) -> None:
    cloud = faulty.cloud
    cloud.function("sleeper", SLEEPER, Timeout=60)
    assert cloud.invoke("sleeper", {"seconds": 0}) == "slept"

    inject(cloud, "--kill-workers", "0.1")
    answer = cloud.client("lambda").invoke(
        FunctionName="sleeper", Payload=json.dumps({"seconds": 50})
    )
    assert answer["FunctionError"] == "Unhandled"
    inject(cloud)
    assert cloud.invoke("sleeper", {"seconds": 0}) == "slept"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--throttle", "0.7", "--fail", "0.7"), "together they are at most 1"),
        (("--kill-workers", "-1"), "kill_workers must not be negative"),
        (("--no-capacity", "2"), "at most 1"),
    ],
)
def test_faults_that_cannot_be_are_refused(
    faulty: SageMaker, options: tuple[str, ...], says: str
) -> None:
    done = faulty.cloud.cli("faults", *options)
    assert done.returncode == 1
    assert says in done.stderr


def test_the_former_name_of_the_command_names_the_new_one(faulty: SageMaker) -> None:
    done = faulty.cloud.cli("trouble", "--throttle", "1")
    assert (done.returncode, done.stdout) == (0, "faults are injected\n")
    assert "`faults`" in done.stderr
    eventually("the fault", lambda: refusal(faulty) == "ThrottlingException")
    inject(faulty.cloud)


def test_a_cloud_that_starts_injects_no_faults(faulty: SageMaker) -> None:
    inject(faulty.cloud, "--throttle", "1")
    faulty.cloud.down()
    assert "the cloud is down" in faulty.cloud.cli("faults").stderr
    faulty.cloud.up()
    eventually("an answer", lambda: refusal(faulty) is None)
