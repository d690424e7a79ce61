"""A realtime endpoint without calls for hours is deleted, and created again for the next image.

Only the endpoint is deleted, which is what costs by the hour. Its configuration and its model stay
under its name, so that the live card stays valid: an image whose endpoint is missing is retried
like any other that fails, has the endpoint created again, and is classified by a later try.
"""

from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleEndpoints:
    """Pauses live realtime endpoints without calls, and resumes them.

    hours: without a call, after which an endpoint is paused; 0: none is. No run changes by either,
    so that no step here takes an invocation.
    """

    cards: Cards
    sagemaker: "SageMakerClient"
    cloudwatch: "CloudWatchClient"
    hours: int

    def pause(self, now: datetime) -> list[str]:
        """Delete the live realtime endpoints that are idle at `now`; returns their names.

        Endpoints that wait for an approval, or are kept for a rollback, are not live: they stay.
        """
        if self.hours == 0:
            return []
        since = now - timedelta(hours=self.hours)
        idle = [
            card.endpoint
            for card in self.cards.all_live()
            if card.model is None
            and self._in_service_since(card.endpoint, since)
            and self._calls(card.endpoint, since, now) == 0
        ]
        # One that SageMaker is changing cannot be deleted now; it is checked again in an hour.
        paused = [endpoint for endpoint in idle if delete_endpoint(self.sagemaker, endpoint)]
        for endpoint in paused:
            logger.info("endpoint is paused: it had no calls", endpoint=endpoint, hours=self.hours)
        logger.info("idle endpoints checked", paused=paused)
        return paused

    def resume(self, classifier: str) -> str | None:
        """Create the live endpoint again if it is gone; returns its name while it is being created.

        Any number of images may request it at once. What SageMaker refuses is logged, and tried
        again for the next image that fails.
        """
        card = self.cards.live(classifier)
        if card is None or card.model is not None:
            return None
        found = self._described(card.endpoint)
        if found is not None:
            status = found["EndpointStatus"]
            logger.info("endpoint is not missing", endpoint=card.endpoint, status=status)
            if status == "Failed":  # the next image has it created again
                delete_endpoint(self.sagemaker, card.endpoint)
            return None
        try:
            create_once(
                self.sagemaker.create_endpoint,
                lambda: self.sagemaker.describe_endpoint(EndpointName=card.endpoint),
                EndpointName=card.endpoint,
                EndpointConfigName=card.endpoint,
                Tags=tag_list(RunKey(card.classifier, card.run_id)),
            )
        except UserError:
            logger.exception("endpoint cannot be re-created", endpoint=card.endpoint)
            return None
        self._delete_if_replaced(card)
        logger.info("endpoint is being re-created", endpoint=card.endpoint)
        return card.endpoint

    def _delete_if_replaced(self, card: ModelCard) -> None:
        """Delete an endpoint whose model was retired before the endpoint was created again.

        Where SageMaker refuses that now, promote_endpoint removes it once it is in service.
        """
        live = self.cards.live(card.classifier)
        if live is None or live.endpoint != card.endpoint:
            delete_endpoint(self.sagemaker, card.endpoint)

    def _in_service_since(self, name: str, since: datetime) -> bool:
        """Whether the endpoint is in service on an instance and unchanged since then."""
        found = self._described(name)
        if found is None or found["EndpointStatus"] != "InService":
            return False
        config = self.sagemaker.describe_endpoint_config(
            EndpointConfigName=found["EndpointConfigName"]
        )
        [variant] = config["ProductionVariants"]
        return "InstanceType" in variant and found["LastModifiedTime"] <= since

    def _calls(self, endpoint: str, since: datetime, until: datetime) -> float:
        """https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html"""
        found = self.cloudwatch.get_metric_statistics(
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
        return sum(point["Sum"] for point in found["Datapoints"])

    def _described(self, name: str) -> "DescribeEndpointOutputTypeDef | None":
        try:
            return self.sagemaker.describe_endpoint(EndpointName=name)
        except ClientError as error:
            if error_code(error) != _MISSING:
                raise
            return None
