"""A realtime endpoint that nobody has asked for hours is removed, and made again for a picture.

Only the endpoint goes, which is what costs by the hour. Its configuration and its model stay and
bear its name, so that the live card is true all the while: a picture that finds no endpoint is put
off like any other that fails, has the endpoint made again, and is answered when it comes again.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from droplens.aws.errors import error_code
from droplens.aws.sagemaker import create_once, delete_endpoint
from droplens.aws.tags import tag_list
from droplens.domain.card import ModelCard
from droplens.domain.errors import UserError
from droplens.domain.run import RunKey
from droplens.runtime.telemetry import logger
from droplens.state.cards import Cards

if TYPE_CHECKING:
    from types_boto3_cloudwatch.client import CloudWatchClient
    from types_boto3_sagemaker.client import SageMakerClient
    from types_boto3_sagemaker.type_defs import DescribeEndpointOutputTypeDef

_MISSING = "ValidationException"


def pause_idle(
    cards: Cards,
    sagemaker: "SageMakerClient",
    cloudwatch: "CloudWatchClient",
    hours: int,
    now: datetime,
) -> list[str]:
    """Remove the live realtime endpoints that had no call for so many hours; returns their names.

    hours: 0 where none is to be paused. Endpoints that wait for an approval, or are kept for a
    rollback, are not live: they stay.
    """
    if hours == 0:
        return []
    since = now - timedelta(hours=hours)
    idle = [
        card.endpoint
        for card in cards.all_live()
        if _in_service_since(sagemaker, card.endpoint, since)
        and _calls(cloudwatch, card.endpoint, since, now) == 0
    ]
    # One that SageMaker is at work on is looked at again in an hour.
    paused = [endpoint for endpoint in idle if delete_endpoint(sagemaker, endpoint)]
    for endpoint in paused:
        logger.info("endpoint is paused: it had no calls", endpoint=endpoint, hours=hours)
    logger.info("idle endpoints checked", paused=paused)
    return paused


def resume(classifier: str, cards: Cards, sagemaker: "SageMakerClient") -> str | None:
    """Make the live endpoint again if it is gone; returns its name where it is being made.

    Any number of pictures may ask for it at once. What SageMaker refuses is logged and tried
    again with the next picture that fails.
    """
    card = cards.live(classifier)
    if card is None:
        return None
    found = _described(sagemaker, card.endpoint)
    if found is not None:
        status = found["EndpointStatus"]
        logger.info("endpoint is not missing", endpoint=card.endpoint, status=status)
        if status == "Failed":  # the next picture has it made again
            delete_endpoint(sagemaker, card.endpoint)
        return None
    try:
        create_once(
            sagemaker.create_endpoint,
            lambda: sagemaker.describe_endpoint(EndpointName=card.endpoint),
            EndpointName=card.endpoint,
            EndpointConfigName=card.endpoint,
            Tags=tag_list(RunKey(card.classifier, card.run_id)),
        )
    except UserError:
        logger.exception("endpoint cannot be re-created", endpoint=card.endpoint)
        return None
    _remove_if_replaced(card, cards, sagemaker)
    logger.info("endpoint is being re-created", endpoint=card.endpoint)
    return card.endpoint


def _remove_if_replaced(card: ModelCard, cards: Cards, sagemaker: "SageMakerClient") -> None:
    """Whoever retired the model before this endpoint was made has not removed it.

    Where it is too early for that, promote_endpoint does it once it is in service.
    """
    live = cards.live(card.classifier)
    if live is None or live.endpoint != card.endpoint:
        delete_endpoint(sagemaker, card.endpoint)


def _in_service_since(sagemaker: "SageMakerClient", name: str, since: datetime) -> bool:
    """Whether an instance of the endpoint serves, and has for long enough to be called idle."""
    found = _described(sagemaker, name)
    if found is None or found["EndpointStatus"] != "InService":
        return False
    config = sagemaker.describe_endpoint_config(EndpointConfigName=found["EndpointConfigName"])
    [variant] = config["ProductionVariants"]
    return "InstanceType" in variant and found["LastModifiedTime"] <= since


def _calls(
    cloudwatch: "CloudWatchClient", endpoint: str, since: datetime, until: datetime
) -> float:
    """https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html"""
    told = cloudwatch.get_metric_statistics(
        Namespace="AWS/SageMaker",
        MetricName="Invocations",
        Dimensions=[
            {"Name": "EndpointName", "Value": endpoint},
            {"Name": "VariantName", "Value": "main"},
        ],
        StartTime=since,
        EndTime=until,
        Period=3600,
        Statistics=["Sum"],
    )
    return sum(point["Sum"] for point in told["Datapoints"])


def _described(sagemaker: "SageMakerClient", name: str) -> "DescribeEndpointOutputTypeDef | None":
    try:
        return sagemaker.describe_endpoint(EndpointName=name)
    except ClientError as error:
        if error_code(error) != _MISSING:
            raise
        return None
