"""Asynchronous invocations of Lambda functions."""

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types_boto3_lambda.client import LambdaClient


class Invoker:
    """Sends events to one function, which Lambda invokes once for each, and again if it fails."""

    def __init__(self, client: "LambdaClient", function: str) -> None:
        self.client = client
        self.function = function

    def __call__(self, event: object) -> None:
        """Returns as soon as Lambda has stored the event."""
        self.client.invoke(
            FunctionName=self.function, InvocationType="Event", Payload=json.dumps(event)
        )
