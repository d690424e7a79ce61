"""Every place where we reach into MiniStack, which promises none of them: hence the exact pin.

tests/integration/test_localcloud_patches.py holds each to what we rely on. Imported only by the
server process, since MiniStack reads its settings from the environment when it is imported.
"""

import asyncio
import contextvars
import hashlib
import json
import logging
import random
import re
import threading
import time
import zipfile
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from secrets import token_hex
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

from ministack import app
from ministack.core import (
    iam_actions,
    iam_evaluator,
    lambda_runtime,
    persistence,
    responses,
    router,
    sigv4,
)
from ministack.core.responses import error_response_json, json_response, request_scope
from ministack.services import codebuild, eventbridge, lambda_svc, s3, sns, sqs, sts
from ministack.services.cloudformation import (
    changesets,
    engine,
    handlers,
    provisioners,
    stacks,
)

from localcloud.credentials import AccessKey
from localcloud.emulator.admission import Arrival, BodyNeeded
from localcloud.emulator.authorization import Permission
from localcloud.emulator.events import Event
from localcloud.emulator.service import Request, Response
from localcloud.settings import ACCOUNT, REGION

log = logging.getLogger("localcloud")

KNOWN_VERSION = "1.5.33"
if (installed := metadata.version("ministack")) != KNOWN_VERSION:
    raise ImportError(f"localcloud knows the inside of MiniStack {KNOWN_VERSION}, not {installed}")

Json = dict[str, Any]


def serve(service: str, handler: Callable[[Request], Response]) -> None:
    """Answer all requests to `service` by `handler`, called in a worker thread."""

    async def answer(
        method: str, path: str, headers: dict[str, str], body: bytes, _query: Json
    ) -> Response:
        request = Request(method=method, path=path, headers=headers, body=body or b"")
        return await asyncio.to_thread(handler, request)

    app.SERVICE_HANDLERS[service] = answer
    # A service that the router does not know costs it a look at all of botocore's models, seconds
    # on the event loop, before it falls back on the name in the request's signature.
    router.SERVICE_PATTERNS.setdefault(service, {"credential_scope": service})


def provide_resource_type(
    name: str,
    *,
    create: Callable[[str, Json, str], tuple[str, dict[str, str]]],
    update: Callable[[str, Json, Json, str], tuple[str, dict[str, str]]],
    delete: Callable[[str, Json], None],
) -> None:
    """A CloudFormation resource type: create(logical id, properties, stack), update(physical id,
    old, new, stack), both -> (physical id, attributes), and delete(physical id, properties)."""
    provisioners._RESOURCE_HANDLERS[name] = {"create": create, "update": update, "delete": delete}


def check_permissions_of(*services: str) -> None:
    """Have MiniStack only authenticate requests to these services: it knows no resources of
    theirs, so that they check permissions themselves, by `denial`. Take a request on this machine
    for one that came by TLS, as it would have to in an account. And check SQS's batch operations
    by the actions they are made of, as IAM knows no others (SendMessageBatch: sqs:SendMessage),
    GetLogEvents on the stream that it reads, and PutEvents with the condition key that names the
    events' sources."""
    for service in services:
        iam_actions.SERVICE_TO_IAM_NAMESPACE.pop(service, None)
    extract = iam_actions.extract_iam_action

    def extract_known(*request: Any) -> str | None:
        action: str | None = extract(*request)
        return action.removesuffix("Batch") if action and action.startswith("sqs:") else action

    iam_actions.extract_iam_action = extract_known
    resource_of = iam_actions.extract_resource_arn

    def with_streams(
        service: str, method: str, path: str, headers: Json, body: bytes, *rest: Any
    ) -> str:
        arn: str = resource_of(service, method, path, headers, body, *rest)
        if service == "logs" and headers.get("x-amz-target", "").endswith(".GetLogEvents"):
            return f"{arn}:log-stream:{json.loads(body)['logStreamName']}"
        return arn

    iam_actions.extract_resource_arn = with_streams
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


