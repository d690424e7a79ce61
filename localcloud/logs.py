"""Prints the logs of functions, jobs, training and endpoints, in the order of time."""

import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple, TextIO

from localcloud.settings import LocalCloudError

FOLLOW_SECONDS = 0.5
_PAGE = 10_000
# Powertools' Logger writes one JSON object a line; these of its keys are left out.
_OMITTED_KEYS = {
    "level", "location", "message", "timestamp", "service", "cold_start", "function_name",
    "function_memory_size", "function_arn", "function_request_id", "xray_trace_id",
}  # fmt: skip
_PLATFORM = re.compile(r"^(START|END|REPORT|INIT_START) ")


class _Read(NamedTuple):
    """How far a stream was read: when (epoch ms), and its number of events then."""

    at: int
    events: int


def show(client: Any, out: TextIO, *, name: str = "", follow: bool = False) -> None:
    """Print the lines of every log group or stream whose name contains `name`.
    `client` is a boto3 CloudWatch Logs client; raises LocalCloudError where nothing matches."""
    seen: dict[tuple[str, str], _Read] = {}
    while True:
        groups = list(_groups(client))
        for at, source, line in sorted(
            _new_lines(client, groups, name, seen), key=lambda event: event[0]
        ):
            for text in readable(line):
                moment = datetime.fromtimestamp(at / 1000, UTC).astimezone().strftime("%H:%M:%S")
                print(f"{moment} {source} | {text}", file=out, flush=True)
        if not follow:
            break
        time.sleep(FOLLOW_SECONDS)
    if not seen:
        known = ", ".join(sorted(groups)) or "none yet"
        raise LocalCloudError(f"no log has {name!r} in its name; log groups: {known}")


def readable(line: str) -> list[str]:
    """A log event as lines for people: none for Lambda's own records, JSON records as text."""
    if _PLATFORM.match(line):
        return []
    try:
        record = json.loads(line)
    except ValueError:
        return line.splitlines()
    if not isinstance(record, dict) or "message" not in record:
        if isinstance(record, dict) and "_aws" in record:
            return []  # a metric in CloudWatch's embedded format
        return line.splitlines()
    extra = {k: v for k, v in record.items() if k not in _OMITTED_KEYS and k != "exception"}
    fields = " ".join(f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in extra.items())
    message = record["message"]
    text = message if isinstance(message, str) else json.dumps(message)
    lines = [f"{record.get('level', 'INFO')} {text} {fields}".rstrip()]
    return lines + str(record["exception"]).splitlines() if record.get("exception") else lines


def _groups(client: Any) -> Iterator[str]:
    for page in client.get_paginator("describe_log_groups").paginate():
        for group in page["logGroups"]:
            yield group["logGroupName"]


def _new_lines(
    client: Any, groups: list[str], name: str, seen: dict[tuple[str, str], _Read]
) -> Iterator[tuple[int, str, str]]:
    for group in groups:
        for page in client.get_paginator("describe_log_streams").paginate(logGroupName=group):
            for stream in page["logStreams"]:
                key = (group, stream["logStreamName"])
                if name not in group and name not in key[1]:
                    continue
                before = seen.get(key, _Read(-1, 0))
                written = stream.get("lastIngestionTime", 0)
                # A function has a stream for each call: only those that may have grown are read.
                # Times are whole milliseconds, so one that was just written is read again.
                if written < before.at:
                    continue
                requested_at = int(time.time() * 1000)
                events = _all_events(client, *key)
                seen[key] = _Read(requested_at, len(events))
                for event in events[before.events :]:
                    yield event["timestamp"], _source_name(*key), event["message"]


def _all_events(client: Any, group: str, stream: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    token: dict[str, str] = {}
    while True:
        page = client.get_log_events(
            logGroupName=group,
            logStreamName=stream,
            startFromHead=True,
            limit=_PAGE,
            **token,
        )
        events += page["events"]
        if len(page["events"]) < _PAGE:
            return events
        token = {"nextToken": page["nextForwardToken"]}


def _source_name(group: str, stream: str) -> str:
    """The function, the job or the endpoint, for people."""
    if group.startswith("/aws/lambda/"):
        return group.removeprefix("/aws/lambda/")
    if group.startswith("/aws/sagemaker/Endpoints/"):
        return f"endpoint {group.rsplit('/', 1)[-1]}"
    if group == "/aws/sagemaker/TrainingJobs":
        return f"training {stream.partition('/')[0]}"
    return f"{group.strip('/').rsplit('/', 1)[-1]} {stream.partition('/')[0]}"
