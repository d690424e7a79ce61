"""What MiniStack accepts and AWS refuses: each request is checked before MiniStack has it.

Imported only by the server process, as ministack_seams is. docs/local-cloud.md lists the rules
with their sources, under the names that stand in `RULE` comments here.
"""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

from ministack.core import iam_evaluator
from ministack.core.responses import error_response_json
from ministack.services import eventbridge, iam
from ministack.services.cloudformation import provisioners

from localcloud.emulator import event_patterns
from localcloud.settings import ACCOUNT

Json = dict[str, Any]

_IAM_LOOK_SECONDS = 0.2


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


def delay_new_permissions(delay: Callable[[], float]) -> None:
    """A role's policy counts only once it has been there for delay() seconds, and what it said
    before counts until then. RULE: iam-propagation. (IAM User Guide, "Changes that I make are not
    always immediately visible": IAM is eventually consistent.)"""
    seen: dict[tuple[str, str, str], float] = {}

    def documents(role: Json) -> dict[str, str]:
        inline = {
            name: document if isinstance(document, str) else json.dumps(document)
            for name, document in (role.get("InlinePolicies") or {}).items()
        }
        attached = {
            arn: iam_evaluator._resolve_managed_policy_document(arn, ACCOUNT)
            for arn in role.get("AttachedPolicies", [])
        }
        return inline | {
            arn: document if isinstance(document, str) else json.dumps(document)
            for arn, document in attached.items()
            if document
        }

    def look(known_since: float) -> None:
        for name in list(iam._roles):
            role = iam._roles.get_scoped(ACCOUNT, None, name)
            for policy, document in documents(role or {}).items():
                seen.setdefault((name, policy, document), known_since)

    def watch() -> None:
        watching = False
        while True:
            time.sleep(_IAM_LOOK_SECONDS)
            if not delay():
                watching = False
                continue
            if not watching:  # what was there before the delay began is known
                seen.clear()
            look(time.monotonic() if watching else float("-inf"))
            watching = True

    gather = iam_evaluator._gather_role_policies

    def gather_known(role_name: str, account: str) -> Any:
        if not (seconds := delay()) or not seen:
            return gather(role_name, account)
        now = time.monotonic()
        role = iam._roles.get_scoped(account, None, role_name) or {}
        current = documents(role)
        counting = []
        for policy in {key[1] for key in seen if key[0] == role_name} | current.keys():
            known = {
                document: since
                for (role_of, policy_of, document), since in seen.items()
                if (role_of, policy_of) == (role_name, policy) and now - since >= seconds
            }
            if policy in current and known:
                counting.append(max(known, key=lambda document: known[document]))
        return [iam_evaluator.parse_policy_document(document) for document in counting]

    iam_evaluator._gather_role_policies = gather_known
    threading.Thread(target=watch, name="iam", daemon=True).start()