def denial(request: Request, permission: Permission) -> str | None:
    """Why the request's sender lacks a permission, in AWS's words; None if it has it. Only where
    MiniStack runs with AUTH, and in the context of the request."""
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
    """The (key, secret, token) of a new session of a role, as the service that a role trusts gets
    them. AssumeRole would ask whether the operator may assume the role, who need not."""
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


def issue_random_function_sessions() -> None:
    """Functions get sessions of their role that nobody can guess, new in each life of the cloud.
    MiniStack gives them the account's id as key, with a known secret, or where it runs with AUTH
    what it derives from the function's name."""
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


def signature_refusal(operator: AccessKey) -> Callable[[Arrival], Response | None]:
    """What a request is answered that no key of this cloud has signed, None where one has: the
    operator's, a role session's or an IAM user's. MiniStack by itself believes the claimed key, and
    takes requests with none, with `test` or with any account's id for the root user's."""
    session = {
        "Arn": f"arn:aws:iam::{ACCOUNT}:root",
        "UserId": ACCOUNT,
        "SecretAccessKey": operator.secret,
        "SessionToken": None,
    }

    def refusal(arrival: Arrival) -> Response | None:
        if operator.key not in sts._sessions:  # not before the saved state is read
            sts.register_session(operator.key, dict(session))
        query = parse_qs(arrival.query_string, keep_blank_values=True)
        service, failure = _signature_failure(arrival, query)
        if failure is None:
            return None
        failed = iam_evaluator.AuthError(*failure)
        status, headers, body = app._credential_failure(
            service, "", str(uuid4()), failed, dict(arrival.headers)
        )
        return status, headers, body

    return refusal


def _signature_failure(arrival: Arrival, query: Json) -> tuple[str, tuple[str, str] | None]:
    """-> (the service, (error code, message) or None). Raises BodyNeeded."""
    headers = dict(arrival.headers)
    authorization = headers.get("authorization", "")
    if authorization.startswith("AWS ") or (not authorization and "AWSAccessKeyId" in query):
        return "s3", _old_signature_failure(arrival, headers, query)
    presigned = not authorization and "X-Amz-Signature" in query
    if not presigned and not authorization.startswith("AWS4-HMAC-SHA256 "):
        service = router.detect_service(arrival.method, arrival.raw_path, headers, query)
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
            late = sigv4.request_time_failure(signature)
        elif sigv4.presigned_request_is_expired(
            signature.amz_date, query.get("X-Amz-Expires", ["0"])[0]
        ):
            late = ("AccessDenied", "Request has expired")
        else:
            late = None
    except ValueError:
        late = ("AccessDenied", "X-Amz-Date and X-Amz-Expires are not a date and seconds")
    if late:
        return service, late
    stated = headers.get("x-amz-content-sha256", "")
    in_chunks = stated.startswith("STREAMING-AWS4-HMAC-SHA256")
    of_body = in_chunks or not (stated or (presigned and service == "s3"))
    if of_body and arrival.body is None:
        raise BodyNeeded
    return service, sigv4.header_signature_failure(
        signature,
        known.secret_access_key,
        arrival.method,
        arrival.raw_path,
        query,
        headers,
        arrival.body or b"",
        presigned=presigned,
    )


def _old_signature_failure(arrival: Arrival, headers: Json, query: Json) -> tuple[str, str] | None:
    """Of signature version 2, as boto3 still presigns URLs of S3 with by default."""
    key = router.extract_access_key_id(headers, query)
    token = headers.get("x-amz-security-token", query.get("x-amz-security-token", [""])[0])
    known = _credential(key, token)
    if isinstance(known, tuple):
        return known
    signed = iam_evaluator.SignedRequest(
        key,
        arrival.method,
        arrival.raw_path,
        query,
        headers,
        sigv2=True,
        auth_path=arrival.raw_path,
    )
    checked = iam_evaluator._sigv2_check(signed, ACCOUNT)
    if isinstance(checked, iam_evaluator.AuthError):
        return checked.code, checked.message
    return None


def _credential(key: str, token: str) -> Any:
    """The credential of a key that this cloud issued; else (error code, message)."""
    unknown = "InvalidClientTokenId", "The security token included in the request is invalid."
    if iam_evaluator.is_root_access_key(key):
        return unknown  # by MiniStack's rules; whatever its secret, everybody knows it
    account = responses._account_from_sts_session(key) or ACCOUNT
    found = iam_evaluator.resolve_credential(key, account, token)
    if isinstance(found, iam_evaluator.CredentialResolutionError):
        return found.code, found.message
    return found


