"""A person requests an earlier model: make it live again."""

from typing import Any

import boto3
from aws_lambda_powertools.utilities.typing import LambdaContext

from droplens.aws.lambda_invoke import Invoker
from droplens.aws.s3 import Bucket
from droplens.journey.invocation import Invocation
from droplens.journey.rollback import Rollback, RollbackRequest
from droplens.runtime.settings import RollbackSettings
from droplens.runtime.telemetry import logger, metrics
from droplens.runtime.tracing import tracer
from droplens.state.cards import Cards

SETTINGS = RollbackSettings.from_environment()
TABLE = boto3.resource("dynamodb").Table(SETTINGS.runs_table)
SNS = boto3.client("sns")
PROMOTE = Invoker(boto3.client("lambda"), SETTINGS.promote_function)
ROLLBACK = Rollback(
    cards=Cards(Bucket(boto3.client("s3"), SETTINGS.bucket)),
    sagemaker=boto3.client("sagemaker"),
    settings=SETTINGS,
)


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handle {"classifier": name}, with "run_id" for another run than the one that was live before
    the live one, and "reclassify" for another choice than the stack's."""
    invocation = Invocation.of(context, TABLE, SNS, SETTINGS.failure_topic, PROMOTE)
    request = RollbackRequest(
        classifier=event["classifier"],
        run_id=event.get("run_id") or None,
        reclassify=event.get("reclassify") or SETTINGS.reclassify,
    )
    run, status = ROLLBACK.roll_back(request, invocation)
    return {"run": run.as_key(), "status": status}
