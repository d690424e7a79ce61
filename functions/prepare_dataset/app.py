"""A labelled dataset is complete: create its run and submit its packing to AWS Batch."""

from typing import Any

import boto3
from aws_lambda_powertools.utilities.typing import LambdaContext

from droplens.aws.events import object_created
from droplens.aws.s3 import Bucket
from droplens.journey.failures import Failures
from droplens.journey.pack import start_packing
from droplens.runtime.settings import PackingSettings
from droplens.runtime.telemetry import logger, metrics
from droplens.runtime.tracing import tracer
from droplens.state.runs import Runs

SETTINGS = PackingSettings.from_environment()
BUCKET = Bucket(boto3.client("s3"), SETTINGS.bucket)
TABLE = boto3.resource("dynamodb").Table(SETTINGS.runs_table)
BATCH = boto3.client("batch")
SNS = boto3.client("sns")


@logger.inject_lambda_context(correlation_id_path="id", clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handle an S3 "Object Created" event of datasets/."""
    runs = Runs.of_invocation(TABLE, context)
    failures = Failures(runs, SNS, SETTINGS.failure_topic)
    run = start_packing(object_created(event), BUCKET, runs, BATCH, failures, SETTINGS)
    return {"run": run.as_key() if run else None}
