"""A step of a run failed, or an alarm is raised: record the cause and notify subscribers."""

from typing import Any

import boto3
from aws_lambda_powertools.utilities.typing import LambdaContext

from droplens.aws.s3 import Bucket
from droplens.journey.failure_reasons import FailureReporter
from droplens.journey.invocation import Invocation
from droplens.runtime.settings import JourneySettings
from droplens.runtime.telemetry import logger, metrics
from droplens.runtime.tracing import tracer
from droplens.state.cards import Cards

SETTINGS = JourneySettings.from_environment()
TABLE = boto3.resource("dynamodb").Table(SETTINGS.runs_table)
SNS = boto3.client("sns")
BUCKET = Bucket(boto3.client("s3"), SETTINGS.bucket)
REPORTER = FailureReporter(
    bucket=BUCKET,
    cards=Cards(BUCKET),
    batch=boto3.client("batch"),
    sagemaker=boto3.client("sagemaker"),
)


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handle a failure event of Batch or SageMaker, Lambda's record of a failed invocation, or an
    alarm."""
    invocation = Invocation.of(context, TABLE, SNS, SETTINGS.failure_topic)
    run = REPORTER.report(event, invocation)
    return {"run": run.as_key() if run else None}
