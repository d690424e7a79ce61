"""Telling downstream systems of results: the "Image Classified" event."""

import json
from typing import TYPE_CHECKING, Any

from droplens.classification import EVENT_SOURCE, EVENT_TYPE
from droplens.errors import RetryLater

if TYPE_CHECKING:
    from types_boto3_events.client import EventBridgeClient


class Announcer:
    """Sends events on one bus."""

    def __init__(self, events: "EventBridgeClient", bus: str) -> None:
        self.events = events
        self.bus = bus

    def announce(self, detail: dict[str, Any]) -> None:
        """Send one event, after its result is stored. Raises RetryLater if it was not taken."""
        answer = self.events.put_events(
            Entries=[
                {
                    "EventBusName": self.bus,
                    "Source": EVENT_SOURCE,
                    "DetailType": EVENT_TYPE,
                    "Detail": json.dumps(detail, ensure_ascii=False),
                    "Resources": [],
                }
            ]
        )
        if answer["FailedEntryCount"]:
            entry = answer["Entries"][0]
            raise RetryLater("event.refused", f"EventBridge: {entry.get('ErrorMessage')}")
