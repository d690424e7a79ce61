"""A person requests an earlier model: make it live again."""

from typing import Any

import boto3
from aws_lambda_powertools.utilities.typing import LambdaContext

from droplens.aws.s3 import Bucket
from droplens.journey.retire import Invoker
from droplens.journey.rollback import roll_back
from droplens.runtime.settings import RollbackSettings
from droplens.runtime.telemetry import logger, metrics
from droplens.runtime.tracing import tracer
from droplens.state.cards import Cards
from droplens.state.runs import Runs

SETTINGS = RollbackSettings.from_environment()
CARDS = Cards(Bucket(boto3.client("s3"), SETTINGS.bucket))
TABLE = boto3.resource("dynamodb").Table(SETTINGS.runs_table)
SAGEMAKER = boto3.client("sagemaker")
FOLLOW_UP = Invoker(boto3.client("lambda"), SETTINGS.promote_function)


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handle {"classifier": name}, with "run_id" for another run than the one that was live before
    the live one, and "reclassify" for another choice than the stack's."""
    runs = Runs.of_invocation(TABLE, context)
    run, status = roll_back(
        event["classifier"],
        event.get("run_id") or None,
        CARDS,
        runs,
        SAGEMAKER,
        SETTINGS,
        event.get("reclassify") or SETTINGS.reclassify,
        FOLLOW_UP,
    )
    return {"run": run.as_key(), "status": status}
