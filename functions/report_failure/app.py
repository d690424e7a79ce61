"""A step of a run failed, or an alarm is raised: record the cause and notify subscribers."""

from typing import Any

import boto3
from aws_lambda_powertools.utilities.typing import LambdaContext

from droplens.aws.s3 import Bucket
from droplens.journey.failure_reasons import Reporter
from droplens.journey.failures import Failures
from droplens.runtime.settings import JourneySettings
from droplens.runtime.telemetry import logger, metrics
from droplens.runtime.tracing import tracer
from droplens.state.runs import Runs

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
    """Handle a failure event of Batch or SageMaker, Lambda's record of a failed invocation, or an
    alarm."""
    runs = Runs(TABLE, owner=context.aws_request_id)
    failures = Failures(runs, SNS, SETTINGS.failure_topic)
    run = Reporter(BUCKET, runs, BATCH, SAGEMAKER, failures).report(event)
    return {"run": run.as_key() if run else None}
