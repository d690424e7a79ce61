"""A training is complete, or a waiting run is retried: create the endpoint of the run."""

from typing import Any

import boto3
from aws_lambda_powertools.utilities.typing import LambdaContext

from droplens.aws.events import RUN_RESUMED, detail_type, run_resumed, training_ended
from droplens.aws.sagemaker import run_of_resource
from droplens.journey.deploy import deploy_endpoint, host
from droplens.journey.failures import Failures
from droplens.runtime.settings import HostingSettings
from droplens.runtime.telemetry import follow, logger, metrics
from droplens.runtime.tracing import tracer
from droplens.state.runs import Runs

SETTINGS = HostingSettings.from_environment()
TABLE = boto3.resource("dynamodb").Table(SETTINGS.runs_table)
SAGEMAKER = boto3.client("sagemaker")
SNS = boto3.client("sns")


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handle a "SageMaker Training Job State Change" event of a completed job, or our own "Run
    Resumed"."""
    runs = Runs.of_invocation(TABLE, context)
    failures = Failures(runs, SNS, SETTINGS.failure_topic)
    if detail_type(event) == RUN_RESUMED:
        resumed, _ = run_resumed(event)
        follow(resumed)
        endpoint = host(None, resumed, runs, SAGEMAKER, failures, SETTINGS, resuming=True)
        return {"run": resumed.as_key(), "endpoint": endpoint}
    trained = training_ended(event)
    run = run_of_resource(SAGEMAKER, trained.job_arn, trained.tags)
    if run is None:
        return {"run": None}
    follow(run)
    endpoint = deploy_endpoint(trained, run, runs, SAGEMAKER, failures, SETTINGS)
    return {"run": run.as_key(), "endpoint": endpoint}
