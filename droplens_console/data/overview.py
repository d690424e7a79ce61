"""What the overview shows: classifiers, the newest run, today's counts, what waits for a person."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from droplens.domain import layout
from droplens.domain.run import IN_PROGRESS, Run, Status
from droplens.state.reviews import MOST_REVIEWS_COUNTED
from droplens_cli import status
from droplens_cli.status import Classifier, Found, Reviewed
from droplens_console.addresses import models_address, run_address
from droplens_console.data.timed_cache import TimedCache
from droplens_console.stack import ConsoleStack

# Pages of S3's listing, of 1,000 objects each, that are counted at most.
MOST_PAGES = 20
# The queue and the sample of a classifier take a request for some hundred reviews.
REVIEWS_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Count:
    """Objects that were stored today. at_least: more were not counted."""

    number: int
    at_least: bool


@dataclass(frozen=True, slots=True)
class ToDo:
    """Something that waits for a person. count: how many; path: the page that shows it, or ""."""

    count: int
    what: str
    path: str = ""


@dataclass(slots=True, kw_only=True)
class Overview:
    """newest: the newest run of all; found: as `droplens status` has it."""

    found: Found
    newest: Run | None
    to_do: list[ToDo] = field(default_factory=list)

    @property
    def classifiers(self) -> list[Classifier]:
        """All classifiers by name."""
        return self.found.classifiers


def overview(stack: ConsoleStack, cache: TimedCache) -> Overview:
    """Read the overview. cache: of what takes many requests."""
    found = status.collect(stack)
    runs = [Run.from_record(one.run) for one in found.classifiers if one.run is not None]
    newest = max(runs, key=lambda run: run.key.run_id, default=None)
    for one in found.classifiers:
        one.reviewed = _reviewed(stack, cache, one)
    return Overview(found=found, newest=newest, to_do=_to_do(found, runs))


def _reviewed(stack: ConsoleStack, cache: TimedCache, classifier: Classifier) -> Reviewed:
    live = classifier.live and classifier.live["run_id"]
    key = "reviewed", classifier.name, live
    return cache.get(key, REVIEWS_SECONDS, lambda: status.reviewed(stack, classifier))


def _to_do(found: Found, runs: list[Run]) -> list[ToDo]:
    awaiting = [Run.from_record(item) for one in found.classifiers for item in one.awaiting]
    ended = [run for run in runs if run.status in (Status.FAILED, Status.REFUSED)]
    tasks = [
        *(
            ToDo(
                waiting, f"{_more(waiting)}pictures of {one.name} to review", f"/review/{one.name}"
            )
            for one in found.classifiers
            if (waiting := sum(one.reviewed.waiting.values()))
        ),
        *(
            ToDo(
                1,
                f"model of {run.key.classifier} to promote or reject",
                models_address(run.key.classifier),
            )
            for run in awaiting
        ),
        *(
            ToDo(1, f"run of {run.key.classifier} {run.status.value}", run_address(run.key))
            for run in ended
        ),
    ]
    visible = {label: count for label, count, _, _ in found.queues}
    if dead := visible.get(status.DEAD_PICTURES, 0):
        tasks.append(ToDo(dead, "pictures given up: `droplens redrive` returns them"))
    if dead := visible.get(status.DEAD_EVENTS, 0):
        tasks.append(ToDo(dead, "events given up: see docs/operations.md, EventsGivenUp"))
    begins = {run.key.classifier for run in runs if run.status in IN_PROGRESS}
    for one in found.waiting:
        if one.folder in begins:
            continue  # for a model that is being made
        where = f"input/{one.folder}/" if one.folder else "input/"
        tasks.append(ToDo(one.pictures, f"pictures wait in {where}: {one.why}"))
    return tasks


def _more(reviews: int) -> str:
    return "or more " if reviews >= MOST_REVIEWS_COUNTED else ""


def stored_today(stack: ConsoleStack, prefix: str, now: datetime) -> Count:
    """How many objects below `prefix` were stored since midnight of this machine's time zone."""
    midnight = now.astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    client: Any = stack.client("s3")
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=stack.output("BucketName"), Prefix=prefix
    )
    count = 0
    for number, page in enumerate(pages, 1):
        count += sum(
            entry["LastModified"].astimezone(UTC) >= midnight for entry in page.get("Contents", [])
        )
        if number == MOST_PAGES and page["IsTruncated"]:
            return Count(count, at_least=True)
    return Count(count, at_least=False)


TODAY = (("results", layout.RESULTS), ("corrections", layout.CORRECTIONS))
