"""The journey through the cloud, by its public interface only: S3 in, S3 out.

The Runs table and the training log are only read, to show what is happening.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import boto3
from boto3.dynamodb.conditions import ConditionBase, Key
from botocore.config import Config

from demo import DemoError
from demo.dataset import Picture
from droplens.domain import layout
from droplens.domain.run import IN_PROGRESS, Status, packing_progress
from droplens_cli.training_log import TrainingLog

if TYPE_CHECKING:
    from types_boto3_dynamodb.service_resource import Table
    from types_boto3_logs.client import CloudWatchLogsClient as LogsClient
    from types_boto3_s3.client import S3Client

THREADS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """The longest waits, in seconds.

    poll: between two requests; run_begins: from the last upload to the run's item; run_moves:
    without progress of a run; answer: without any new result.
    """

    poll: float = 0.3
    run_begins: float = 60.0
    run_moves: float = 900.0
    answer: float = 120.0


class Clients:
    """Clients of one cloud. options: arguments of every client, in addition to `config`."""

    def __init__(self, session: boto3.Session, config: Config, **options: Any) -> None:
        self.session, self.config, self.options = session, config, options

    def client(self, service: str) -> Any:
        """The client of a service."""
        make: Any = self.session.client
        return make(service, config=self.config, **self.options)

    def resource(self, service: str) -> Any:
        """The resource-style client of a service."""
        make: Any = self.session.resource
        return make(service, config=self.config, **self.options)


@dataclass(frozen=True, slots=True)
class News:
    """A run's progress: its status, the done share of the current stage, and its message."""

    status: Status
    done: int | None = None
    total: int | None = None
    said: str = ""
    item: Mapping[str, Any] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        """The run's id."""
        return str(self.item["run_id"])


