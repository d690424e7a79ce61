"""What MiniStack accepts and AWS refuses: each request is checked before MiniStack has it.

Imported only by the server process, as ministack_seams is. docs/local-cloud.md lists the rules
with their sources, under the names that stand in `RULE` comments here.
"""

import json
from typing import Any

from ministack.core.responses import error_response_json
from ministack.services import eventbridge
from ministack.services.cloudformation import provisioners

from localcloud.emulator import event_patterns

Json = dict[str, Any]


def check_event_patterns() -> None:
    """PutRule, of a client's and of a template's, refuses patterns that are too long or too
    complex. RULE: event-pattern-complexity, event-pattern-size"""
    put = eventbridge._put_rule
    rules = provisioners._RESOURCE_HANDLERS["AWS::Events::Rule"]
    create = rules["create"]

    def refusal(pattern: Any) -> tuple[str, str] | None:
        text = json.dumps(pattern) if isinstance(pattern, dict) else pattern
        if not text:
            return None
        if invalid := eventbridge._event_pattern_error(text):
            words = f"Event pattern is not valid. Reason: {invalid}"
            return "InvalidEventPatternException", words
        return event_patterns.refusal(text)

    def put_checked(request: Json) -> Any:
        if refused := refusal(request.get("EventPattern")):
            return error_response_json(*refused, 400)
        return put(request)

    def create_checked(logical_id: str, properties: Json, stack: str) -> Any:
        if refused := refusal(properties.get("EventPattern")):
            raise ValueError(": ".join(refused))
        return create(logical_id, properties, stack)

    eventbridge._put_rule = put_checked
    rules["create"] = create_checked
