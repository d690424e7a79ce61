"""An account in memory whose functions run as tasks, and what must be true of it in the end.

SageMaker makes an endpoint in its own time, and sends an event when it serves; a function that is
invoked, and a picture that is put on the queue, become tasks, which may come twice.
"""

import dataclasses
import json
import zlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from droplens.aws.events import ENDPOINT, MODEL_SWITCHED, ObjectCreated, detail_type, model_switched
from droplens.aws.s3 import Bucket
from droplens.aws.tags import tag_list
from droplens.classify.classify import Classification
from droplens.classify.routing import Router
from droplens.domain import layout
from droplens.domain.card import ModelCard
from droplens.domain.errors import RetryLater, UserError
from droplens.domain.run import RunKey, Status
from droplens.imaging.weighted_semaphore import WeightedSemaphore
from droplens.journey.failures import Failures
from droplens.journey.invocation import Invocation
from droplens.journey.promote import Promotion
from droplens.journey.resume import Resumption
from droplens.journey.retire import Retirement
from droplens.journey.rollback import Rollback, RollbackRequest
from droplens.prediction.loaded_models import LoadedModels
from droplens.runtime.telemetry import metrics
from droplens.state.cards import CachedCards, Cards
from droplens.state.registry import Registry
from droplens.state.runs import Runs
from tests.support.aws_account import BUCKET, Clock
from tests.support.aws_fakes import FakeRuntime, FakeSageMaker, nobody, refusal
from tests.support.builders import HOSTING, redness
from tests.support.promotion import SETTINGS, endpoint_of
from tests.unit.layer.journey.schedules.memory import MemoryS3, MemoryTable
from tests.unit.layer.journey.schedules.scheduler import Chooser, Pausing, Scheduler

OLDER, MID, NEWER = (RunKey("cars", f"2026112{day}-120000-1a2b3c") for day in (1, 2, 3))
# So many of a hundred pictures each model answers rightly, always the same ones.
RIGHT = {OLDER: 60, MID: 100, NEWER: 80}
QUEUE = "https://sqs/pictures"
TRIES = 5


def model(run: RunKey) -> Callable[[bytes], list[float]]:
    """What stands behind the run's endpoint."""

    def answer(picture: bytes) -> list[float]:
        right = zlib.crc32(picture) % 100 < RIGHT[run]
        return redness(picture)[:: 1 if right else -1]

    return answer


class Endpoints:
    """SageMaker's runtime: endpoints that exist and serve answer as their run's model does."""

    def __init__(self, sagemaker: FakeSageMaker) -> None:
        self.sagemaker = sagemaker

    def invoke_endpoint(self, **request: Any) -> dict[str, Any]:
        name = request["EndpointName"]
        serves = self.sagemaker.statuses.get(name, "InService") in ("InService", "SystemUpdating")
        if name not in self.sagemaker.endpoints or not serves:
            raise refusal("ValidationError", "InvokeEndpoint", "Endpoint not found")
        [run] = [run for run in RIGHT if run.run_id in name]
        return FakeRuntime(model(run)).invoke_endpoint(**request)


@dataclass
class Kept:
    """What an account holds, to begin any number of schedules from."""

    s3: MemoryS3 = field(default_factory=MemoryS3)
    table: MemoryTable = field(default_factory=MemoryTable)
    sagemaker: FakeSageMaker = field(default_factory=FakeSageMaker)
    answers: dict[str, "Told"] = field(default_factory=dict)

    def copy(self) -> "Kept":
        made = {kind: dict(known) for kind, known in self.sagemaker.made.items()}
        packages = {arn: dict(package) for arn, package in self.sagemaker.packages.items()}
        sagemaker = FakeSageMaker(
            made=made,
            groups=set(self.sagemaker.groups),
            packages=packages,
            statuses=dict(self.sagemaker.statuses),
        )
        return Kept(self.s3.copy(), self.table.copy(), sagemaker, dict(self.answers))


