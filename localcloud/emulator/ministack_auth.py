"""Patches of MiniStack's authentication and authorization.

Imported only by the server process, as ministack_patches is, which checks MiniStack's version.
"""

import json
import threading
from collections.abc import Callable
from secrets import token_hex
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

from ministack import app
from ministack.core import iam_actions, iam_evaluator, lambda_runtime, responses, router, sigv4
from ministack.services import lambda_svc, sts

from localcloud.credentials import AccessKey
from localcloud.emulator.admission import BodyNeeded, IncomingRequest
from localcloud.emulator.authorization import Permission
from localcloud.emulator.service import Request, Response
from localcloud.settings import ACCOUNT, REGION

Json = dict[str, Any]


def delegate_permission_checks(*services: str) -> None:
    """Let MiniStack only authenticate requests to these services. It does not know their
    resources: they check permissions themselves, by `denial`."""
    for service in services:
        iam_actions.SERVICE_TO_IAM_NAMESPACE.pop(service, None)


def correct_permission_checks() -> None:
    """Check SQS's batch operations by the actions that IAM has for them (SendMessageBatch:
    sqs:SendMessage), StartMessageMoveTask on its source queue, GetLogEvents on the log stream, and
    PutEvents with condition key events:source; and treat each request as one by TLS, as it is in an
    account."""
    extract = iam_actions.extract_iam_action

    def extract_known(*request: Any) -> str | None:
        action: str | None = extract(*request)
        return action.removesuffix("Batch") if action and action.startswith("sqs:") else action

    iam_actions.extract_iam_action = extract_known
    resource_of = iam_actions.extract_resource_arn

    def named_resource(
        service: str, method: str, path: str, headers: Json, body: bytes, *rest: Any
    ) -> str:
        arn: str = resource_of(service, method, path, headers, body, *rest)
        operation = headers.get("x-amz-target", "").rpartition(".")[2]
        if service == "logs" and operation == "GetLogEvents":
            return f"{arn}:log-stream:{json.loads(body)['logStreamName']}"
        if service == "sqs" and operation == "StartMessageMoveTask":
            return str(json.loads(body)["SourceArn"])
        return arn

    iam_actions.extract_resource_arn = named_resource
    tags = iam_actions.request_tag_context

    def with_sources(service: str, action: str, body: bytes, *rest: Any) -> Json:
        keys: Json = tags(service, action, body, *rest)
        if action == "events:PutEvents":
            entries = json.loads(body)["Entries"]
            sources = sorted({entry.get("Source", "") for entry in entries})
            keys["events:source"] = sources[0] if len(sources) == 1 else sources
        return keys

    iam_actions.request_tag_context = with_sources
    pin = app.pin_request_origin
    app.pin_request_origin = lambda address, _secure: pin(address, True)


def check_message_moves(sources: Callable[[str], set[str]]) -> None:
    """Require of who moves messages from a dead-letter queue what AWS requires: to receive and
    delete them there, and to send them to the queues that they came from.

    sources(ARN of the dead-letter queue) returns the ARNs of those. Amazon SQS Developer Guide,
    "Configuring queue permissions for dead-letter queue redrive".
    """
    enforce = iam_evaluator.enforce

    def enforce_all(
        key: str,
        action: str,
        service: str,
        region: str,
        resource_arn: str = "*",
        *rest: Any,
        **more: Any,
    ) -> Any:
        denied = enforce(key, action, service, region, resource_arn, *rest, **more)
        if denied is not None or action != "sqs:StartMessageMoveTask":
            return denied
        needed = [
            *(
                (name, resource_arn)
                for name in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")
            ),
            *(("SendMessage", source) for source in sorted(sources(resource_arn))),
        ]
        checks = (
            enforce(key, f"sqs:{name}", service, region, on, *rest, **more) for name, on in needed
        )
        return next((check for check in checks if check is not None), None)

    iam_evaluator.enforce = enforce_all


def denial(request: Request, permission: Permission) -> str | None:
    """AWS's message where the request's sender lacks a permission, else None. To be called in the
    context of the request; None where MiniStack runs without AUTH."""
    if not app.AUTH:
        return None
    key = router.extract_access_key_id(dict(request.headers), {})
    service = permission.action.partition(":")[0]
    result = iam_evaluator.enforce(
        key, permission.action, service, REGION, permission.resource, permission.context
    )
    if result is None:
        return None
    who = getattr(result, "principal_arn", "") or "the caller"
    return (
        f"User: {who} is not authorized to perform: {permission.action} on resource: "
        f"{permission.resource}"
    )


def issue_session(role_arn: str, session_name: str) -> tuple[str, str, str]:
    """(key, secret, token) of a new session of a role, for a service that the role trusts.
    AssumeRole would check whether the operator may assume the role, which is not needed."""
    key, secret, token = f"ASIA{token_hex(8).upper()}", token_hex(20), token_hex(64)
    role = role_arn.rsplit("/", 1)[-1]
    session = {
        "Arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{session_name}",
        "UserId": f"{role}:{session_name}",
        "SecretAccessKey": secret,
        "SessionToken": token,
    }
    sts.register_session(key, session)
    return key, secret, token


