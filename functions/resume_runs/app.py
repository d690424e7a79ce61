"""Runs wait for a quota or for capacity: retry them, on a schedule or on request.

Another schedule has it publish the live accuracy of each live model.
"""

from typing import Any

import boto3
from aws_lambda_powertools.utilities.typing import LambdaContext

from droplens.aws.lambda_invoke import Invoker
from droplens.aws.s3 import Bucket
from droplens.domain.run import Stage
from droplens.journey.invocation import Invocation
from droplens.journey.live_accuracy import LiveAccuracies
from droplens.journey.resume import ResumeRequest, Resumption
from droplens.runtime.settings import ResumptionSettings
from droplens.runtime.telemetry import flush_of_classifiers, logger, metrics
from droplens.runtime.tracing import tracer
from droplens.state.cards import Cards
from droplens.state.reviews import Reviews

SETTINGS = ResumptionSettings.from_environment()
DYNAMODB = boto3.resource("dynamodb")
TABLE = DYNAMODB.Table(SETTINGS.runs_table)
BUCKET = Bucket(boto3.client("s3"), SETTINGS.bucket)
SNS = boto3.client("sns")
LAMBDA = boto3.client("lambda")
RESUMPTION = Resumption(
    sagemaker=boto3.client("sagemaker"),
    functions={
        Stage.TRAIN: Invoker(LAMBDA, SETTINGS.train_function),
        Stage.DEPLOY: Invoker(LAMBDA, SETTINGS.deploy_function),
    },
)
LIVE_ACCURACIES = LiveAccuracies(
    cards=Cards(BUCKET), reviews=Reviews(DYNAMODB.Table(SETTINGS.reviews_table), BUCKET)
)


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handle {"classifier": name}, with "run_id" for another run than the newest that waits;
    {"publish": "live accuracy"} of a schedule; or a scheduled event, which retries all waiting
    runs."""
    if "publish" in event:
        LIVE_ACCURACIES.publish()
        flush_of_classifiers()
        return {}
    invocation = Invocation.of(context, TABLE, SNS, SETTINGS.failure_topic)
    if "classifier" in event:
        request = ResumeRequest(classifier=event["classifier"], run_id=event.get("run_id") or None)
        run, stage = RESUMPTION.resume(request, invocation)
        return {"run": run.as_key(), "stage": stage}
    return {"tried": [run.as_key() for run in RESUMPTION.resume_due(invocation)]}
