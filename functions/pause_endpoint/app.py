"""An endpoint is idle: remove it. An image needs it: create it again."""

from datetime import UTC, datetime
from typing import Any

import boto3
from aws_lambda_powertools.utilities.typing import LambdaContext

from droplens.aws.events import ENDPOINT_MISSING, detail_type, missing_endpoint
from droplens.aws.s3 import Bucket
from droplens.journey.idle import pause_idle, resume
from droplens.runtime.settings import PausingSettings
from droplens.runtime.telemetry import logger, metrics
from droplens.runtime.tracing import tracer
from droplens.state.cards import Cards

SETTINGS = PausingSettings.from_environment()
CARDS = Cards(Bucket(boto3.client("s3"), SETTINGS.bucket))
SAGEMAKER = boto3.client("sagemaker")
CLOUDWATCH = boto3.client("cloudwatch")


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
def handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Handle classify_image's "Endpoint Missing" event, or a scheduled one, which removes idle
    endpoints."""
    if detail_type(event) == ENDPOINT_MISSING:
        return {"resumed": resume(missing_endpoint(event), CARDS, SAGEMAKER)}
    hours = SETTINGS.stop_idle_endpoint_hours
    return {"paused": pause_idle(CARDS, SAGEMAKER, CLOUDWATCH, hours, datetime.now(UTC))}
