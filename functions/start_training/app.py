"""A dataset is packed, or a waiting run is retried: start the training of the run."""

from typing import Any

import boto3
from aws_lambda_powertools.utilities.typing import LambdaContext

from droplens.aws.events import RUN_RESUMED, detail_type, packing_ended, run_resumed
from droplens.aws.s3 import Bucket
from droplens.journey.invocation import Invocation
from droplens.journey.train import Training
from droplens.runtime.settings import TrainingSettings
from droplens.runtime.telemetry import logger, metrics
from droplens.runtime.tracing import tracer

SETTINGS = TrainingSettings.from_environment()
TABLE = boto3.resource("dynamodb").Table(SETTINGS.runs_table)
SNS = boto3.client("sns")
TRAINING = Training(
    bucket=Bucket(boto3.client("s3"), SETTINGS.bucket),
    sagemaker=boto3.client("sagemaker"),
    settings=SETTINGS,
)


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handle a "Batch Job State Change" event of a succeeded job, or our own "Run Resumed"."""
    invocation = Invocation.of(context, TABLE, SNS, SETTINGS.failure_topic)
    if detail_type(event) == RUN_RESUMED:
        run, _ = run_resumed(event)
        return {"run": run.as_key(), "training_job": TRAINING.resume(run, invocation)}
    packed = packing_ended(event)
    if packed is None:
        return {"run": None}
    return {"run": packed.run.as_key(), "training_job": TRAINING.start(packed, invocation)}
