"""Patches of MiniStack's private functions. They are no stable interface: the version is pinned.

tests/integration/test_localcloud_patches.py checks what each relies on. Imported only by the server
process, since MiniStack reads its settings from the environment when it is imported.
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
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from secrets import token_hex
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from ministack import app
from ministack.core import (
    lambda_runtime,
    persistence,
    router,
)
from ministack.core.responses import error_response_json, json_response, request_scope
from ministack.services import (
    cloudwatch,
    codebuild,
    dynamodb,
    eventbridge,
    lambda_svc,
    s3,
    sns,
    sqs,
)
from ministack.services.cloudformation import (
    changesets,
    engine,
    handlers,
    provisioners,
    stacks,
)

from localcloud.emulator import metric_math
from localcloud.emulator.events import Event
from localcloud.emulator.service import Request, Response
from localcloud.settings import ACCOUNT, REGION

log = logging.getLogger("localcloud")

KNOWN_VERSION = "1.5.33"
if (installed := metadata.version("ministack")) != KNOWN_VERSION:
    raise ImportError(f"localcloud patches MiniStack {KNOWN_VERSION}, not {installed}")

Json = dict[str, Any]


def register_service(service: str, handler: Callable[[Request], Response]) -> None:
    """Send all requests to `service` to `handler`, called in a worker thread."""

    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, _query: Json
    ) -> Response:
        request = Request(method=method, path=path, headers=headers, body=body or b"")
        return await asyncio.to_thread(handler, request)

    app.SERVICE_HANDLERS[service] = handle
    # For an unknown service the router reads all of botocore's models, seconds on the event loop,
    # before it takes the name in the request's signature.
    router.SERVICE_PATTERNS.setdefault(service, {"credential_scope": service})


def provide_resource_type(
    name: str,
    *,
    create: Callable[[str, Json, str], tuple[str, dict[str, str]]],
    update: Callable[[str, Json, Json, str], tuple[str, dict[str, str]]],
    delete: Callable[[str, Json], None],
) -> None:
    """Register a CloudFormation resource type by create(logical id, properties, stack),
    update(physical id, old, new, stack), both -> (physical id, attributes), and
    delete(physical id, properties)."""
    provisioners._RESOURCE_HANDLERS[name] = {"create": create, "update": update, "delete": delete}


def convert_numeric_parameters() -> None:
    """A template's parameters are text. CloudFormation converts them to the property's type;
    MiniStack leaves an event source's concurrency as text, which stops its poller."""
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


def apply_time_to_live() -> None:
    """CloudFormation turns on the expiry of a table's items; MiniStack leaves the property out, and
    would keep them for ever."""
    tables = provisioners._RESOURCE_HANDLERS["AWS::DynamoDB::Table"]
    create, update = tables["create"], tables["update"]

    def applied(made: Any, properties: Json) -> Any:
        if wanted := properties.get("TimeToLiveSpecification"):
            dynamodb._update_ttl({"TableName": made[0], "TimeToLiveSpecification": wanted})
        return made

    def create_table(logical_id: str, properties: Json, stack: str) -> Any:
        return applied(create(logical_id, properties, stack), properties)

    def update_table(
        physical_id: str, old: Json, new: Json, stack: str, logical_id: str | None = None
    ) -> Any:
        return applied(update(physical_id, old, new, stack, logical_id), new)

    tables.update(create=create_table, update=update_table)


def put_event(event: Event) -> None:
    """Put an event of an AWS service on the default bus (PutEvents refuses sources `aws.*`)."""
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
    response = _logs("PutLogEvents", {**target, "logEvents": events})
    if response[0] == 400:
        _logs("CreateLogGroup", {"logGroupName": group})
        _logs("CreateLogStream", target)
        response = _logs("PutLogEvents", {**target, "logEvents": events})
    if response[0] != 200:
        log.error("log lines of %s %s were refused: %s", group, stream, response[2][:500])


def _logs(action: str, parameters: Json) -> Response:
    headers = {"x-amz-target": f"Logs_20140328.{action}", "content-type": "application/x-amz-json"}
    with request_scope(ACCOUNT, REGION):
        response: Response = app.call_service_handler_sync(
            app.SERVICE_HANDLERS["logs"], "POST", "/", headers, json.dumps(parameters).encode(), {}
        )
    return response


def add_version_to_object_events() -> None:
    """AWS's EventBridge event of a versioned object has its version; MiniStack's has not, only the
    other notifications. Both are sent in one call, in one thread."""
    current = threading.local()
    fire, dispatch = s3._fire_s3_event, eventbridge._dispatch_event

    def fire_knowing(*rest: Any, version_id: str | None = None, **named: Any) -> None:
        current.version = version_id
        try:
            fire(*rest, version_id=version_id, **named)
        finally:
            current.version = None

    def dispatch_naming(event: Json, view: Any = None) -> None:
        version = getattr(current, "version", None)
        if version and event["Source"] == "aws.s3":
            detail = json.loads(event["Detail"])
            detail["object"]["version-id"] = version
            event, view = {**event, "Detail": json.dumps(detail)}, None
        dispatch(event, view)

    s3._fire_s3_event = fire_knowing
    eventbridge._dispatch_event = dispatch_naming


