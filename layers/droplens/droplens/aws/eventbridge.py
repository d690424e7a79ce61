"""Events that classify_image publishes."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from droplens.aws.events import ENDPOINT_MISSING
from droplens.domain.result import EVENT_SOURCE, EVENT_TYPE
from droplens.runtime.telemetry import logger

if TYPE_CHECKING:
    from types_boto3_events.client import EventBridgeClient
    from types_boto3_events.type_defs import PutEventsRequestEntryTypeDef


class EventPublisher:
    """Publishes events on one bus."""

    def __init__(self, events: "EventBridgeClient", bus: str) -> None:
        self.events = events
        self.bus = bus

    def publish(self, details: Mapping[str, dict[str, Any]]) -> set[str]:
        """Publish the events of at most ten messages in one call, once their results are stored.

        details: by message id. Returns the ids of those whose events EventBridge refused, or of all
        if the call failed.
        """
        if not details:
            return set()
        entries = [self._entry(EVENT_TYPE, one) for one in details.values()]
        try:
            response = self.events.put_events(Entries=entries)
        except (ClientError, BotoCoreError):
            keys = [detail["image"]["key"] for detail in details.values()]
            logger.warning("no event was sent", exc_info=True, keys=keys)
            return set(details)
        refused = {
            message: entry["ErrorCode"]
            for message, entry in zip(details, response["Entries"], strict=True)
            if "ErrorCode" in entry
        }
        if refused:
            codes = {details[message]["image"]["key"]: code for message, code in refused.items()}
            logger.warning("EventBridge refused events", codes=codes)
        return set(refused)

    def request_endpoint(self, bucket: str, classifier: str) -> None:
        """Have pause_endpoint create a classifier's endpoint again.

        A failure is only logged: the next image that finds the endpoint missing sends it again.
        """
        entry = self._entry(ENDPOINT_MISSING, {"bucket": bucket, "classifier": classifier})
        try:
            self.events.put_events(Entries=[entry])
        except (ClientError, BotoCoreError):
            logger.warning("the event of a missing endpoint was not sent", exc_info=True)

    def _entry(self, kind: str, detail: dict[str, Any]) -> "PutEventsRequestEntryTypeDef":
        return {
            "EventBusName": self.bus,
            "Source": EVENT_SOURCE,
            "DetailType": kind,
            "Detail": json.dumps(detail, ensure_ascii=False),
            "Resources": [],
        }