@dataclass(frozen=True)
class Told:
    """What events of one id have told of: a write of a result, by its version, and its answer."""

    version: str
    answer: str


class Journal:
    """The bucket's client, which keeps who wrote what, and holds each switch to its promise."""

    def __init__(self, s3: MemoryS3, world: "World") -> None:
        self._s3 = s3
        self._world = world

    def put_object(self, **request: Any) -> dict[str, Any]:
        key = request["Key"]
        before = self._s3.objects.get(key)
        answer = self._s3.put_object(**request)
        if key.startswith(layout.RESULTS):
            task = self._world.scheduler.current
            self._world.written[task.name if task else ""] = (key, answer["VersionId"])
        if layout.live_classifier(key) and before is not None:
            self._world.switched(
                ModelCard.from_json(before.body), ModelCard.from_json(request["Body"])
            )
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._s3, name)


class World:
    """One account during one schedule. twice: whether every event comes a second time."""

    def __init__(
        self,
        kept: Kept,
        choose: Chooser,
        *,
        keep_models: int = 0,
        reclassify: str = "none",
        twice: bool = False,
    ) -> None:
        self.kept = kept
        self.keep_models = keep_models
        self.reclassify = reclassify
        self.twice = twice
        self.scheduler = Scheduler(choose)
        self.faults: list[str] = []
        self.written: dict[str, tuple[str, str]] = {}
        self.notices: list[str] = []
        self.number = 0
        self.clock = Clock()
        journal: Any = Pausing(Journal(kept.s3, self), self.scheduler, "s3")
        self.bucket = Bucket(journal, BUCKET)
        self.table: Any = Pausing(kept.table, self.scheduler, "table")
        self.sagemaker: Any = Pausing(SlowSageMaker(self), self.scheduler, "sagemaker")
        self.runtime: Any = Pausing(Endpoints(kept.sagemaker), self.scheduler, "runtime")
        self.sqs: Any = Pausing(Queue(self), self.scheduler, "sqs")

    # --- the functions, each as a task

    def promotes(self, run: RunKey) -> None:
        """SageMaker's event: the run's endpoint is in service."""
        self._take(f"promote {run.run_id}", endpoint_event(run, endpoint_of(run)))

    def rolls_back(self, run: RunKey | None = None) -> None:
        """Somebody asks for an earlier model."""

        def work(name: str) -> None:
            rollback = Rollback(
                cards=Cards(self.bucket), sagemaker=self.sagemaker, settings=HOSTING
            )
            run_id = run.run_id if run else None
            request = RollbackRequest(classifier="cars", run_id=run_id, reclassify="none")
            rollback.roll_back(request, self._invocation(name, self._invoke))

        self._task("roll back", work)

    def classifies(self, key: str) -> None:
        """S3's event: a picture was dropped. Its version is the one that is there."""
        stored = self.kept.s3.objects[key]
        etag = stored.etag.strip('"')
        dropped = ObjectCreated(BUCKET, key, etag, stored.version, len(stored.body))
        self._task(f"classify {key}", lambda name: self._classify(name, dropped))

    def maintains(self, endpoint: str) -> None:
        """SageMaker maintains an endpoint for a while, of which it says nothing."""

        def work(_: str) -> None:
            sagemaker = self.kept.sagemaker
            if endpoint in sagemaker.endpoints:
                sagemaker.statuses[endpoint] = "SystemUpdating"
            self.scheduler.pause("maintenance")
            sagemaker.statuses.pop(endpoint, None)

        self._task(f"maintain {endpoint}", work)

    def settles(self) -> None:
        """The event of the last switch comes once more."""
        live = Cards(self.bucket).live("cars")
        assert live is not None
        detail = {
            "classifier": "cars",
            "run_id": live.run_id,
            "generation": live.generation,
            "reclassify": self.reclassify,
        }
        event = {"source": "droplens", "detail-type": MODEL_SWITCHED, "detail": detail}
        self._take("settle", event)

    def _take(self, what: str, event: dict[str, Any]) -> None:
        self._task(what, lambda name: self._promote_endpoint(name, event))

    def _invoke(self, event: object) -> None:
        assert isinstance(event, dict)
        self.scheduler.pause("lambda.invoke")
        self._take(f"follow up {event['detail'].get('generation', '')}", event)

    def _task(self, what: str, work: Callable[[str], None], *, once: bool = False) -> None:
        for _ in range(1 + (self.twice and not once)):
            self.number += 1
            name = f"{self.number} {what}"

            def tried(name: str = name) -> None:
                for _ in range(TRIES):
                    try:
                        return work(name)
                    except UserError:
                        return None  # an answer to whoever asked
                    except RetryLater as error:
                        last = error
                raise last

            self.scheduler.spawn(name, tried)

    def _promote_endpoint(self, name: str, event: dict[str, Any]) -> None:
        """As the function's handler does."""
        if detail_type(event) == MODEL_SWITCHED:
            retirement = Retirement(
                bucket=self.bucket,
                cards=Cards(self.bucket),
                sagemaker=self.sagemaker,
                sqs=self.sqs,
                queue=QUEUE,
                keep_models=self.keep_models,
            )
            retirement.follow_up(model_switched(event), self._invocation(name, nobody))
            return
        settings = dataclasses.replace(
            SETTINGS, picture_queue_url=QUEUE, minimum_accuracy=0.0, reclassify=self.reclassify
        )
        promotion = Promotion(
            bucket=self.bucket,
            cards=Cards(self.bucket),
            models=LoadedModels(self.bucket),
            registry=Registry(self.sagemaker, "droplens", SETTINGS.code_version),
            sagemaker=self.sagemaker,
            runtime=self.runtime,
            settings=settings,
        )
        promotion.start(event, self._invocation(name, self._invoke))

    def _classify(self, name: str, dropped: ObjectCreated) -> None:
        cards = Cards(self.bucket)
        classification = Classification(
            bucket=self.bucket,
            cards=CachedCards(cards, seconds=3600),
            router=Router(lambda _: True, cards.default_classifier),
            is_stranded=lambda _: False,
            runtime=self.runtime,
            decoding=WeightedSemaphore(10**8),
            endpoint_calls=WeightedSemaphore(10),
            models=LoadedModels(self.bucket),
        )
        self.written.pop(name, None)
        detail = classification.classify(dropped)
        if detail is None:
            return
        said = json.dumps({**detail, "id": None}, sort_keys=True)
        written, told = self.written.get(name), self.kept.answers.get(detail["id"])
        if written is None and (told is None or told.answer != said):
            self.faults.append(f"an event told again tells something else: {told} {said}")
        elif written is not None and told is not None and told.version != written[1]:
            self.faults.append(f"one event id for two answers: {told} {written} {said}")
        elif written is not None:
            self.kept.answers[detail["id"]] = Told(written[1], said)

    def _runs(self, owner: str) -> Runs:
        return Runs(self.table, owner=owner, lease_seconds=900, clock=self.clock)

    def _invocation(self, owner: str, invoke: Callable[[object], None]) -> Invocation:
        runs = self._runs(owner)
        return Invocation(
            runs=runs,
            failures=Failures(runs, Topic(self), "topic"),  # type: ignore[arg-type]
            seconds_left=lambda: 900,
            invoke=invoke,
        )

    # --- the promises

    def switched(self, before: ModelCard, after: ModelCard) -> None:
        """A live model is never worse than what it replaces, unless a person wants that one back.

        A rollback is known by its run, which is no newer than any that was ever live.
        """
        if after.run_id <= max(before.run_id, before.newest):
            return
        if after.measured.accuracy < before.measured.accuracy:
            self.faults.append(
                f"{after.run_id} ({after.measured.accuracy:.2f}) replaced "
                f"{before.run_id} ({before.measured.accuracy:.2f})"
            )

    def run(self) -> "World":
        """Run the schedule to its end, then look at what it has left behind."""
        self.scheduler.run()
        metrics.clear_metrics()
        self.faults += [f"{name}: {error!r}" for name, error in self.scheduler.errors]
        by_the_clock = self._invocation("clock", nobody)
        Resumption(sagemaker=self.sagemaker, functions={}).resume_due(by_the_clock)
        self._every_endpoint_has_an_owner(by_the_clock.runs)
        self._every_picture_has_a_result()
        return self

    def _every_endpoint_has_an_owner(self, runs: Runs) -> None:
        live = Cards(self.bucket).live("cars")
        known = runs.of("cars")
        if live is not None:
            if live.endpoint not in self.kept.sagemaker.endpoints:
                self.faults.append(f"the live endpoint {live.endpoint} is gone")
            on_record = [run.key.run_id for run in known if run.status is Status.LIVE]
            if on_record != [live.run_id]:
                self.faults.append(f"{live.run_id} is live, on record are {on_record}")
        kept = [
            str(run.record["endpoint"])
            for run in known
            if run.status is Status.REPLACED and not run.record.get("retired")
        ]
        if len(kept) > self.keep_models:
            self.faults.append(f"{len(kept)} replaced models are kept: {kept}")
        owned: defaultdict[str, list[str]] = defaultdict(list)
        for run in known:
            if run.status in (Status.LIVE, Status.RESTORING, Status.MEASURING, Status.AWAITING):
                owned[str(run.record["endpoint"])].append(run.status.value)
        for endpoint in self.kept.sagemaker.endpoints - {*owned, *kept}:
            self.faults.append(f"{endpoint} is nobody's, and billed")

    def _every_picture_has_a_result(self) -> None:
        for key in [key for key in self.kept.s3.objects if key.startswith(layout.INPUT)]:
            result = self.kept.s3.objects.get(layout.result_key(key, "cars"))
            if result is None or json.loads(result.body).get("image", {}).get("key") != key:
                self.faults.append(f"{key} was never answered")


