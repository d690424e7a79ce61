"""Trouble that the local cloud is asked to make: it comes, is of the real kind, and ends."""

import json
from collections.abc import Callable

import pytest
from botocore.exceptions import ClientError

from tests.integration.localcloud_support import Cloud, eventually
from tests.integration.test_localcloud_sagemaker import SageMaker

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
