"""Asking an endpoint for probabilities, and telling its troubles apart."""

from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from droplens.errors import RetryLater
from droplens.result import UnexpectedAnswer, parse_probabilities
from droplens.storage import error_code

if TYPE_CHECKING:
    from types_boto3_sagemaker_runtime.client import SageMakerRuntimeClient

CONTENT_TYPE = "image/jpeg"
_MISSING = {"ValidationError", "ValidationException"}


class EndpointMissing(RetryLater):
    """No endpoint of that name serves now: it was replaced, or is not up yet."""

    def __init__(self, name: str) -> None:
        super().__init__("endpoint.missing", f"endpoint {name} does not serve")


def probabilities(
    runtime: "SageMakerRuntimeClient", name: str, picture: bytes, classes: int
) -> list[float]:
    """The endpoint's probabilities for one prepared JPEG, one for each class, in class order.

    Raises EndpointMissing, RetryLater for every other failure of the call, and
    UnexpectedAnswer.
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
        raise RetryLater("endpoint.failed", f"endpoint {name}: {error}") from error
    except BotoCoreError as error:
        raise RetryLater("endpoint.unreachable", f"endpoint {name}: {error}") from error
    try:
        return parse_probabilities(body, classes)
    except UnexpectedAnswer as error:
        raise UnexpectedAnswer(f"endpoint {name}: {error}") from error
