"""Images were dropped: classify them concurrently and write their results."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
from aws_lambda_powertools.utilities.batch import (
    AsyncBatchProcessor,
    EventType,
    async_process_partial_response,
)
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from droplens.aws.eventbridge import EventPublisher
from droplens.aws.events import object_created
from droplens.aws.s3 import Bucket
from droplens.aws.sqs import RECEIVES_BESIDE_OTHERS, VisibilityBackoff, grouped
from droplens.classify.classify import CALL_SECONDS, CONNECT_SECONDS, READ_SECONDS, Classification
from droplens.classify.review_entries import ReviewEntries
from droplens.classify.routing import Router
from droplens.domain.errors import NotBegun
from droplens.imaging.prepare import Limits
from droplens.imaging.weighted_semaphore import WeightedSemaphore
from droplens.prediction.loaded_models import LoadedModels
from droplens.runtime.settings import ClassificationSettings
from droplens.runtime.telemetry import count, flush_of_classifiers, logger, metrics
from droplens.state.cards import CachedCards, Cards
from droplens.state.reviews import Reviews
from droplens.state.runs import Runs

BATCH = 10  # messages in one invocation, as the template says
# One attempt with a long timeout: a failed image is retried by the queue, without delaying others.
ENDPOINT_CONFIG = Config(
    retries={"total_max_attempts": 1, "mode": "standard"},
    connect_timeout=CONNECT_SECONDS,
    read_timeout=READ_SECONDS,
)
SETTINGS = ClassificationSettings.from_environment()
BUCKET = Bucket(boto3.client("s3"), SETTINGS.bucket)
DYNAMODB = boto3.resource("dynamodb")
RUNS = Runs(DYNAMODB.Table(SETTINGS.runs_table), owner="classify_image")
THREADS = ThreadPoolExecutor(BATCH)
REVIEWS = Reviews(
    DYNAMODB.Table(SETTINGS.reviews_table),
    BUCKET,
    retention_days=SETTINGS.reviews_retention_days,
)
ENTRIES = ReviewEntries(REVIEWS.enter, THREADS)
CARDS = CachedCards(Cards(BUCKET))
PUBLISHER = EventPublisher(boto3.client("events"), SETTINGS.event_bus)
CLASSIFICATION = Classification(
    bucket=BUCKET,
    cards=CARDS,
    router=Router(RUNS.any_of, CARDS.default_classifier),
    is_stranded=RUNS.is_stranded,
    runtime=boto3.client("sagemaker-runtime", config=ENDPOINT_CONFIG),
    decoding=WeightedSemaphore(Limits().max_pixels),
    endpoint_calls=WeightedSemaphore(SETTINGS.concurrent_calls),
    models=LoadedModels(BUCKET),
    request_endpoint=PUBLISHER.request_endpoint if SETTINGS.stop_idle_endpoint_hours else None,
    result_schema=SETTINGS.result_schema,
    enter_review=ENTRIES.start,
    spot_check_share=SETTINGS.spot_check_share,
)
BACKOFF = VisibilityBackoff(boto3.client("sqs"), SETTINGS.picture_queue_url)
# If the whole batch fails, its messages still fail one by one, each with its own delay.
PROCESSOR = AsyncBatchProcessor(EventType.SQS, raise_on_entire_batch_failure=False)


def classify_record(record: SQSRecord, seconds_left: Callable[[], float]) -> dict[str, Any] | None:
    """Classify the image of one message. Returns its event's detail, if it has one."""
    key = None
    try:
        dropped = object_created(json.loads(record.body))
        key = dropped.key
        received = int(record.attributes.approximate_receive_count)
        return CLASSIFICATION.classify(
            dropped, seconds_left, isolated=received > RECEIVES_BESIDE_OTHERS
        )
    except Exception:
        logger.warning("picture will be retried", exc_info=True, key=key, body=record.body)
        raise


def classify_together(
    records: Sequence[Mapping[str, Any]], context: LambdaContext
) -> tuple[set[str], set[str]]:
    """Classify these messages concurrently, publish their events and enter their reviews.

    Returns the ids of those that failed, and of those among them that were not begun.
    """
    classified: dict[str, dict[str, Any]] = {}
    not_begun: set[str] = set()

    def seconds_left() -> float:
        return context.get_remaining_time_in_millis() / 1000

    async def classify_beside_others(record: SQSRecord) -> None:
        """In a thread, since S3 and the endpoint are called with blocking I/O."""
        loop = asyncio.get_running_loop()
        try:
            detail = await loop.run_in_executor(THREADS, classify_record, record, seconds_left)
        except NotBegun:
            not_begun.add(record.message_id)
            raise
        if detail is not None:
            classified[record.message_id] = detail

    response = async_process_partial_response(
        event={"Records": list(records)},
        record_handler=classify_beside_others,
        processor=PROCESSOR,
        context=context,
    )
    failed = {str(failure["itemIdentifier"]) for failure in response["batchItemFailures"]}
    failed |= PUBLISHER.publish(classified)
    keys = ENTRIES.failed()
    failed |= {message for message, one in classified.items() if one["image"]["key"] in keys}
    return failed, not_begun


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    """Classify a batch of messages; those that fail are retried with exponential backoff.

    A message that may have crashed an earlier invocation is handled alone, after the results of
    the others are stored and published and their messages deleted: another crash repeats none.
    """
    failures: list[str] = []
    groups = grouped(event["Records"], time.time())
    for number, group in enumerate(groups):
        ids = [record["messageId"] for record in group]
        if number and context.get_remaining_time_in_millis() < 1000 * CALL_SECONDS:
            failed = not_begun = set(ids)
        else:
            failed, not_begun = classify_together(group, context)
        failures += [message for message in ids if message in failed]
        BACKOFF.hide([one for one in group if one["messageId"] in failed], not_begun)
        if number + 1 < len(groups):
            BACKOFF.delete([one for one in group if one["messageId"] not in failed])
    count("PicturePostponed", len(failures))
    flush_of_classifiers()
    return {"batchItemFailures": [{"itemIdentifier": message} for message in failures]}
