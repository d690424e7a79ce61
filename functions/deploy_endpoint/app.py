"""A training is complete, or a waiting run is retried: create the endpoint of the run."""

from typing import Any

import boto3
from aws_lambda_powertools.utilities.typing import LambdaContext

from droplens.aws.events import RUN_RESUMED, detail_type, run_resumed, training_ended
from droplens.aws.lambda_invoke import Invoker
from droplens.aws.s3 import Bucket
from droplens.journey.deploy import Deployment
from droplens.journey.invocation import Invocation
from droplens.runtime.settings import DeploymentSettings
from droplens.runtime.telemetry import logger, metrics
from droplens.runtime.tracing import tracer

SETTINGS = DeploymentSettings.from_environment()
TABLE = boto3.resource("dynamodb").Table(SETTINGS.runs_table)
SNS = boto3.client("sns")
PROMOTE = Invoker(boto3.client("lambda"), SETTINGS.promote_function)
DEPLOYMENT = Deployment(
    sagemaker=boto3.client("sagemaker"),
    bucket=Bucket(boto3.client("s3"), SETTINGS.bucket),
    settings=SETTINGS,
)


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handle a "SageMaker Training Job State Change" event of a completed job, or our own "Run
    Resumed"."""
    invocation = Invocation.of(context, TABLE, SNS, SETTINGS.failure_topic, PROMOTE)
    if detail_type(event) == RUN_RESUMED:
        resumed, _ = run_resumed(event)
        return {"run": resumed.as_key(), "endpoint": DEPLOYMENT.resume(resumed, invocation)}
    run, endpoint = DEPLOYMENT.start(training_ended(event), invocation)
    return {"run": run.as_key(), "endpoint": endpoint} if run else {"run": None}
