"""An endpoint is in service: measure it, make it live, and answer the pictures that wait."""

from typing import Any

import boto3
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from droplens.cards import Cards
from droplens.events import endpoint_changed
from droplens.failures import Failures
from droplens.promotion import Promotion
from droplens.reporting import run_of_resource
from droplens.runs import Runs
from droplens.settings import PromotionSettings
from droplens.storage import Bucket
from droplens.telemetry import follow, logger, metrics
from droplens.tracing import tracer

SETTINGS = PromotionSettings.from_environment()
BUCKET = Bucket(boto3.client("s3"), SETTINGS.bucket)
TABLE = boto3.resource("dynamodb").Table(SETTINGS.runs_table)
SAGEMAKER = boto3.client("sagemaker")
SNS = boto3.client("sns")
# A serverless endpoint's first answers come from a cold start, or not at first: ask again.
PATIENT = Config(retries={"mode": "standard", "total_max_attempts": 8}, read_timeout=70)
PROMOTION = Promotion(
    bucket=BUCKET,
    cards=Cards(BUCKET),
    sagemaker=SAGEMAKER,
    runtime=boto3.client("sagemaker-runtime", config=PATIENT),
    sqs=boto3.client("sqs"),
    settings=SETTINGS,
)


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Take a "SageMaker Endpoint State Change" event of an endpoint in service."""
    changed = endpoint_changed(event)
    run = run_of_resource(SAGEMAKER, changed.arn, changed.tags)
    if run is None:
        return {"run": None}
    follow(run)
    runs = Runs.of_invocation(TABLE, context)
    failures = Failures(runs, SNS, SETTINGS.failure_topic)
    status = PROMOTION.promote(changed.name, run, runs, failures)
    return {"run": run.as_key(), "status": status}
