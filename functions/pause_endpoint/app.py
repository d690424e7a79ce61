"""An endpoint has been idle for hours: remove it. A picture misses it: make it again."""

from datetime import UTC, datetime
from typing import Any

import boto3
from aws_lambda_powertools.utilities.typing import LambdaContext

from droplens.cards import Cards
from droplens.events import ENDPOINT_MISSING, detail_type, missing_endpoint
from droplens.pausing import pause_idle, resume
from droplens.settings import PausingSettings
from droplens.storage import Bucket
from droplens.telemetry import logger, metrics
from droplens.tracing import tracer

SETTINGS = PausingSettings.from_environment()
CARDS = Cards(Bucket(boto3.client("s3"), SETTINGS.bucket))
SAGEMAKER = boto3.client("sagemaker")
CLOUDWATCH = boto3.client("cloudwatch")


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
def handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Take classify_image's "Endpoint Missing" event, or any other, by the clock, to look round."""
    if detail_type(event) == ENDPOINT_MISSING:
        return {"resumed": resume(missing_endpoint(event), CARDS, SAGEMAKER)}
    hours = SETTINGS.stop_idle_endpoint_hours
    return {"paused": pause_idle(CARDS, SAGEMAKER, CLOUDWATCH, hours, datetime.now(UTC))}
