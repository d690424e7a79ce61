"""Runs wait for a quota or for capacity: retry them, on a schedule or on request."""

from typing import Any

import boto3
from aws_lambda_powertools.utilities.typing import LambdaContext

from droplens.domain.run import Stage
from droplens.journey.failures import Failures
from droplens.journey.resume import Resumption
from droplens.journey.retire import Invoker
from droplens.runtime.settings import ResumptionSettings
from droplens.runtime.telemetry import logger, metrics
from droplens.runtime.tracing import tracer
from droplens.state.runs import Runs

SETTINGS = ResumptionSettings.from_environment()
TABLE = boto3.resource("dynamodb").Table(SETTINGS.runs_table)
SAGEMAKER = boto3.client("sagemaker")
SNS = boto3.client("sns")
LAMBDA = boto3.client("lambda")


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handle {"classifier": name}, with "run_id" for another run than the newest that waits, or a
    scheduled event, which retries all waiting runs."""
    runs = Runs.of_invocation(TABLE, context)
    resumption = Resumption(
        runs=runs,
        failures=Failures(runs, SNS, SETTINGS.failure_topic),
        sagemaker=SAGEMAKER,
        invoke={
            Stage.TRAIN: Invoker(LAMBDA, SETTINGS.train_function),
            Stage.DEPLOY: Invoker(LAMBDA, SETTINGS.deploy_function),
        },
    )
    if "classifier" in event:
        run, stage = resumption.take_up(event["classifier"], event.get("run_id") or None)
        return {"run": run.as_key(), "stage": stage}
    return {"tried": [run.as_key() for run in resumption.look_round()]}