def issue_function_sessions() -> None:
    """Give functions sessions of their role with random credentials, new at each start. MiniStack's
    have the account's id as key and a known secret, or are derived from the function's name (with
    AUTH)."""
    issued: dict[tuple[str, str], tuple[str, str, str]] = {}
    lock = threading.Lock()

    def credentials(config: Json) -> dict[str, str]:
        function, role = config["FunctionArn"], config["Role"]
        with lock:
            if (function, role) not in issued:
                issued[function, role] = issue_session(role, config["FunctionName"][:64])
            key, secret, token = issued[function, role]
        return {
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_SESSION_TOKEN": token,
        }

    lambda_runtime.execution_credentials = lambda_svc.execution_credentials = credentials


def signature_refusal(operator: AccessKey) -> Callable[[IncomingRequest], Response | None]:
    """A function from request to error response: None where a key of this cloud has signed it, the
    operator's, a role session's or an IAM user's. MiniStack does not verify signatures, and treats
    requests without a key, with `test` or with any account's id as the root user's."""
    session = {
        "Arn": f"arn:aws:iam::{ACCOUNT}:root",
        "UserId": ACCOUNT,
        "SecretAccessKey": operator.secret,
        "SessionToken": None,
    }

    def refusal(incoming: IncomingRequest) -> Response | None:
        if operator.key not in sts._sessions:  # not before the saved state is read
            sts.register_session(operator.key, dict(session))
        query = parse_qs(incoming.query_string, keep_blank_values=True)
        service, failure = _signature_failure(incoming, query)
        if failure is None:
            return None
        failed = iam_evaluator.AuthError(*failure)
        status, headers, body = app._credential_failure(
            service, "", str(uuid4()), failed, dict(incoming.headers)
        )
        return status, headers, body

    return refusal


def _signature_failure(
    incoming: IncomingRequest, query: Json
) -> tuple[str, tuple[str, str] | None]:
    """(service, (error code, message) or None for a valid signature). Raises BodyNeeded."""
    headers = dict(incoming.headers)
    authorization = headers.get("authorization", "")
    if authorization.startswith("AWS ") or (not authorization and "AWSAccessKeyId" in query):
        return "s3", _old_signature_failure(incoming, headers, query)
    presigned = not authorization and "X-Amz-Signature" in query
    if not presigned and not authorization.startswith("AWS4-HMAC-SHA256 "):
        service = router.detect_service(incoming.method, incoming.raw_path, headers, query)
        return service, ("MissingAuthenticationToken", "Missing Authentication Token")
    signature: Any = (
        sigv4.parse_query_signature(query) if presigned else sigv4.parse_header_signature(headers)
    )
    if isinstance(signature, tuple):
        return "", signature
    service = signature.service
    if "host" not in signature.signed_headers.split(";"):
        return service, ("SignatureDoesNotMatch", "The signature has to cover the Host header.")
    token = headers.get("x-amz-security-token", "")
    if presigned:
        token = query.get("X-Amz-Security-Token", [token])[0]
    known = _credential(signature.access_key_id, token)
    if isinstance(known, tuple):
        return service, known
    try:
        if not presigned:
            expired = sigv4.request_time_failure(signature)
        elif sigv4.presigned_request_is_expired(
            signature.amz_date, query.get("X-Amz-Expires", ["0"])[0]
        ):
            expired = ("AccessDenied", "Request has expired")
        else:
            expired = None
    except ValueError:
        expired = ("AccessDenied", "X-Amz-Date and X-Amz-Expires are not a date and seconds")
    if expired:
        return service, expired
    stated = headers.get("x-amz-content-sha256", "")
    in_chunks = stated.startswith("STREAMING-AWS4-HMAC-SHA256")
    of_body = in_chunks or not (stated or (presigned and service == "s3"))
    if of_body and incoming.body is None:
        raise BodyNeeded
    return service, sigv4.header_signature_failure(
        signature,
        known.secret_access_key,
        incoming.method,
        incoming.raw_path,
        query,
        headers,
        incoming.body or b"",
        presigned=presigned,
    )


def _old_signature_failure(
    incoming: IncomingRequest, headers: Json, query: Json
) -> tuple[str, str] | None:
    """For signature version 2, which boto3's presigned URLs of S3 have by default."""
    key = router.extract_access_key_id(headers, query)
    token = headers.get("x-amz-security-token", query.get("x-amz-security-token", [""])[0])
    known = _credential(key, token)
    if isinstance(known, tuple):
        return known
    signed = iam_evaluator.SignedRequest(
        key,
        incoming.method,
        incoming.raw_path,
        query,
        headers,
        sigv2=True,
        auth_path=incoming.raw_path,
    )
    checked = iam_evaluator._sigv2_check(signed, ACCOUNT)
    if isinstance(checked, iam_evaluator.AuthError):
        return checked.code, checked.message
    return None


def _credential(key: str, token: str) -> Any:
    """The credential of a key that this cloud issued, else (error code, message)."""
    unknown = "InvalidClientTokenId", "The security token included in the request is invalid."
    if iam_evaluator.is_root_access_key(key):
        return unknown  # MiniStack's rules for the root user: the secret is public
    account = responses._account_from_sts_session(key) or ACCOUNT
    found = iam_evaluator.resolve_credential(key, account, token)
    if isinstance(found, iam_evaluator.CredentialResolutionError):
        return found.code, found.message
    return found
