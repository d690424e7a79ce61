"""Many faults injected at once, after which no result is missing, duplicated or wrong.

Images are uploaded as fast as the local cloud accepts them, S3 events are delivered one to three
times and in any order, the endpoint throttles, fails and is killed, Lambda workers are killed
within their batches, and half-way a second model with another order of classes is promoted.
Or, with EndpointMode=lambda, workers run the models themselves, and the second one's object is
missing for a while.
"""

import json
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from benchmarks.classify import pictures
from benchmarks.classify.cloud import SIDE, Cloud, eventually
from benchmarks.classify.flood import answered, await_answers, drop, find_faults, foretold_top
from benchmarks.classify.reference import Reference
from droplens.domain.card import ModelCard
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
# Until every worker knows that another model is live: CachedCards keeps a card for five.
KNOWN_SECONDS = 6.0
LONGEST_INJECTION_SECONDS = 30.0
FAULTS = ("--throttle=0.15", "--fail=0.15", "--kill-workers=2", "--kill-endpoints=5")


def chaos(cloud: Cloud, count: int, patience: float, *, inside: bool = False) -> dict[str, Any]:
    """Upload `count` images while faults are injected; counts of faults, once all have a result.

    Injection lasts until half of them have one and a process of each kind was killed, or
    LONGEST_INJECTION_SECONDS after the last upload.
    patience: seconds to wait for the others; raises TimeoutError. inside: with
    EndpointMode=lambda.
    """
    older, newer = RunKey(CLASSIFIER, OLDER), RunKey(CLASSIFIER, NEWER)
    if inside:
        cards = [
            cloud.new_network(older, NAMES, seed=1),
            cloud.new_network(newer, tuple(reversed(NAMES)), seed=2),
        ]
    else:
        cards = [cloud.new_model(older, NAMES), cloud.new_model(newer, tuple(reversed(NAMES)))]
    killed = ("workers",) if inside else ("workers", "endpoints")
    cloud.make_live(cards[0])
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
        half, later = count // 2, count // 2 + max(1, count // 20)
        dropped = drop(cloud, named[:half])
        with _outage(cloud, cards[1]):
            cloud.make_live(cards[1])
            if inside:
                time.sleep(KNOWN_SECONDS)
            dropped += drop(cloud, named[half:later])
            time.sleep(OUTAGE_SECONDS)
        dropped += drop(cloud, named[later:])
        # If workers start more slowly than they are killed, half is never reached.
        with suppress(TimeoutError):
            eventually(
                lambda: (
                    answered(cloud, CLASSIFIER) >= count // 2
                    and all(_killed(cloud, killed).values())
                ),
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
        **_killed(cloud, killed),
        "dead_letters": _dead_letters(cloud),
        **find_faults(
            cloud, dropped, cards, details, Reference(cloud) if inside else foretold_top
        ).counts(),
    }


@contextmanager
def _outage(cloud: Cloud, card: ModelCard) -> Iterator[None]:
    """Within, a model cannot be used: its object is missing, or all endpoints are throttled."""
    if card.model is None:
        cloud.localcloud("faults", "--throttle=1")
        yield
    else:
        cloud.localcloud("faults")
        s3, place = cloud.client("s3"), {"Bucket": cloud.bucket, "Key": card.model.key}
        body = s3.get_object(**place)["Body"].read()
        s3.delete_object(**place)
        yield
        s3.put_object(**place, Body=body)
    cloud.localcloud("faults", *FAULTS)


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


def _killed(cloud: Cloud, kinds: Iterable[str]) -> dict[str, int]:
    """How many of each kind, by the local cloud's own log."""
    log = (cloud.folder / "cloud" / "server.log").read_text("utf-8", "replace")
    return {f"{kind}_killed": log.count(f"fault injection: kill_{kind}\n") for kind in kinds}
