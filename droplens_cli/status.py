"""The status of a stack: classifiers, live models, newest runs, waiting pictures, reviews, queues.

It reads both tables, the model cards, the names below input/ and the queues' own figures, and
changes nothing. Names and reasons are printed in one line each, without control characters.
"""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from droplens.aws.s3 import Bucket
from droplens.classify.routing import likely_classifier
from droplens.domain import layout
from droplens.domain.errors import ObjectMissing
from droplens.domain.review import Reason, live_accuracy
from droplens.domain.run import IN_PROGRESS, WORKING, RunKey, Stage, Status, packing_progress
from droplens.domain.stored_object import ListedObject
from droplens.domain.text import one_line
from droplens.state.reviews import MOST_REVIEWS_COUNTED
from droplens.statistics.live_accuracy import LiveAccuracy
from droplens_cli.stack import Stack
from droplens_cli.table import measured, percent, table, when

# Waiting pictures counted of a folder: one call of S3 lists no more.
MOST_COUNTED = 1000
# Folders below input/ that are shown: a bucket may have one for every day.
MOST_FOLDERS = 30
# Between two requests for a run that is followed, and two pages of `status --watch`.
POLL_SECONDS = 2.0
_OF_CARD = ("run_id", "promoted_at", "classes", "measured")
PICTURES, DEAD_PICTURES, DEAD_EVENTS = (
    "pictures",
    "pictures, dead-letter queue",
    "events, dead-letter queue",
)
QUEUES = (
    (PICTURES, "PictureQueueUrl"),
    (DEAD_PICTURES, "PictureDlqUrl"),
    (DEAD_EVENTS, "EventDlqUrl"),
)


@dataclass(frozen=True, slots=True)
class Reviewed:
    """The reviews of one classifier. waiting: how many wait, by reason; accuracy: of the live model
    on the images that it classifies, None where too little of it is known."""

    waiting: Mapping[Reason, int] = field(default_factory=dict)
    accuracy: LiveAccuracy | None = None


@dataclass(slots=True)
class Classifier:
    """One classifier. live: its live card, or None; run: its newest run's item, or None; awaiting:
    the items of its runs whose models await approval; reviewed: empty until `reviewed`
    is called for it."""

    name: str
    live: Mapping[str, Any] | None = None
    run: Mapping[str, Any] | None = None
    runs: int = 0
    awaiting: list[Mapping[str, Any]] = field(default_factory=list)
    reviewed: Reviewed = Reviewed()


@dataclass(slots=True)
class Waiting:
    """A folder below input/ without a live model; "" for files outside of folders.

    pictures: how many, at most MOST_COUNTED; why: what they wait for.
    """

    folder: str
    pictures: int
    why: str


@dataclass(slots=True)
class Found:
    """The content of the page. queues: label, then messages: visible, in flight, delayed."""

    default: str | None = None
    classifiers: list[Classifier] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    more_folders: bool = False
    queues: list[tuple[str, int, int, int]] = field(default_factory=list)


def collect(stack: Stack) -> Found:
    """Read the status of the stack."""
    bucket = stack.bucket
    known = _classifiers(bucket, stack.run_items())
    default = _json(bucket, layout.DEFAULT_CLASSIFIER_KEY)
    found = Found(default=default["classifier"] if default else None)
    found.classifiers = [known[name] for name in sorted(known)]
    for waiting in _waiting(bucket, known, found.default):
        if len(found.waiting) == MOST_FOLDERS:
            found.more_folders = True
            break
        found.waiting.append(waiting)
    sqs = stack.client("sqs")
    for label, output in QUEUES:
        response = sqs.get_queue_attributes(QueueUrl=stack.output(output), AttributeNames=["All"])
        counts = [
            int(response["Attributes"].get(f"ApproximateNumberOfMessages{state}", 0))
            for state in ("", "NotVisible", "Delayed")
        ]
        found.queues.append((label, counts[0], counts[1], counts[2]))
    return found


def reviewed(stack: Stack, classifier: Classifier) -> Reviewed:
    """Read the reviews of a classifier, some hundred by one request."""
    reviews, live = stack.reviews, classifier.live
    if reviews is None:
        return Reviewed()
    sample = reviews.sample(classifier.name, live["run_id"]) if live else []
    return Reviewed(reviews.waiting(classifier.name), live_accuracy(sample))


def _collect_with_reviews(stack: Stack) -> Found:
    found = collect(stack)
    for one in found.classifiers:
        one.reviewed = reviewed(stack, one)
    return found


def _classifiers(bucket: Bucket, runs: Iterator[Mapping[str, Any]]) -> dict[str, Classifier]:
    known: dict[str, Classifier] = {}
    for item in runs:
        entry = known.setdefault(item["classifier"], Classifier(item["classifier"]))
        entry.runs += 1
        if item["status"] == Status.AWAITING:
            entry.awaiting.append(item)
        if entry.run is None or item["run_id"] > entry.run["run_id"]:
            entry.run = item
    for name in bucket.level(layout.MODELS):
        if isinstance(name, str):
            known.setdefault(name, Classifier(name))
    for entry in known.values():
        entry.live = _json(bucket, layout.live_card_key(entry.name))
    return known


