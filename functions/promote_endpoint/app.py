"""A model is deployed or approved: promote it. A model was switched: follow up."""

from typing import Any

import boto3
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from droplens.aws.events import MODEL_SWITCHED, detail_type, model_switched
from droplens.aws.lambda_invoke import Invoker
from droplens.aws.s3 import Bucket
from droplens.journey.invocation import Invocation
from droplens.journey.promote import Promotion
from droplens.journey.retire import Retirement
from droplens.prediction.loaded_models import LoadedModels
from droplens.runtime.settings import PromotionSettings
from droplens.runtime.telemetry import logger, metrics
from droplens.runtime.tracing import tracer
from droplens.state.cards import Cards
from droplens.state.registry import Registry

SETTINGS = PromotionSettings.from_environment()
TABLE = boto3.resource("dynamodb").Table(SETTINGS.runs_table)
SNS = boto3.client("sns")
LAMBDA = boto3.client("lambda")
BUCKET = Bucket(boto3.client("s3"), SETTINGS.bucket)
CARDS = Cards(BUCKET)
SAGEMAKER = boto3.client("sagemaker")
# The first calls of a serverless endpoint meet a cold start, or fail: they are retried.
RUNTIME_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 8}, read_timeout=70)
PROMOTION = Promotion(
    bucket=BUCKET,
    cards=CARDS,
    models=LoadedModels(BUCKET),
    registry=Registry(SAGEMAKER, SETTINGS.stack, SETTINGS.code_version),
    sagemaker=SAGEMAKER,
    runtime=boto3.client("sagemaker-runtime", config=RUNTIME_CONFIG),
    settings=SETTINGS,
)
RETIREMENT = Retirement(
    bucket=BUCKET,
    cards=CARDS,
    sagemaker=SAGEMAKER,
    sqs=boto3.client("sqs"),
    queue=SETTINGS.picture_queue_url,
    keep_models=SETTINGS.keep_models,
)


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handle a "SageMaker Endpoint State Change", a "SageMaker Model Package State Change", or our
    own "Model Deployed" and "Model Switched"."""
    again = Invoker(LAMBDA, context.function_name)
    invocation = Invocation.of(context, TABLE, SNS, SETTINGS.failure_topic, again)
    if detail_type(event) == MODEL_SWITCHED:
        return {"waiting": RETIREMENT.follow_up(model_switched(event), invocation)}
    run, status = PROMOTION.start(event, invocation)
    return {"run": run.as_key(), "status": status} if run else {"run": None}
