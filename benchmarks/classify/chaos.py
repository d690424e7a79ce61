"""Many faults injected at once, after which no result is missing, duplicated or wrong.

Images are uploaded as fast as the local cloud accepts them, S3 events are delivered one to three
times and in any order, the endpoint throttles, fails and is killed, Lambda workers are killed
within their batches, and half-way a second model with another order of classes is promoted.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from benchmarks.classify import pictures
from benchmarks.classify.cloud import SIDE, Cloud, eventually
from benchmarks.classify.flood import answered, await_answers, drop, find_faults
from droplens.domain.run import RunKey
from localcloud.settings import ACCOUNT, REGION

# What the local cloud has to be started with.
ROUGH = {"DROPLENS_DELIVERY": "rough", "DROPLENS_AUTH": "true"}
CLASSIFIER = "chaos"
OLDER, NEWER = "20261122-120000-00000a", "20261122-130000-00000b"
NAMES = tuple(f"class {letter}" for letter in "abcdefg")
# In the template a killed worker's messages are visible again after twelve minutes. Here it is
# seconds, so that some are also received again while a worker still processes them.
VISIBILITY_SECONDS = 10
OUTAGE_SECONDS = 4.0
KINDS = ("workers", "endpoints")
LONGEST_INJECTION_SECONDS = 30.0
FAULTS = ("--throttle=0.15", "--fail=0.15", "--kill-workers=2", "--kill-endpoints=5")


def chaos(cloud: Cloud, count: int, patience: float) -> dict[str, Any]:
    """Upload `count` images while faults are injected; counts of faults, once all have a result.

    Injection lasts until half of them have one and a process of each kind was killed, or
    LONGEST_INJECTION_SECONDS after the last upload.
    patience: seconds to wait for the others; raises TimeoutError.
    """
    older = cloud.new_model(RunKey(CLASSIFIER, OLDER), NAMES)
    newer = cloud.new_model(RunKey(CLASSIFIER, NEWER), tuple(reversed(NAMES)))
    cloud.make_live(older)
    cloud.client("sqs").set_queue_attributes(
        QueueUrl=cloud.outputs["PictureQueueUrl"],
        Attributes={"VisibilityTimeout": str(VISIBILITY_SECONDS)},
    )
    named = [
        (f"input/{CLASSIFIER}/{number:05} +%2B.jpg", body)
        for number, body in enumerate(pictures.jpegs(count, SIDE))
    ]
    started = time.monotonic()
    with _listening(cloud) as details:
        cloud.localcloud("faults", *FAULTS)
        dropped = drop(cloud, named[: count // 2])
        cloud.make_live(newer)
        cloud.localcloud("faults", "--throttle=1")
        time.sleep(OUTAGE_SECONDS)
        cloud.localcloud("faults", *FAULTS)
        dropped += drop(cloud, named[count // 2 :])
        # If workers start more slowly than they are killed, half is never reached.
        with suppress(TimeoutError):
            eventually(
                lambda: answered(cloud, CLASSIFIER) >= count // 2 and all(_killed(cloud).values()),
                "half of the answers, in spite of those killed",
                LONGEST_INJECTION_SECONDS,
            )
        cloud.localcloud("faults")
        await_answers(cloud, CLASSIFIER, count, patience)
    seconds = time.monotonic() - started
    return {
        "pictures": count,
        "seconds": round(seconds, 1),
        "events": len(details),
        **_killed(cloud),
        "dead_letters": _dead_letters(cloud),
        **find_faults(cloud, dropped, [older, newer], details).counts(),
    }


@contextmanager
def _listening(cloud: Cloud) -> Iterator[list[dict[str, Any]]]:
    """A consumer's rule and queue; yields the list of the details of all events received."""
    sqs, rules = cloud.client("sqs"), cloud.client("events")
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:listener"
    may_send = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [may_send]})
    queue = sqs.create_queue(QueueName="listener", Attributes={"Policy": policy})["QueueUrl"]
    pattern = {"source": ["droplens"], "detail-type": ["Image Classified"]}
    rules.put_rule(Name="listener", EventPattern=json.dumps(pattern))
    rules.put_targets(Rule="listener", Targets=[{"Id": "queue", "Arn": arn}])
    details: list[dict[str, Any]] = []
    over = threading.Event()

    def listen() -> None:
        while True:
            last = over.is_set()
            messages = sqs.receive_message(
                QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=3 if last else 1
            ).get("Messages", [])
            for message in messages:
                details.append(json.loads(message["Body"])["detail"])
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            if last and not messages:
                return

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        yield details
    finally:
        over.set()
        listener.join()


def _dead_letters(cloud: Cloud) -> int:
    """The number of messages in the dead-letter queues."""
    sqs = cloud.client("sqs")
    return sum(
        int(
            sqs.get_queue_attributes(
                QueueUrl=cloud.outputs[queue], AttributeNames=["ApproximateNumberOfMessages"]
            )["Attributes"]["ApproximateNumberOfMessages"]
        )
        for queue in ("PictureDlqUrl", "EventDlqUrl")
    )


def _killed(cloud: Cloud) -> dict[str, int]:
    """How many of each kind, by the local cloud's own log."""
    log = (cloud.folder / "cloud" / "server.log").read_text("utf-8", "replace")
    return {f"{kind}_killed": log.count(f"fault injection: kill_{kind}\n") for kind in KINDS}
