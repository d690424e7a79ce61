"""A dataset is packed, or a waiting run is retried: start the training of the run."""

from typing import Any

import boto3
from aws_lambda_powertools.utilities.typing import LambdaContext

from droplens.aws.events import RUN_RESUMED, detail_type, packing_ended, run_resumed
from droplens.aws.s3 import Bucket
from droplens.journey.failures import Failures
from droplens.journey.train import start_training, train
from droplens.runtime.settings import TrainingSettings
from droplens.runtime.telemetry import follow, logger, metrics
from droplens.runtime.tracing import tracer
from droplens.state.runs import Runs

SETTINGS = TrainingSettings.from_environment()
BUCKET = Bucket(boto3.client("s3"), SETTINGS.bucket)
TABLE = boto3.resource("dynamodb").Table(SETTINGS.runs_table)
SAGEMAKER = boto3.client("sagemaker")
SNS = boto3.client("sns")


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handle a "Batch Job State Change" event of a succeeded job, or our own "Run Resumed"."""
    runs = Runs.of_invocation(TABLE, context)
    failures = Failures(runs, SNS, SETTINGS.failure_topic)
    if detail_type(event) == RUN_RESUMED:
        run, _ = run_resumed(event)
        follow(run)
        job = train(run, BUCKET, runs, SAGEMAKER, failures, SETTINGS, resuming=True)
        return {"run": run.as_key(), "training_job": job}
    packed = packing_ended(event)
    if packed is None:
        return {"run": None}
    follow(packed.run)
    job = start_training(packed, BUCKET, runs, SAGEMAKER, failures, SETTINGS)
    return {"run": packed.run.as_key(), "training_job": job}
