"""A labelled dataset is complete: create its run and submit its packing to AWS Batch."""

from typing import Any

import boto3
from aws_lambda_powertools.utilities.typing import LambdaContext

from droplens.aws.events import object_created
from droplens.aws.s3 import Bucket
from droplens.journey.invocation import Invocation
from droplens.journey.pack import Packing
from droplens.runtime.settings import PackingSettings
from droplens.runtime.telemetry import logger, metrics
from droplens.runtime.tracing import tracer

SETTINGS = PackingSettings.from_environment()
TABLE = boto3.resource("dynamodb").Table(SETTINGS.runs_table)
SNS = boto3.client("sns")
PACKING = Packing(
    bucket=Bucket(boto3.client("s3"), SETTINGS.bucket),
    batch=boto3.client("batch"),
    settings=SETTINGS,
)


@logger.inject_lambda_context(correlation_id_path="id", clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handle an S3 "Object Created" event of datasets/."""
    invocation = Invocation.of(context, TABLE, SNS, SETTINGS.failure_topic)
    run = PACKING.start(object_created(event), invocation)
    return {"run": run.as_key() if run else None}
