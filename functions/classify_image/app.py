"""A picture was dropped: classify it and write its result."""

import json
from typing import Any

import boto3
from aws_lambda_powertools.utilities.batch import (
    BatchProcessor,
    EventType,
    process_partial_response,
)
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from droplens.announcing import Announcer
from droplens.cards import CachedCards, Cards
from droplens.classification import Classification
from droplens.events import object_created
from droplens.routing import Router
from droplens.runs import Runs
from droplens.settings import ClassificationSettings
from droplens.storage import Bucket
from droplens.telemetry import logger, metrics, tracer

# One patient attempt: what fails comes again by the queue, whose other pictures need not wait.
ENDPOINT_CONFIG = Config(retries={"total_max_attempts": 2, "mode": "standard"}, read_timeout=50)
SETTINGS = ClassificationSettings.from_environment()
BUCKET = Bucket(boto3.client("s3"), SETTINGS.bucket)
RUNS = Runs(boto3.resource("dynamodb").Table(SETTINGS.runs_table), owner="classify_image")
CARDS = Cards(BUCKET)
CLASSIFICATION = Classification(
    bucket=BUCKET,
    cards=CachedCards(CARDS),
    router=Router(RUNS.any_of, CARDS.default_classifier),
    runtime=boto3.client("sagemaker-runtime", config=ENDPOINT_CONFIG),
)
ANNOUNCER = Announcer(boto3.client("events"), SETTINGS.event_bus)
PROCESSOR = BatchProcessor(event_type=EventType.SQS)


def classify_record(record: SQSRecord) -> None:
    """One message: what S3 says of one picture."""
    event = json.loads(record.body)
    classified = CLASSIFICATION.classify(object_created(event))
    if classified is not None:
        ANNOUNCER.announce(classified)


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    """Take a batch of messages; those that fail come again, the others do not."""
    return process_partial_response(
        event=event, record_handler=classify_record, processor=PROCESSOR, context=context
    )