def run_builds_with(
    build: Callable[[Json, Json, Json], None],
    refusal: Callable[[int], tuple[str, str] | None],
    token_seconds: float,
) -> None:
    """Run CodeBuild's builds by build(record, project, request), in a thread each; it updates the
    record. MiniStack's own builds succeed at once. StartBuild is refused with the (code, message)
    of refusal(number of running builds). The same token within `token_seconds` returns the first
    build, or an error if the request differs."""
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
            response: Response = start(request)
            if response[0] == 200:
                record = codebuild._builds[json.loads(response[2])["build"]["id"]]
                project = codebuild._projects[request["projectName"]]
                record |= {"buildStatus": "IN_PROGRESS", "currentPhase": "QUEUED", "phases": []}
                del record["endTime"]
                tokens[token] = time.time(), request, record["id"]
                scope = contextvars.copy_context()
                work = (build, record, project, request)
                threading.Thread(target=scope.run, args=work, name="build", daemon=True).start()
            return response

    codebuild._start_build = start_and_build


def evaluate_functions_in_conditions() -> None:
    """In AWS a template's conditions may have Fn::Sub of parameters, Fn::Split and Fn::Join (GitHub
    aws-cloudformation/cfn-lint 876); MiniStack evaluates Ref and Fn::Select only."""
    evaluate = engine._evaluate_conditions

    def evaluated(value: Any, params: Json) -> Any:
        if isinstance(value, list):
            return [evaluated(one, params) for one in value]
        if not isinstance(value, dict):
            return value
        value = {key: evaluated(one, params) for key, one in value.items()}
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
        conditions = evaluated(template.get("Conditions", {}), params)
        response: Json = evaluate({**template, "Conditions": conditions}, params)
        return response

    for module in (engine, stacks, changesets, handlers):
        if hasattr(module, "_evaluate_conditions"):
            module._evaluate_conditions = evaluate_all


def provide_metric_math_alarms() -> None:
    """Alarms of CloudFormation that watch an expression, which MiniStack refuses. As it does with
    other alarms, each is evaluated when a metric is sent, over its last period."""
    record, evaluate = provisioners._cw_metric_alarm_record, cloudwatch._evaluate_alarm

    def recorded(name: str, properties: Json) -> Json:
        if not properties.get("Metrics"):
            return record(name, properties)
        queries = [_numbers_and_flags(query) for query in properties["Metrics"]]
        metric_math.check_alarm({**properties, "Metrics": queries})
        of_one = {name: value for name, value in properties.items() if name != "Metrics"}
        alarm: Json = record(name, {**of_one, "Namespace": "-", "MetricName": "-"})
        for field in (
            "Namespace",
            "MetricName",
            "Statistic",
            "ExtendedStatistic",
            "Period",
            "Unit",
        ):
            alarm.pop(field, None)
        return {**alarm, "Metrics": queries}

    def statistic(stat: Mapping[str, Any]) -> float | None:
        metric = stat["Metric"]
        dimensions = cloudwatch._dims_from_list(metric.get("Dimensions", []))
        key = (metric["Namespace"], metric["MetricName"], cloudwatch._dims_key(dimensions))
        since = time.time() - stat["Period"]
        recent = [one for one in cloudwatch._metrics.get(key, []) if one["Timestamp"] >= since]
        value = cloudwatch._stat_value(cloudwatch._calc_stats(recent), stat["Stat"], recent)
        return float(value) if recent and value is not None else None

    def evaluated(alarm: Json) -> None:
        if "Metrics" not in alarm:
            evaluate(alarm)
            return
        value = metric_math.evaluate_alarm(alarm["Metrics"], statistic)
        if value is None:
            return
        # MiniStack compares and records the state for a metric that has this one value.
        watched = ("metric math", alarm["AlarmName"], "")
        cloudwatch._metrics[watched] = [{"Timestamp": time.time(), "Value": value}]
        stand_in = {**alarm, "Namespace": watched[0], "MetricName": watched[1]}
        stand_in |= {"Statistic": "Average", "Period": 60}
        try:
            evaluate(stand_in)
        finally:
            del cloudwatch._metrics[watched]
        for field in ("StateValue", "StateReason", "StateUpdatedTimestamp"):
            alarm[field] = stand_in[field]

    provisioners._cw_metric_alarm_record = recorded
    cloudwatch._evaluate_alarm = evaluated


def _numbers_and_flags(query: Json) -> Json:
    """An entry of Metrics with its types, of which a template's parameters may be text."""
    typed = {**query, "ReturnData": str(query.get("ReturnData", True)).lower() == "true"}
    if "MetricStat" in query:
        typed["MetricStat"] = {**query["MetricStat"], "Period": int(query["MetricStat"]["Period"])}
    return typed