class Journey:
    """One classifier's journey through one deployed stack.

    bucket: the stack's; runs: its Runs table; s3 and logs: clients of the same cloud;
    look_inside: how the user can read the logs of functions, jobs and endpoints.
    """

    def __init__(
        self,
        classifier: str,
        *,
        bucket: str,
        runs: "Table",
        s3: "S3Client",
        logs: "LogsClient",
        patience: Patience,
        look_inside: str = "",
    ) -> None:
        self.classifier = classifier
        self.bucket = bucket
        self.patience, self._look_inside = patience, look_inside
        self._runs, self._s3, self._logs = runs, s3, logs

    def upload(self, pictures: Iterable[Picture]) -> Iterator[int]:
        """Upload `pictures` as the classifier's dataset, and declare it complete; yields the count.

        An earlier dataset of the same name is deleted: an image that is held out now must not be
        used for training because it was uploaded earlier.
        """
        prefix = f"{layout.DATASETS}{self.classifier}/"
        wanted = {f"{prefix}{picture.label}/{picture.name}": picture for picture in pictures}
        self._delete(key for key in self._keys(prefix) if key not in wanted)
        yield from self._put(wanted)
        self._s3.put_object(Bucket=self.bucket, Key=prefix + layout.READY_MARKER, Body=b"")

    def newest_run(self) -> str:
        """The id of the classifier's newest run, or "" before its first; ids sort by age."""
        found = self._query_newest("")
        return str(found["run_id"]) if found else ""

    def follow(self, after: str) -> Iterator[News]:
        """The progress of the first run newer than the run `after`, until it has ended.

        Raises DemoError if no run begins, if it makes no progress for too long, and if it fails,
        is refused or has to wait, with the reason in its record.
        """
        last, heard, log = News(Status.PACKING), time.monotonic(), None
        run = ""
        while last.status in IN_PROGRESS:
            item = self._get_run(run) if run else self._query_newest(after)
            if item is None:
                if time.monotonic() - heard > self.patience.run_begins:
                    raise DemoError(
                        f"no run began within {self.patience.run_begins:.0f} s of completing the "
                        "dataset",
                        self._look_inside,
                    )
                time.sleep(self.patience.poll)
                continue
            run = str(item["run_id"])
            if log is None and "training_job" in item:
                log = TrainingLog(self._logs, str(item["training_job"]))
            news = _news(item, log)
            stopped = news.status is Status.WAITING or news.status not in IN_PROGRESS
            if stopped and news.status not in (Status.LIVE, Status.REPLACED):
                raise DemoError(_ending(news), self._look_inside)
            if news != last:
                last, heard = news, time.monotonic()
                yield news
            elif time.monotonic() - heard > self.patience.run_moves:
                raise DemoError(
                    f"nothing was heard of run {run} ({news.status.value}) for "
                    f"{self.patience.run_moves:.0f} s",
                    self._look_inside,
                )
            time.sleep(self.patience.poll)

    def ask(self, folder: str, exam: Mapping[str, Picture]) -> Iterator[int]:
        """Upload images to input/<classifier>/<folder>/<name>; yields the count."""
        yield from self._put(
            {self.input_key(folder, name): picture for name, picture in exam.items()}
        )

    def answers(self, folder: str, names: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each image's name and result, as they arrive; ends early if no more arrive."""
        waiting = {
            layout.result_key(self.input_key(folder, name), self.classifier): name for name in names
        }
        prefix = f"{layout.RESULTS}{self.classifier}/{folder}/"
        heard = time.monotonic()
        while waiting and time.monotonic() - heard < self.patience.answer:
            for key in [key for key in self._keys(prefix) if key in waiting]:
                result = self._read(key)
                heard = time.monotonic()
                yield waiting.pop(key), result
            time.sleep(self.patience.poll if waiting else 0)

    def run(self, run_id: str) -> dict[str, Any]:
        """The run's record."""
        return self._get_run(run_id) or {}

    def packed(self, run_id: str) -> dict[str, Any]:
        """The packing job's dataset.json: counts, skipped images, duplicates."""
        return self._read(layout.packed_prefix(self.classifier, run_id) + "dataset.json")

    def live_card(self) -> dict[str, Any]:
        """The live model card, with the figures measured before it went live."""
        return self._read(layout.live_card_key(self.classifier))

    def written(self, prefix: str) -> dict[str, datetime]:
        """The keys below `prefix`, each with the second in which S3 stored it."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=prefix
        )
        return {
            entry["Key"]: entry["LastModified"]
            for page in pages
            for entry in page.get("Contents", [])
        }

    def report(self, run_id: str) -> bytes | None:
        """The report page of the run's model; None if there is none."""
        try:
            answer = self._s3.get_object(
                Bucket=self.bucket, Key=layout.report_key(self.classifier, run_id)
            )
        except self._s3.exceptions.NoSuchKey:
            return None
        return answer["Body"].read()

    def input_key(self, folder: str, name: str) -> str:
        """The key of a held-out image below input/."""
        return f"{layout.INPUT}{self.classifier}/{folder}/{name}"

    @property
    def ready_uri(self) -> str:
        """The object that declares the dataset complete."""
        return f"s3://{self.bucket}/{layout.DATASETS}{self.classifier}/{layout.READY_MARKER}"

    @property
    def input_uri(self) -> str:
        """The URI below which images to classify are uploaded."""
        return f"s3://{self.bucket}/{layout.INPUT}{self.classifier}/"

    def results_uri(self, folder: str) -> str:
        """The URI of the results of a folder of images."""
        return f"s3://{self.bucket}/{layout.RESULTS}{self.classifier}/{folder}/"

    def _read(self, key: str) -> dict[str, Any]:
        body = self._s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        document: dict[str, Any] = json.loads(body)
        return document

    def _keys(self, prefix: str) -> Iterator[str]:
        yield from self.written(prefix)

    def _delete(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        for start in range(0, len(keys), 1000):  # DeleteObjects' limit
            answer = self._s3.delete_objects(
                Bucket=self.bucket,
                Delete={"Objects": [{"Key": key} for key in keys[start : start + 1000]]},
            )
            for problem in answer.get("Errors", []):
                raise DemoError(f"could not delete {problem['Key']}: {problem['Message']}")

    def _put(self, pictures: Mapping[str, Picture]) -> Iterator[int]:
        with ThreadPoolExecutor(THREADS) as threads:
            try:
                puts = [threads.submit(self._put_one, *each) for each in pictures.items()]
                for count, put in enumerate(as_completed(puts), start=1):
                    put.result()
                    yield count
            finally:
                threads.shutdown(cancel_futures=True)

    def _put_one(self, key: str, picture: Picture) -> None:
        with picture.path.open("rb") as body:
            self._s3.put_object(Bucket=self.bucket, Key=key, Body=body)

    def _get_run(self, run_id: str) -> dict[str, Any] | None:
        key = {"classifier": self.classifier, "run_id": run_id}
        return self._runs.get_item(Key=key, ConsistentRead=True).get("Item")

    def _query_newest(self, after: str) -> dict[str, Any] | None:
        condition: ConditionBase = Key("classifier").eq(self.classifier)
        if after:
            condition &= Key("run_id").gt(after)
        items = self._runs.query(
            KeyConditionExpression=condition, ScanIndexForward=False, Limit=1, ConsistentRead=True
        )["Items"]
        return items[0] if items else None


def connect(
    classifier: str, stack: str, clients: Clients, patience: Patience, look_inside: str
) -> Journey:
    """The journey through `stack` in the cloud whose clients these are."""
    formation = clients.client("cloudformation")
    outputs = {
        output["OutputKey"]: output["OutputValue"]
        for output in formation.describe_stacks(StackName=stack)["Stacks"][0]["Outputs"]
    }
    return Journey(
        classifier,
        bucket=outputs["BucketName"],
        runs=clients.resource("dynamodb").Table(outputs["RunsTableName"]),
        s3=clients.client("s3"),
        logs=clients.client("logs"),
        patience=patience,
        look_inside=look_inside,
    )


def _news(item: Mapping[str, Any], log: TrainingLog | None) -> News:
    status = Status(item["status"])
    progress = packing_progress(item)
    if log is not None:
        log.look()  # also after the training: its last lines come late
    done = total = None
    if status is Status.PACKING and progress is not None and progress.total:
        done, total = progress.done, progress.total
    elif status is Status.TRAINING and log is not None:
        done, total = log.done, log.total
    return News(status, done, total, log.said if log else "", item)


def _ending(news: News) -> str:
    """The reason why a run ended without a live model, for the user."""
    error = news.item.get("error") or {}
    run = f"run {news.run_id}"
    reason = error.get("message") or "its record gives no reason"
    match news.status:
        case Status.WAITING:
            waits = news.item["waits_for"]
            return f"{run} has to wait at stage {waits['stage']}: {waits['message']}"
        case Status.REFUSED:
            return f"{run} was refused: {reason}"
        case Status.SUPERSEDED:
            return f"{run} made way for a newer dataset of the same name"
        case _:
            stage = f" in its step {error['stage']!r}" if error.get("stage") else ""
            return f"{run} failed{stage}: {reason}"