def _json(bucket: Bucket, key: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(bucket.read(key)[0])
    except ObjectMissing:
        return None
    return found


def _waiting(
    bucket: Bucket, known: Mapping[str, Classifier], default: str | None
) -> Iterator[Waiting]:
    """The folders below input/ whose pictures wait for a live model."""
    without_folder = 0
    for entry in bucket.level(layout.INPUT):
        if isinstance(entry, ListedObject):
            if default is not None and known.get(default, Classifier("")).live:
                continue
            without_folder += layout.is_image_key(entry.key)
            continue
        classifier = known.get(entry)
        if classifier is not None and classifier.live is not None:
            continue
        page, _ = bucket.page(f"{layout.INPUT}{entry}/")
        pictures = sum(layout.is_image_key(one.key) for one in page)
        if pictures:
            yield Waiting(entry, pictures, _waits_for(entry, classifier, known))
    if without_folder:
        yield Waiting("", min(without_folder, MOST_COUNTED), "the first model of all")


def _waits_for(folder: str, classifier: Classifier | None, known: Mapping[str, Classifier]) -> str:
    if classifier is None:
        near = likely_classifier(folder, known)
        return "no classifier has this name" + (f"; did you mean {near}?" if near else "")
    if classifier.run is not None and classifier.run["status"] in IN_PROGRESS:
        return "its first model"
    return "a model: the newest run produced none"


def stages(item: Mapping[str, Any]) -> str:
    """The stages of a run: those that are done, then the one that it is at or ended in."""
    done = [stage.value for stage in Stage if (item.get(f"claim_{stage}") or {}).get("done")]
    status = Status(item["status"])
    at = next((stage.value for stage, working in WORKING.items() if working is status), "")
    if status is Status.WAITING:
        at = str(item["waits_for"]["stage"])
    elif status is Status.FAILED:
        at = str((item.get("error") or {}).get("stage", ""))
    mark = {Status.WAITING: "waits", Status.FAILED: "failed"}.get(status, "…")
    # A stage that waits for what it submitted is claimed and done: packing, training, deploying.
    parts = [name for name in done if name != at] + ([f"{at} {mark}"] if at else [])
    return " > ".join(parts)


def progress(item: Mapping[str, Any], now: datetime) -> str:
    """A run's progress and age; "" where it is not in progress."""
    status = Status(item["status"])
    if status not in IN_PROGRESS:
        return ""
    found = packing_progress(item) if status is Status.PACKING else None
    parts = []
    if found is not None:
        total = "" if found.total is None else f" of {found.total:,}"
        parts.append(f"{found.done:,}{total} pictures")
    begun = datetime.fromisoformat(item["created_at"])
    parts.append(f"started {_ago(now - begun)} ago")
    return ", ".join(parts)


def _ago(span: Any) -> str:
    minutes = max(0, int(span.total_seconds() // 60))
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 2880 else f"{minutes // 1440} days"


def reason(item: Mapping[str, Any]) -> str:
    """The reason for a run's status: its error, or what it waits for."""
    status = Status(item["status"])
    if status is Status.WAITING:
        waits = item["waits_for"]
        again = datetime.fromtimestamp(int(waits["next_try"]), UTC).isoformat()
        return (
            f"at stage {waits['stage']}, next attempt {when(again)} UTC: {waits['code']}: "
            f"{waits['message']}"
        )
    if status in (Status.FAILED, Status.REFUSED):
        error = item.get("error") or {}
        return ": ".join(str(error[part]) for part in ("code", "message") if part in error)
    if status is Status.AWAITING:
        return "approval pending in SageMaker's Model Registry"
    if status is Status.SUPERSEDED:
        return f"run {item['replaced_by']} was newer" if "replaced_by" in item else ""
    return ""


def rendered(found: Found, now: datetime, redrive: str) -> str:
    """The page as text. redrive: the command that empties the dead-letter queue of pictures."""
    parts = []
    if found.classifiers:
        parts.append(table(*_models(found)))
        if runs := [one for one in found.classifiers if one.run is not None]:
            parts.append(table(*_newest(runs, now)))
        parts += [
            f"{one.name}: {Status(one.run['status']).value}: {one_line(why)}"
            for one in runs
            if one.run is not None and (why := reason(one.run))
        ]
    else:
        parts.append(
            "No classifier yet: upload datasets/<classifier>/<class>/….jpg, then an empty "
            "datasets/<classifier>/_READY, to train one."
        )
    if found.waiting:
        rows = [
            (
                f"input/{one.folder}/" if one.folder else "input/ (without a folder)",
                f"{one.pictures:,}{' or more' if one.pictures == MOST_COUNTED else ''}",
                one.why,
            )
            for one in found.waiting
        ]
        parts.append(table(("pictures waiting in", "count", "for"), rows))
        if found.more_folders:
            parts.append(f"… and in more folders than these {MOST_FOLDERS}.")
    have_reviews = [
        one
        for one in found.classifiers
        if one.reviewed.accuracy or any(one.reviewed.waiting.values())
    ]
    if have_reviews:
        parts.append(table(*_reviews(have_reviews)))
    queued = [(label, *(f"{count:,}" for count in counts)) for label, *counts in found.queues]
    parts.append(table(("queue", "visible", "in flight", "delayed"), queued))
    visible = {label: count for label, count, _, _ in found.queues}
    if visible.get(DEAD_PICTURES):
        parts.append(f"`{redrive}` returns the pictures of the dead-letter queue to their queue.")
    if visible.get(DEAD_EVENTS):
        parts.append("docs/operations.md, EventsGivenUp, says what to do with the events.")
    return "\n\n".join(parts)


def _models(found: Found) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    rows: list[tuple[str, ...]] = []
    for one in found.classifiers:
        live = one.live
        rows.append(
            (
                one.name + (" (default)" if one.name == found.default else ""),
                live["run_id"] if live else "none yet",
                measured(live) if live else "",
                when(live["promoted_at"]) if live else "",
                str(len(live["classes"])) if live else "",
                str(one.runs),
            )
        )
    return (
        "classifier",
        "live model",
        "validation accuracy",
        "live since (UTC)",
        "classes",
        "runs",
    ), rows


def _newest(
    classifiers: list[Classifier], now: datetime
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    rows: list[tuple[str, ...]] = [
        (one.name, run["run_id"], Status(run["status"]).value, stages(run), progress(run, now))
        for one in classifiers
        if (run := one.run) is not None
    ]
    return ("newest run of", "run", "status", "stages", "progress"), rows


def _reviews(classifiers: list[Classifier]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    rows: list[tuple[str, ...]] = [
        (one.name, _live_accuracy(one.reviewed.accuracy), *_waiting_by_reason(one))
        for one in classifiers
    ]
    return ("reviews of", "live accuracy", "unsure", "unfamiliar", "spot checks"), rows


def _waiting_by_reason(one: Classifier) -> list[str]:
    counts = [one.reviewed.waiting.get(reason, 0) for reason in Reason]
    more = " or more" if sum(counts) >= MOST_REVIEWS_COUNTED else ""
    return [f"{count:,}{more}" for count in counts]


def _live_accuracy(found: LiveAccuracy | None) -> str:
    if found is None:
        return ""
    ends = f"{100 * found.lower:.1f} to {100 * found.upper:.1f}"
    return f"{percent(found.value)} ({found.count:,} reviewed; {ends})"


def page(stack: Stack, now: datetime) -> str:
    """The whole page as text."""
    found = _collect_with_reviews(stack)
    shown = rendered(found, now, stack.command("redrive"))
    return f"stack {stack.name}: {stack.status}\n\n{shown}"


def document(stack: Stack) -> dict[str, Any]:
    """The same as the page, for programs: JSON values only."""
    found = _collect_with_reviews(stack)
    return {
        "stack": stack.name,
        "status": stack.status,
        "default": found.default,
        "classifiers": [
            {
                "name": one.name,
                "live": one.live and {name: one.live.get(name) for name in _OF_CARD},
                "runs": one.runs,
                "newest_run": one.run
                and {
                    "run_id": one.run["run_id"],
                    "status": one.run["status"],
                    "stages": stages(one.run),
                    "reason": reason(one.run),
                },
                "reviews": {reason.value: count for reason, count in one.reviewed.waiting.items()},
                "live_accuracy": one.reviewed.accuracy and asdict(one.reviewed.accuracy),
            }
            for one in found.classifiers
        ],
        "waiting": [
            {"folder": one.folder, "pictures": one.pictures, "why": one.why}
            for one in found.waiting
        ],
        "queues": [
            {"name": name, "visible": visible, "in_flight": in_flight, "delayed": delayed}
            for name, visible, in_flight, delayed in found.queues
        ],
    }


def follow(stack: Stack, run: RunKey, timeout: float) -> Iterator[Mapping[str, Any]]:
    """The run's item whenever it has changed, until the run has ended or waits.

    Ends also after `timeout` seconds without a change.
    """
    table_of_runs, last = stack.runs_table, None
    heard = time.monotonic()
    while time.monotonic() - heard < timeout:
        item = table_of_runs.get_item(Key=run.as_key(), ConsistentRead=True).get("Item")
        if item is not None and item != last:
            last, heard = item, time.monotonic()
            yield item
            status = Status(item["status"])
            if status is Status.WAITING or status not in IN_PROGRESS:
                return
        time.sleep(POLL_SECONDS)
