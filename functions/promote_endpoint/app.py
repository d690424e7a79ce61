"""An endpoint is in service or a model approved: promote it. A model was switched: follow up."""

from typing import Any

import boto3
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from droplens.aws.events import MODEL_SWITCHED, detail_type, model_switched
from droplens.aws.s3 import Bucket
from droplens.journey.failures import Failures
from droplens.journey.promote import Promotion, take_up
from droplens.journey.retire import Invoker, Switching
from droplens.runtime.settings import PromotionSettings
from droplens.runtime.telemetry import follow, logger, metrics
from droplens.runtime.tracing import tracer
from droplens.state.cards import Cards
from droplens.state.registry import Registry
from droplens.state.runs import Runs

SETTINGS = PromotionSettings.from_environment()
BUCKET = Bucket(boto3.client("s3"), SETTINGS.bucket)
TABLE = boto3.resource("dynamodb").Table(SETTINGS.runs_table)
SAGEMAKER = boto3.client("sagemaker")
SNS = boto3.client("sns")
LAMBDA = boto3.client("lambda")
# A serverless endpoint's first calls meet a cold start, and may fail: retry.
PATIENT = Config(retries={"mode": "standard", "total_max_attempts": 8}, read_timeout=70)
PROMOTION = Promotion(
    bucket=BUCKET,
    cards=Cards(BUCKET),
    registry=Registry(SAGEMAKER, SETTINGS.stack, SETTINGS.code_version),
    sagemaker=SAGEMAKER,
    runtime=boto3.client("sagemaker-runtime", config=PATIENT),
    settings=SETTINGS,
)
SWITCHING = Switching(
    bucket=BUCKET,
    cards=PROMOTION.cards,
    sagemaker=SAGEMAKER,
    sqs=boto3.client("sqs"),
    queue=SETTINGS.picture_queue_url,
    keep_models=SETTINGS.keep_models,
)
# Upper bound of the slowest step between two checks of the remaining time.
MARGIN_SECONDS = 180


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handle a "SageMaker Endpoint State Change", "SageMaker Model Package State Change" or our own
    "Model Switched" event."""

    def may_go_on() -> bool:
        return context.get_remaining_time_in_millis() > 1000 * MARGIN_SECONDS

    runs = Runs.of_invocation(TABLE, context)
    invoke = Invoker(LAMBDA, context.function_name)
    if detail_type(event) == MODEL_SWITCHED:
        switched = model_switched(event)
        follow(switched.run)
        return {"waiting": SWITCHING.follow_up(switched, runs, may_go_on, invoke)}
    failures = Failures(runs, SNS, SETTINGS.failure_topic)
    run, status = take_up(event, PROMOTION, runs, failures, may_go_on, invoke)
    return {"run": run.as_key(), "status": status} if run else {"run": None}