def take_numbers_as_numbers() -> None:
    """A template's parameters arrive as text. CloudFormation turns them into what a property is;
    MiniStack leaves an event source's concurrency as text, which then stops its poller."""
    mapping = provisioners._RESOURCE_HANDLERS["AWS::Lambda::EventSourceMapping"]
    create, update = mapping["create"], mapping["update"]

    def numbers(properties: Json) -> Json:
        scaling = properties.get("ScalingConfig")
        if not scaling:
            return properties
        changed = {name: int(value) for name, value in scaling.items()}
        return {**properties, "ScalingConfig": changed}

    def create_mapping(logical_id: str, properties: Json, stack: str) -> Any:
        return create(logical_id, numbers(properties), stack)

    def update_mapping(physical_id: str, old: Json, new: Json, stack: str) -> Any:
        return update(physical_id, numbers(old), numbers(new), stack)

    mapping.update(create=create_mapping, update=update_mapping)


def put_event(event: Event) -> None:
    """An event on the default bus as an AWS service sends it (PutEvents refuses `aws.*`)."""
    entry = {
        "Source": event.source,
        "DetailType": event.detail_type,
        "Detail": json.dumps(event.detail),
        "Resources": [event.resource],
    }
    with request_scope(ACCOUNT, REGION):
        eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)


def append_log(group: str, stream: str, lines: Iterable[tuple[int, str]]) -> None:
    """Write (epoch ms, line) to CloudWatch Logs, making group and stream where needed."""
    events = [{"timestamp": at, "message": line or " "} for at, line in lines]
    target = {"logGroupName": group, "logStreamName": stream}
    answer = _logs("PutLogEvents", {**target, "logEvents": events})
    if answer[0] == 400:
        _logs("CreateLogGroup", {"logGroupName": group})
        _logs("CreateLogStream", target)
        answer = _logs("PutLogEvents", {**target, "logEvents": events})
    if answer[0] != 200:
        log.error("log lines of %s %s were refused: %s", group, stream, answer[2][:500])


def _logs(action: str, parameters: Json) -> Response:
    headers = {"x-amz-target": f"Logs_20140328.{action}", "content-type": "application/x-amz-json"}
    with request_scope(ACCOUNT, REGION):
        response: Response = app.call_service_handler_sync(
            app.SERVICE_HANDLERS["logs"], "POST", "/", headers, json.dumps(parameters).encode(), {}
        )
    return response


def name_object_versions_in_events() -> None:
    """AWS names the version of a versioned object in its EventBridge event; MiniStack only in the
    other kinds of notification. Both are made in one call, in one thread."""
    at_hand = threading.local()
    fire, dispatch = s3._fire_s3_event, eventbridge._dispatch_event

    def fire_knowing(*rest: Any, version_id: str | None = None, **named: Any) -> None:
        at_hand.version = version_id
        try:
            fire(*rest, version_id=version_id, **named)
        finally:
            at_hand.version = None

    def dispatch_naming(event: Json, view: Any = None) -> None:
        version = getattr(at_hand, "version", None)
        if version and event["Source"] == "aws.s3":
            detail = json.loads(event["Detail"])
            detail["object"]["version-id"] = version
            event, view = {**event, "Detail": json.dumps(detail)}, None
        dispatch(event, view)

    s3._fire_s3_event = fire_knowing
    eventbridge._dispatch_event = dispatch_naming


