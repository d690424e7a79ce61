"""A step of a run failed: write down why, and tell whoever asked to be told."""

from typing import Any

import boto3
from aws_lambda_powertools.utilities.typing import LambdaContext

from droplens.failures import Failures
from droplens.reporting import Reporter
from droplens.runs import Runs
from droplens.settings import JourneySettings
from droplens.storage import Bucket
from droplens.telemetry import logger, metrics
from droplens.tracing import tracer

SETTINGS = JourneySettings.from_environment()
BUCKET = Bucket(boto3.client("s3"), SETTINGS.bucket)
TABLE = boto3.resource("dynamodb").Table(SETTINGS.runs_table)
BATCH = boto3.client("batch")
SAGEMAKER = boto3.client("sagemaker")
SNS = boto3.client("sns")


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Take a failure of Batch or SageMaker, Lambda's record of a function's, or an alarm."""
    runs = Runs(TABLE, owner=context.aws_request_id)
    failures = Failures(runs, SNS, SETTINGS.failure_topic)
    run = Reporter(BUCKET, runs, BATCH, SAGEMAKER, failures).report(event)
    return {"run": run.as_key() if run else None}
