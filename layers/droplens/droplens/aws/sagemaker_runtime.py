"""Calls of a SageMaker endpoint, with its failures as errors of ours."""

import time
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from droplens.aws.errors import error_code
from droplens.domain.choices import BUILTIN
from droplens.domain.errors import RetryLater
from droplens.domain.result import Response, UnexpectedResponse, parse_response

if TYPE_CHECKING:
    from types_boto3_sagemaker_runtime.client import SageMakerRuntimeClient

CONTENT_TYPE = "image/jpeg"
JSON = "application/json"
# With the novelty beside the probabilities. A container image of an earlier version returns the
# second type; the built-in algorithm knows no list of types.
PREDICTION = f"application/vnd.droplens.prediction+json, {JSON}"
EXPLANATION = f"application/vnd.droplens.prediction+json;explain=1, {JSON}"
_MISSING = {"ValidationError", "ValidationException"}
# Transient errors (botocore's model of InvokeEndpoint; API reference, "Common Errors").
# ModelNotReadyException: a serverless endpoint's resources are still being provisioned; none of
# botocore's retry modes retries it.
_BUSY = {
    "InternalDependencyException",
    "InternalFailure",
    "ModelNotReadyException",
    "ServiceUnavailable",
    "ThrottlingException",
}

# Seconds between calls of an endpoint that is evaluated: a minute in all, in which a serverless one
# is provisioned.
PAUSES = (2, 4, 8, 16, 30)


class EndpointMissing(RetryLater):
    """No endpoint of that name is in service: it was replaced, or is being created."""

    def __init__(self, name: str) -> None:
        super().__init__("endpoint.missing", f"endpoint {name} does not serve")


class EndpointBusy(RetryLater):
    """The endpoint refused the call at once for lack of capacity."""

    def __init__(self, name: str, error: Exception) -> None:
        super().__init__("endpoint.failed", f"endpoint {name}: {error}")


def predict(
    runtime: "SageMakerRuntimeClient", name: str, image: bytes, classes: int, trainer: str
) -> Response:
    """The endpoint's response for one prepared JPEG: a probability for each class, in class order.

    trainer: of the endpoint's model, as `domain.choices` names it.

    Raises EndpointMissing, EndpointBusy, RetryLater for every other failure of the call, and
    UnexpectedResponse.
    """
    body = _invoke(runtime, name, image, JSON if trainer == BUILTIN else PREDICTION)
    try:
        return parse_response(body, classes)
    except UnexpectedResponse as error:
        raise UnexpectedResponse(f"endpoint {name}: {error}") from error


def explain(runtime: "SageMakerRuntimeClient", name: str, image: bytes) -> bytes:
    """The endpoint's response for one prepared JPEG, with a class map where its model has one.

    For models of our own trainer. Raises as `predict`, but for UnexpectedResponse.
    """
    return _invoke(runtime, name, image, EXPLANATION)


def _invoke(runtime: "SageMakerRuntimeClient", name: str, image: bytes, accept: str) -> bytes:
    try:
        response = runtime.invoke_endpoint(
            EndpointName=name, Body=image, ContentType=CONTENT_TYPE, Accept=accept
        )
        return response["Body"].read()
    except ClientError as error:
        if error_code(error) in _MISSING:
            raise EndpointMissing(name) from error
        if error_code(error) in _BUSY:
            raise EndpointBusy(name, error) from error
        raise RetryLater("endpoint.failed", f"endpoint {name}: {error}") from error
    except BotoCoreError as error:
        raise RetryLater("endpoint.unreachable", f"endpoint {name}: {error}") from error


def predict_with_retries(
    runtime: "SageMakerRuntimeClient", name: str, image: bytes, classes: int, trainer: str
) -> Response:
    """As `predict`, but for up to a minute a busy endpoint is called again."""
    from droplens.runtime.telemetry import logger  # Powertools, which the console does not have

    for pause in PAUSES:
        try:
            return predict(runtime, name, image, classes, trainer)
        except EndpointBusy as error:
            logger.info("endpoint is busy", endpoint=name, error=str(error), seconds=pause)
            time.sleep(pause)
    return predict(runtime, name, image, classes, trainer)