def build_by(
    build: Callable[[Json, Json, Json], None],
    refusal: Callable[[int], tuple[str, str] | None],
    token_seconds: float,
) -> None:
    """CodeBuild's builds are done by build(record, project, request) in a thread of its own, which
    keeps the record true; MiniStack by itself calls every build done at once. A start is refused
    with what refusal(builds that run) says. The same token within `token_seconds` is the same
    start, or a mistake."""
    start = codebuild._start_build
    lock = threading.Lock()
    tokens: dict[tuple[str, str], tuple[float, Json, str]] = {}

    def start_and_build(request: Json) -> Response:
        with lock:
            token = (request.get("projectName", ""), request.get("idempotencyToken", ""))
            at, same, build_id = tokens.get(token, (0.0, {}, ""))
            if token[1] and time.time() - at < token_seconds:
                if same != request:
                    message = "The idempotency token was used with other parameters"
                    return error_response_json("InvalidInputException", message, 400)
                return json_response({"build": dict(codebuild._builds[build_id])})
            states = [record["buildStatus"] for record in codebuild._builds.values()]
            refused = refusal(states.count("IN_PROGRESS"))
            if request.get("projectName") in codebuild._projects and refused:
                return error_response_json(*refused, 400)
            answer: Response = start(request)
            if answer[0] == 200:
                record = codebuild._builds[json.loads(answer[2])["build"]["id"]]
                project = codebuild._projects[request["projectName"]]
                record |= {"buildStatus": "IN_PROGRESS", "currentPhase": "QUEUED", "phases": []}
                del record["endTime"]
                tokens[token] = time.time(), request, record["id"]
                scope = contextvars.copy_context()
                work = (build, record, project, request)
                threading.Thread(target=scope.run, args=work, name="build", daemon=True).start()
            return answer

    codebuild._start_build = start_and_build


def split_in_conditions() -> None:
    """In AWS a template's conditions may hold Fn::Sub of parameters, Fn::Split and Fn::Join (GitHub
    aws-cloudformation/cfn-lint 876); MiniStack takes Ref and Fn::Select alone."""
    evaluate = engine._evaluate_conditions

    def worked_out(value: Any, params: Json) -> Any:
        if isinstance(value, list):
            return [worked_out(one, params) for one in value]
        if not isinstance(value, dict):
            return value
        value = {key: worked_out(one, params) for key, one in value.items()}
        if "Fn::Split" in value:
            between, text = value["Fn::Split"]
            return str(text).split(between)
        if "Fn::Join" in value:
            between, parts = value["Fn::Join"]
            return str(between).join(parts)
        if isinstance(value.get("Fn::Sub"), str):
            names = re.compile(r"\$\{(\w+)\}")
            return names.sub(lambda found: str(params[found[1]]["Value"]), value["Fn::Sub"])
        return value

    def evaluate_all(template: Json, params: Json) -> Json:
        conditions = worked_out(template.get("Conditions", {}), params)
        answer: Json = evaluate({**template, "Conditions": conditions}, params)
        return answer

    for module in (engine, stacks, changesets, handlers):
        if hasattr(module, "_evaluate_conditions"):
            module._evaluate_conditions = evaluate_all


def move_messages_back() -> None:
    """SQS's StartMessageMoveTask, which MiniStack lacks: from a dead-letter queue to the queues
    that its messages came from, as new ones. At once, where AWS does it in the background."""

    def start(request: Json, _url: str) -> Json:
        dead = sqs._queue_by_arn(request["SourceArn"])
        if dead is None:
            raise sqs._Err("ResourceNotFoundException", f"no queue {request['SourceArn']}", 404)
        staying = []
        for message in dead["messages"]:
            system = dict(message.get("sys", {}))
            source = sqs._queue_by_arn(system.pop("DeadLetterQueueSourceArn", ""))
            if source is None or message["visible_at"] > time.time():
                staying.append(message)
                continue
            anew = {"id": str(uuid4()), "receive_count": 0, "first_receive_at": None}
            anew |= {"sent_at": time.time(), "visible_at": time.time()}
            source["messages"].append({**message, "sys": system, **anew})
        dead["messages"] = staying
        sqs.esm_wake.set()
        return {"TaskHandle": token_hex(16)}

    sqs._HANDLERS["StartMessageMoveTask"] = start


def invoke_rule_targets_asynchronously() -> None:
    """EventBridge invokes a Lambda target once; AWS does so asynchronously, with the function's
    retries and its on-failure destination. MiniStack has that path for other sources: use it."""

    def dispatch(arn: str, payload: str) -> None:
        function, config, name = lambda_svc._get_func_record_for_ref(arn)
        if not function or not config:
            log.warning("EventBridge: target function %s does not exist", name)
            return
        record = lambda_svc._execution_record_for_config(function, config)
        lambda_svc.invoke_async_with_retry(record, json.loads(payload))

    eventbridge._dispatch_to_lambda = dispatch


