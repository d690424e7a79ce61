"""Whatever the order of their calls, promotion, rollback, retirement, sweep and answers keep what
they promise: live is never worse than what it replaced, every endpoint is live, kept or removed, an
event id means one answer, and no picture is without a result."""

import logging
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import pytest

from droplens.aws.s3 import Bucket
from droplens.domain import layout
from droplens.domain.run import RunKey
from droplens.runtime.telemetry import logger
from droplens.state.cards import Cards
from tests.support.aws_account import BUCKET, Cloud
from tests.support.aws_fakes import FakeRuntime
from tests.support.builders import jpeg, pack
from tests.support.crashes import crash_in
from tests.support.promotion import endpoint_of, in_service, promote
from tests.unit.layer.journey.schedules.scheduler import (
    Chooser,
    Delays,
    Drawn,
    Scheduler,
    enumerated,
)
from tests.unit.layer.journey.schedules.world import MID, NEWER, OLDER, QUEUE, Kept, World, model

FIRST, SECOND = "input/cars/a.jpg", "input/cars/b.jpg"
DRAWN = 60
MOST_DELAYS = 2


@pytest.fixture(autouse=True)
def _silent() -> Iterator[None]:
    """Thousands of schedules would write a hundred thousand lines."""
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(logging.INFO)


def measured(kept: Kept, *runs: RunKey) -> Kept:
    """Measure the models of these runs, each cut off right before it goes live."""
    for run in runs:
        any_s3: Any = kept.s3
        cloud = Cloud(any_s3, kept.table, None, None, "topic", "", QUEUE, Bucket(any_s3, BUCKET))
        cloud.sagemaker = kept.sagemaker
        in_service(cloud, run)
        pack(cloud, run, validation=100)
        with crash_in(Cards, "make_live"):
            promote(cloud, run, runtime=FakeRuntime(model(run)), minimum_accuracy=0.0)
    return kept


def promoted(kept: Kept, *runs: RunKey, **options: Any) -> Kept:
    """Make these models live, one after the other."""
    for run in runs:
        measured(kept, run)
        world = World(kept, Delays({}), **options)
        world.promotes(run)
        assert world.run().faults == []
    return kept


def dropped(kept: Kept, *keys: str) -> Kept:
    """Put pictures into the bucket, of which nobody has been told yet."""
    for number, key in enumerate(keys):
        kept.s3.put_object(Bucket=BUCKET, Key=key, Body=jpeg((200, number, number)))
    return kept


class Scenario:
    """A state to begin from, and tasks that begin at once in it."""

    options: Mapping[str, Any] = MappingProxyType({})

    @classmethod
    def kept(cls) -> Kept:
        """The state."""
        raise NotImplementedError

    @classmethod
    def begin(cls, world: World) -> None:
        """Add the tasks."""
        raise NotImplementedError


class TwoPromotions(Scenario):
    """Both were measured while OLDER was live. MID is the best of the three."""

    @classmethod
    def kept(cls) -> Kept:
        return measured(promoted(Kept(), OLDER), MID, NEWER)

    @classmethod
    def begin(cls, world: World) -> None:
        world.promotes(MID)
        world.promotes(NEWER)


class RollbackInMaintenance(Scenario):
    """OLDER is kept for a rollback, and its endpoint maintained when it is wanted."""

    options = MappingProxyType({"keep_models": 1})

    @classmethod
    def kept(cls) -> Kept:
        return promoted(Kept(), OLDER, NEWER, keep_models=1)

    @classmethod
    def begin(cls, world: World) -> None:
        world.maintains(endpoint_of(OLDER))
        world.rolls_back(OLDER)


class RollbackAndPromotion(Scenario):
    """OLDER's endpoint is made again, while NEWER waits, which is better than OLDER alone."""

    @classmethod
    def kept(cls) -> Kept:
        return promoted(measured(promoted(Kept(), OLDER), NEWER), MID)

    @classmethod
    def begin(cls, world: World) -> None:
        world.rolls_back(OLDER)
        world.promotes(NEWER)


class RollbackAndRetirement(Scenario):
    """OLDER is wanted back at the moment when it is retired."""

    @classmethod
    def kept(cls) -> Kept:
        return promoted(Kept(), OLDER, MID, keep_models=1)

    @classmethod
    def begin(cls, world: World) -> None:
        world.settles()
        world.rolls_back(OLDER)


class AnswersInARollback(Scenario):
    """A picture is answered by OLDER, by MID, and by OLDER again."""

    options = MappingProxyType({"keep_models": 1})

    @classmethod
    def kept(cls) -> Kept:
        kept = dropped(promoted(Kept(), OLDER), FIRST)
        world = World(kept, Delays({}))
        world.classifies(FIRST)
        assert world.run().faults == []
        return promoted(kept, MID, keep_models=1)

    @classmethod
    def begin(cls, world: World) -> None:
        world.classifies(FIRST)
        world.rolls_back(OLDER)
        world.classifies(FIRST)


class AnswersInAPromotion(Scenario):
    """Pictures come while the model that is asked is replaced, and its endpoint removed."""

    @classmethod
    def kept(cls) -> Kept:
        return dropped(measured(promoted(Kept(), OLDER), MID), FIRST, SECOND)

    @classmethod
    def begin(cls, world: World) -> None:
        world.classifies(FIRST)
        world.promotes(MID)
        world.classifies(SECOND)


class FirstSweep(Scenario):
    """A picture comes before the first model, beside one whose result is none of ours."""

    options = MappingProxyType({"reclassify": "unsure"})

    @classmethod
    def kept(cls) -> Kept:
        kept = dropped(measured(Kept(), OLDER), FIRST, SECOND)
        key = layout.result_key(SECOND, "cars")
        kept.s3.put_object(Bucket=BUCKET, Key=key, Body=b"{}")
        return kept

    @classmethod
    def begin(cls, world: World) -> None:
        world.classifies(FIRST)
        world.promotes(OLDER)


SCENARIOS = Scenario.__subclasses__()


_BEGUN: dict[type[Scenario], Kept] = {}


def begun(scenario: type[Scenario]) -> Kept:
    """The state that every schedule of the scenario begins from."""
    if scenario not in _BEGUN:
        _BEGUN[scenario] = scenario.kept()
    return _BEGUN[scenario]


def run(scenario: type[Scenario], choose: Chooser, *, twice: bool = False) -> World:
    """Run the scenario once."""
    world = World(begun(scenario).copy(), choose, twice=twice, **scenario.options)
    scenario.begin(world)
    return world.run()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_schedule_of_few_delays_keeps_the_promises(scenario: type[Scenario]) -> None:
    faults: dict[int, list[str]] = {}

    def one(choose: Chooser) -> Scheduler:
        world = run(scenario, choose)
        faults[id(world.scheduler)] = world.faults
        return world.scheduler

    seen = 0
    for delays, scheduler in enumerated(one, MOST_DELAYS):
        seen += 1
        assert faults.pop(id(scheduler)) == [], (delays, scheduler.trace)
    assert seen > 50


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_drawn_schedules_with_every_event_twice_keep_the_promises(scenario: type[Scenario]) -> None:
    for seed in range(DRAWN):
        world = run(scenario, Drawn(seed), twice=True)
        assert world.faults == [], (seed, world.scheduler.trace)