class SlowSageMaker:
    """SageMaker, where an endpoint is made in its own time, by a task."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sagemaker = world.kept.sagemaker

    def create_endpoint(self, **request: Any) -> dict[str, Any]:
        answer = self._sagemaker.create_endpoint(**request)
        name = request["EndpointName"]
        self._sagemaker.statuses[name] = "Creating"
        tags = {tag["Key"]: tag["Value"] for tag in request["Tags"]}
        [run] = [run for run in RIGHT if run.run_id in tags.values()]

        def comes(_: str) -> None:
            self._sagemaker.statuses.pop(name, None)
            self._world._take(f"in service {name}", endpoint_event(run, name))

        self._world._task(f"make {name}", comes, once=True)
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sagemaker, name)


class Queue:
    """The queue of pictures, each of whose messages becomes a task."""

    def __init__(self, world: World) -> None:
        self._world = world

    def send_message_batch(self, **request: Any) -> dict[str, Any]:
        for entry in request["Entries"]:
            found = json.loads(entry["MessageBody"])["detail"]["object"]
            self._world.classifies(found["key"])
        return {}


class Topic:
    """Keeps the notices."""

    def __init__(self, world: World) -> None:
        self._world = world

    def publish(self, **request: Any) -> dict[str, Any]:
        self._world.notices.append(request["Subject"])
        return {}


def endpoint_event(run: RunKey, name: str) -> dict[str, Any]:
    """SageMaker's event of an endpoint that has come into service."""
    detail = {
        "EndpointName": name,
        "EndpointArn": "arn",
        "EndpointStatus": "IN_SERVICE",
        "Tags": {tag["Key"]: tag["Value"] for tag in tag_list(run)},
    }
    return {"source": "aws.sagemaker", "detail-type": ENDPOINT, "detail": detail}