def deliver_roughly(most_copies: int = 3, seconds: float = 2.0) -> None:
    """Deliver every event one to `most_copies` times, each after a delay of its own of up to
    `seconds`, and so in any order: the worst that EventBridge promises, for tests of what must
    bear it."""
    deliver = eventbridge._invoke_target

    def roughly(*what: Any) -> None:
        for _ in range(random.randint(1, most_copies)):
            scope = contextvars.copy_context()
            late = threading.Timer(random.uniform(0, seconds), scope.run, (deliver, *what))
            late.daemon = True
            late.start()

    eventbridge._invoke_target = roughly


def let_removed_functions_be_silent() -> None:
    """Lambda writes logs with the function's role, which is gone when both were removed during an
    invocation; MiniStack makes the log group anew, for good."""
    emit = lambda_svc._emit_lambda_logs

    def emit_while_there(function: Json, *rest: Any, **named: Any) -> None:
        if function.get("config", function)["FunctionName"] in lambda_svc._functions:
            emit(function, *rest, **named)

    lambda_svc._emit_lambda_logs = emit_while_there


def run_lambda_workers_with(interpreter: Path) -> None:
    """Start Python functions with `interpreter` instead of the server's own."""
    detect = lambda_runtime._detect_runtime_binary

    def choose(runtime: str) -> tuple[str, str]:
        binary, script = detect(runtime)
        return (str(interpreter), script) if runtime.startswith("python") else (binary, script)

    lambda_runtime._detect_runtime_binary = choose


def share_unzipped_code(folder: Path) -> None:
    """Lambda keeps code and layers ready; MiniStack unzips them for every worker anew, which then
    compiles all of their modules. Here all workers with the same zip share one copy in `folder`."""
    lock = threading.Lock()

    class Shared(zipfile.ZipFile):
        def extractall(self, path: Any = None, *_: Any) -> None:
            assert self.filename is not None
            with Path(self.filename).open("rb") as file:
                copy = folder / hashlib.file_digest(file, "sha256").hexdigest()
            with lock:
                if not copy.is_dir():
                    half = copy.with_suffix(".half")
                    super().extractall(half)
                    half.rename(copy)
            for entry in copy.iterdir():
                (Path(path) / entry.name).symlink_to(entry)

    lambda_runtime.zipfile = SimpleNamespace(**{**vars(zipfile), "ZipFile": Shared})


def kill_lambda_worker(chance: random.Random) -> bool:
    """SIGKILL one worker in the middle of an invocation; whether there was one."""
    with lambda_runtime._lock:
        at_work = [
            worker._proc
            for pool in lambda_runtime._workers.values()
            for worker in pool
            if worker.in_use and worker._proc is not None
        ]
    if at_work:
        chance.choice(at_work).kill()
    return bool(at_work)


def stop_lambda_workers() -> None:
    """End the warm workers of all functions."""
    lambda_runtime.reset()


def watch_notifications(seen: Callable[[str, str, str], None]) -> None:
    """Call seen(topic ARN, subject, message) for whatever is published to a topic."""
    fan_out = sns._fanout

    def fan_out_and_tell(
        topic_arn: str, message_id: str, message: str, subject: str = "", *rest: Any, **named: Any
    ) -> None:
        seen(topic_arn, subject or "", message)
        fan_out(topic_arn, message_id, message, subject, *rest, **named)

    sns._fanout = fan_out_and_tell


def asgi_application() -> Any:
    """What Hypercorn serves."""
    return app.app


def save_state_every(seconds: float) -> None:
    """Keep the state on disk no older than this, for a machine that is switched off: MiniStack
    writes it only when it is shut down in order."""

    def keep_saving() -> None:
        while True:
            time.sleep(seconds)
            persistence.save_all(app._build_persistence_save_dict())

    threading.Thread(target=keep_saving, name="save-state", daemon=True).start()