def provide_message_move_task() -> None:
    """SQS's StartMessageMoveTask, which MiniStack lacks: from a dead-letter queue to its
    messages' source queues, as new messages. At once, where AWS does it in the background."""

    def start(request: Json, _url: str) -> Json:
        dead = sqs._queue_by_arn(request["SourceArn"])
        if dead is None:
            raise sqs._Err("ResourceNotFoundException", f"no queue {request['SourceArn']}", 404)
        kept = []
        for message in dead["messages"]:
            system = dict(message.get("sys", {}))
            source = sqs._queue_by_arn(system.pop("DeadLetterQueueSourceArn", ""))
            if source is None or message["visible_at"] > time.time():
                kept.append(message)
                continue
            new_fields = {"id": str(uuid4()), "receive_count": 0, "first_receive_at": None}
            new_fields |= {"sent_at": time.time(), "visible_at": time.time()}
            source["messages"].append({**message, "sys": system, **new_fields})
        dead["messages"] = kept
        sqs.esm_wake.set()
        return {"TaskHandle": token_hex(16)}

    sqs._HANDLERS["StartMessageMoveTask"] = start


def sources_of_dead_letters(queue: str) -> set[str]:
    """The ARNs of the queues that the messages of a dead-letter queue came from."""
    dead = sqs._queue_by_arn(queue)
    messages = dead["messages"] if dead else []
    found = {message.get("sys", {}).get("DeadLetterQueueSourceArn", "") for message in messages}
    return found - {""}


def invoke_rule_targets_asynchronously() -> None:
    """EventBridge invokes a Lambda target once; AWS does so asynchronously, with the function's
    retries and its on-failure destination. MiniStack does so for other sources."""

    def dispatch(arn: str, payload: str) -> None:
        function, config, name = lambda_svc._get_func_record_for_ref(arn)
        if not function or not config:
            log.warning("EventBridge: target function %s does not exist", name)
            return
        record = lambda_svc._execution_record_for_config(function, config)
        lambda_svc.invoke_async_with_retry(record, json.loads(payload))

    eventbridge._dispatch_to_lambda = dispatch


def deliver_repeatedly(most_copies: int = 3, seconds: float = 2.0) -> None:
    """Deliver every event one to `most_copies` times, each after a random delay of up to `seconds`,
    so that the order is random: EventBridge guarantees no more than at least once."""
    deliver = eventbridge._invoke_target

    def deliver_copies(*what: Any) -> None:
        for _ in range(random.randint(1, most_copies)):
            scope = contextvars.copy_context()
            timer = threading.Timer(random.uniform(0, seconds), scope.run, (deliver, *what))
            timer.daemon = True
            timer.start()

    eventbridge._invoke_target = deliver_copies


def drop_logs_of_removed_functions() -> None:
    """Lambda writes logs with the function's role: none when both were removed during an
    invocation. MiniStack would create the log group again."""
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
    """Let all workers with the same zip share one unzipped copy in `folder`. MiniStack unzips code
    and layers for every worker, which then compiles all of their modules."""
    lock = threading.Lock()

    class Shared(zipfile.ZipFile):
        def extractall(self, path: Any = None, *_: Any) -> None:
            assert self.filename is not None
            with Path(self.filename).open("rb") as file:
                copy = folder / hashlib.file_digest(file, "sha256").hexdigest()
            with lock:
                if not copy.is_dir():
                    temporary = copy.with_suffix(".half")
                    super().extractall(temporary)
                    temporary.rename(copy)
            for entry in copy.iterdir():
                (Path(path) / entry.name).symlink_to(entry)

    lambda_runtime.zipfile = SimpleNamespace(**{**vars(zipfile), "ZipFile": Shared})


def kill_lambda_worker(chance: random.Random) -> bool:
    """SIGKILL one worker during an invocation; returns whether there was one."""
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


def call_on_notification(seen: Callable[[str, str, str], None]) -> None:
    """Call seen(topic ARN, subject, message) for every message published to a topic."""
    fan_out = sns._fanout

    def fan_out_observed(
        topic_arn: str, message_id: str, message: str, subject: str = "", *rest: Any, **named: Any
    ) -> None:
        seen(topic_arn, subject or "", message)
        fan_out(topic_arn, message_id, message, subject, *rest, **named)

    sns._fanout = fan_out_observed


def asgi_application() -> Any:
    """MiniStack's ASGI application."""
    return app.app


def save_state_periodically(seconds: float) -> None:
    """Write the state to disk every `seconds`, in case the machine is switched off: MiniStack
    writes it only on a regular shutdown."""

    def keep_saving() -> None:
        while True:
            time.sleep(seconds)
            persistence.save_all(app._build_persistence_save_dict())

    threading.Thread(target=keep_saving, name="save-state", daemon=True).start()
