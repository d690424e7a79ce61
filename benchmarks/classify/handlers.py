"""Our handler and a bare one alternately, in one process: python handlers.py PLAN

Runs on the functions' interpreter with the built layer and the deployed function's variables. PLAN
is a JSON file: {"endpoint", "batches": [[S3's event, ...], ...], "warmup": batches not counted}.
Prints a JSON list of {"way", "batch", "seconds", "cpu_seconds"}, one for each batch and way.

The bare handler is what a tutorial shows: get_object, invoke_endpoint, put_object for one picture
after the other. It checks nothing: it classifies duplicates, overwrites newer results, sends no
events, and one bad image fails a whole batch.
"""

import contextlib
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3

BUCKET = os.environ["BUCKET"]
S3 = boto3.client("s3")
RUNTIME = boto3.client("sagemaker-runtime")


def bare_handler(endpoint: str, event: dict[str, Any]) -> None:
    """Three calls for each picture."""
    for record in event["Records"]:
        key = json.loads(record["body"])["detail"]["object"]["key"]
        picture = S3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        answer = RUNTIME.invoke_endpoint(
            EndpointName=endpoint, ContentType="image/jpeg", Body=picture
        )
        S3.put_object(
            Bucket=BUCKET,
            Key=f"bare/{key}.json",
            Body=answer["Body"].read(),
            ContentType="application/json",
        )


def sqs_event(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """The event by which Lambda hands over a batch of S3's events."""
    return {
        "Records": [
            {
                "messageId": str(number),
                "receiptHandle": str(number),
                "body": json.dumps(message),
                "attributes": {
                    "ApproximateReceiveCount": "1",
                    "SentTimestamp": "1763812800000",
                    "SenderId": "000000000000",
                    "ApproximateFirstReceiveTimestamp": "1763812800000",
                },
                "messageAttributes": {},
                "md5OfBody": "",
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:pictures",
                "awsRegion": "us-east-1",
            }
            for number, message in enumerate(messages)
        ]
    }


def our_handler() -> Callable[[dict[str, Any]], None]:
    """classify_image as it was built, which is on the path of a process of its own only.

    What it is called with must succeed.
    """
    app: Any = importlib.import_module("app")
    context = SimpleNamespace(
        function_name="droplens-classify-image",
        memory_limit_in_mb=2048,
        invoked_function_arn="arn:aws:lambda:us-east-1:000000000000:function:classify-image",
        aws_request_id="00000000-0000-0000-0000-000000000000",
        get_remaining_time_in_millis=lambda: 120_000,
    )

    def call(event: dict[str, Any]) -> None:
        # Metrics and log lines go to standard output, which here belongs to the measurements.
        with contextlib.redirect_stdout(sys.stderr):
            answer = app.handler(event, context)
        assert answer == {"batchItemFailures": []}, answer

    return call


def main() -> None:
    """Measure and print."""
    ours = our_handler()
    plan = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    ways: dict[str, Callable[[dict[str, Any]], None]] = {
        "droplens": ours,
        "bare": lambda event: bare_handler(plan["endpoint"], event),
    }
    measured = []
    for number, messages in enumerate(plan["batches"]):
        event = sqs_event(messages)
        # The first of a pair finds colder caches: they take turns at that too.
        for way in sorted(ways, reverse=number % 2 == 0):
            cpu, started = time.process_time(), time.perf_counter()
            ways[way](event)
            row = {
                "way": way,
                "batch": len(messages),
                "seconds": time.perf_counter() - started,
                "cpu_seconds": time.process_time() - cpu,
            }
            if number >= plan["warmup"]:
                measured.append(row)
    json.dump(measured, sys.stdout)


if __name__ == "__main__":
    main()
