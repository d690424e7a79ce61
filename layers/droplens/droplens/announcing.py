"""Telling downstream systems of results: the "Image Classified" event."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from droplens.classification import EVENT_SOURCE, EVENT_TYPE
from droplens.telemetry import logger

if TYPE_CHECKING:
    from types_boto3_events.client import EventBridgeClient
    from types_boto3_events.type_defs import PutEventsRequestEntryTypeDef


class Announcer:
    """Sends events on one bus."""

    def __init__(self, events: "EventBridgeClient", bus: str) -> None:
        self.events = events
        self.bus = bus

    def announce(self, details: Mapping[str, dict[str, Any]]) -> set[str]:
        """Send the events of at most ten messages in one call, once their results are stored.

        details: by message. Returns the messages whose events were not taken: EventBridge decides
        on each by itself.
        """
        if not details:
            return set()
        try:
            answer = self.events.put_events(Entries=[self._entry(one) for one in details.values()])
        except (ClientError, BotoCoreError):
            keys = [detail["image"]["key"] for detail in details.values()]
            logger.warning("no event was sent", exc_info=True, keys=keys)
            return set(details)
        refused = {
            message: entry["ErrorCode"]
            for message, entry in zip(details, answer["Entries"], strict=True)
            if "ErrorCode" in entry
        }
        if refused:
            codes = {details[message]["image"]["key"]: code for message, code in refused.items()}
            logger.warning("EventBridge refused events", codes=codes)
        return set(refused)

    def _entry(self, detail: dict[str, Any]) -> "PutEventsRequestEntryTypeDef":
        return {
            "EventBusName": self.bus,
            "Source": EVENT_SOURCE,
            "DetailType": EVENT_TYPE,
            "Detail": json.dumps(detail, ensure_ascii=False),
            "Resources": [],
        }
