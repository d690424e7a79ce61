"""Refuses requests that AWS refuses and MiniStack accepts.

Imported only by the server process, as ministack_patches is. docs/local-cloud.md lists the rules,
which are marked RULE here, with their sources.
"""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

from ministack.core import iam_evaluator
from ministack.core.responses import error_response_json
from ministack.services import eventbridge, iam, lambda_svc, sns
from ministack.services.cloudformation import provisioners

from localcloud.emulator import event_patterns
from localcloud.settings import ACCOUNT

Json = dict[str, Any]

_IAM_POLL_SECONDS = 0.2
_SUBJECT_CHARACTERS = 100
_ENVIRONMENT_BYTES = 4096
# Of the request and of the response of a synchronous invocation.
_SYNCHRONOUS_BYTES = (6_291_456, 6_291_556)
# In most regions 1 MB since 2025 and 2026; the documentation for China still has this limit.
_ASYNCHRONOUS_BYTES = _EVENT_BYTES = 262_144


def check_event_patterns() -> None:
    """PutRule, also by CloudFormation, refuses patterns that are too long or too
    complex. RULE: event-pattern-complexity, event-pattern-size"""
    put = eventbridge._put_rule
    rules = provisioners._RESOURCE_HANDLERS["AWS::Events::Rule"]
    create = rules["create"]

    def refusal(pattern: Any) -> tuple[str, str] | None:
        text = json.dumps(pattern) if isinstance(pattern, dict) else pattern
        if not text:
            return None
        if invalid := eventbridge._event_pattern_error(text):
            message = f"Event pattern is not valid. Reason: {invalid}"
            return "InvalidEventPatternException", message
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


def check_notifications() -> None:
    """Publish refuses a subject that an e-mail cannot have. RULE: sns-subject. (SNS API Reference,
    "Publish", of which the older text is the stricter one: ASCII that begins with a letter, number
    or punctuation mark, no line breaks or control characters, at most 100 characters.)"""
    publish = sns.publish_internal

    def publish_checked(topic_arn: str, message: Any, subject: str = "", **more: Any) -> Any:
        if subject and (
            len(subject) > _SUBJECT_CHARACTERS
            or not subject.isascii()
            or not subject.isprintable()
            or subject[0] == " "
        ):
            raise sns.SnsPublishError("InvalidParameter", "Invalid parameter: Subject")
        return publish(topic_arn, message, subject, **more)

    sns.publish_internal = publish_checked


def check_event_sizes() -> None:
    """PutEvents refuses requests whose entries are too large together. RULE: event-size.
    (EventBridge User Guide, "Calculating PutEvents event entry size".)"""
    put = eventbridge._put_events

    def put_checked(request: Json, allow_aws_source: bool = False) -> Any:
        if sum(map(_entry_bytes, request.get("Entries", []))) > _EVENT_BYTES:
            message = f"Total size of the entries in the request is over the limit: {_EVENT_BYTES}."
            return error_response_json("ValidationException", message, 400)
        return put(request, allow_aws_source=allow_aws_source)

    eventbridge._put_events = put_checked


def _entry_bytes(entry: Json) -> int:
    texts = [entry.get(name) or "" for name in ("Source", "DetailType", "Detail")]
    texts += entry.get("Resources") or []
    return 14 * ("Time" in entry) + sum(len(str(text).encode()) for text in texts)


def check_functions() -> None:
    """Lambda refuses large payloads and environments, and applies a template's RecursiveLoop.
    RULE: lambda-payloads, lambda-environment, recursive-loop. (Lambda Developer Guide, "Lambda
    quotas", "Use Lambda recursive loop detection".)"""
    invoke, create = lambda_svc._invoke, lambda_svc._create_function
    update = lambda_svc._update_config
    functions = provisioners._RESOURCE_HANDLERS["AWS::Lambda::Function"]
    create_resource, update_resource = functions["create"], functions["update"]

    async def invoke_checked(name: str, event: Any, headers: Json, *rest: Any) -> Any:
        asynchronous = headers.get("x-amz-invocation-type") == "Event"
        limit = _ASYNCHRONOUS_BYTES if asynchronous else _SYNCHRONOUS_BYTES[0]
        if len(json.dumps(event, ensure_ascii=False).encode()) > limit:
            message = f"Request must be smaller than {limit} bytes for the InvokeFunction operation"
            return error_response_json("RequestEntityTooLargeException", message, 413)
        response = await invoke(name, event, headers, *rest)
        if len(response[2] or b"") <= _SYNCHRONOUS_BYTES[1]:
            return response
        error = {
            "errorMessage": "Response payload size exceeded maximum allowed payload size "
            f"({_SYNCHRONOUS_BYTES[1]} bytes).",
            "errorType": "Function.ResponseSizeTooLarge",
        }
        shown = {**response[1], "X-Amz-Function-Error": "Unhandled"}
        return response[0], shown, json.dumps(error).encode()

    def refusal(configuration: Json) -> str | None:
        variables = (configuration.get("Environment") or {}).get("Variables") or {}
        if len(json.dumps(variables, ensure_ascii=False).encode()) <= _ENVIRONMENT_BYTES:
            return None
        return (
            "Lambda was unable to configure your environment variables because the environment "
            "variables you have provided exceeded the 4KB limit."
        )

    def create_checked(request: Json) -> Any:
        if reason := refusal(request):
            return error_response_json("InvalidParameterValueException", reason, 400)
        return create(request)

    def update_checked(name: str, request: Json) -> Any:
        if reason := refusal(request):
            return error_response_json("InvalidParameterValueException", reason, 400)
        return update(name, request)

    def with_recursive_loop(make: Any, properties: Json, *arguments: Any) -> Any:
        if reason := refusal(properties):
            raise ValueError(f"InvalidParameterValueException: {reason}")
        response = make(*arguments)
        lambda_svc._functions[response[0]]["recursive_loop"] = properties.get(
            "RecursiveLoop", "Terminate"
        )
        return response

    def create_function(logical_id: str, properties: Json, stack: str) -> Any:
        return with_recursive_loop(create_resource, properties, logical_id, properties, stack)

    def update_function(
        physical_id: str, old: Json, new: Json, stack: str, logical_id: Any = None
    ) -> Any:
        return with_recursive_loop(update_resource, new, physical_id, old, new, stack, logical_id)

    lambda_svc._invoke = invoke_checked
    lambda_svc._create_function = create_checked
    lambda_svc._update_config = update_checked
    functions.update(create=create_function, update=update_function)


def delay_new_permissions(delay: Callable[[], float]) -> None:
    """A role's policy takes effect delay() seconds after it was written; until then its previous
    version does. RULE: iam-propagation. (IAM User Guide, "Changes that I make are not
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

    def record_policies(known_since: float) -> None:
        for name in list(iam._roles):
            role = iam._roles.get_scoped(ACCOUNT, None, name)
            for policy, document in documents(role or {}).items():
                seen.setdefault((name, policy, document), known_since)

    def watch() -> None:
        watching = False
        while True:
            time.sleep(_IAM_POLL_SECONDS)
            if not delay():
                watching = False
                continue
            if not watching:  # what was there before the delay began is known
                seen.clear()
            record_policies(time.monotonic() if watching else float("-inf"))
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
