"""Asking an endpoint for probabilities, and telling its troubles apart."""

import time
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from droplens.aws.errors import error_code
from droplens.domain.errors import RetryLater
from droplens.domain.result import UnexpectedResponse, parse_probabilities
from droplens.runtime.telemetry import logger

if TYPE_CHECKING:
    from types_boto3_sagemaker_runtime.client import SageMakerRuntimeClient

CONTENT_TYPE = "image/jpeg"
_MISSING = {"ValidationError", "ValidationException"}
# What a moment may mend (botocore's model of InvokeEndpoint; API reference, "Common Errors").
# ModelNotReadyException: a serverless endpoint's resources are still being provisioned; no retry
# mode of botocore's knows it.
_BUSY = {
    "InternalDependencyException",
    "InternalFailure",
    "ModelNotReadyException",
    "ServiceUnavailable",
    "ThrottlingException",
}

# Between calls of an endpoint that is measured: a minute in all, for a serverless one to provision.
PATIENCE = (2, 4, 8, 16, 30)


class EndpointMissing(RetryLater):
    """No endpoint of that name serves now: it was replaced, or is not up yet."""

    def __init__(self, name: str) -> None:
        super().__init__("endpoint.missing", f"endpoint {name} does not serve")


class EndpointBusy(RetryLater):
    """The endpoint has no place for the call just now: it answered so at once."""

    def __init__(self, name: str, error: Exception) -> None:
        super().__init__("endpoint.failed", f"endpoint {name}: {error}")


def probabilities(
    runtime: "SageMakerRuntimeClient", name: str, picture: bytes, classes: int
) -> list[float]:
    """The endpoint's probabilities for one prepared JPEG, one for each class, in class order.

    Raises EndpointMissing, EndpointBusy, RetryLater for every other failure of the call, and
    UnexpectedResponse.
    """
    try:
        answer = runtime.invoke_endpoint(
            EndpointName=name,
            Body=picture,
            ContentType=CONTENT_TYPE,
            Accept="application/json",
        )
        body = answer["Body"].read()
    except ClientError as error:
        if error_code(error) in _MISSING:
            raise EndpointMissing(name) from error
        if error_code(error) in _BUSY:
            raise EndpointBusy(name, error) from error
        raise RetryLater("endpoint.failed", f"endpoint {name}: {error}") from error
    except BotoCoreError as error:
        raise RetryLater("endpoint.unreachable", f"endpoint {name}: {error}") from error
    try:
        return parse_probabilities(body, classes)
    except UnexpectedResponse as error:
        raise UnexpectedResponse(f"endpoint {name}: {error}") from error


def patient_probabilities(
    runtime: "SageMakerRuntimeClient", name: str, picture: bytes, classes: int
) -> list[float]:
    """As `probabilities`, for somebody who has a minute: a busy endpoint is asked again."""
    for pause in PATIENCE:
        try:
            return probabilities(runtime, name, picture, classes)
        except EndpointBusy as error:
            logger.info("endpoint is busy", endpoint=name, error=str(error), seconds=pause)
            time.sleep(pause)
    return probabilities(runtime, name, picture, classes)
