"""A run: its key, its stages and states, and what its record holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Stage(StrEnum):
    """The steps of a run, each done by one function."""

    PACK = "pack"
    TRAIN = "train"
    DEPLOY = "deploy"
    PROMOTE = "promote"


class Status(StrEnum):
    """Where a run stands. The first six pass; the others are ends, but that a model which was
    replaced may be restored to go live again, and a failed run taken up by a person."""

    PACKING = "packing"
    TRAINING = "training"
    DEPLOYING = "deploying"
    MEASURING = "measuring"
    AWAITING = "awaiting_approval"
    WAITING = "waiting"  # for a quota or for capacity: journey/waiting.py
    LIVE = "live"
    REPLACED = "replaced"
    RESTORING = "restoring"
    SUPERSEDED = "superseded"
    REFUSED = "refused"
    FAILED = "failed"


WORKING = {
    Stage.PACK: Status.PACKING,
    Stage.TRAIN: Status.TRAINING,
    Stage.DEPLOY: Status.DEPLOYING,
    Stage.PROMOTE: Status.MEASURING,
}
CLAIMABLE = frozenset({*WORKING.values(), Status.AWAITING})
IN_PROGRESS = CLAIMABLE | {Status.WAITING}
# Whose model is live, or was and can be so again.
MAY_RETURN = frozenset({Status.LIVE, Status.REPLACED, Status.RESTORING})


@dataclass(frozen=True, slots=True)
class RunKey:
    """Which run: the classifier it trains, and its own id."""

    classifier: str
    run_id: str

    def as_key(self) -> dict[str, str]:
        """The item's primary key."""
        return {"classifier": self.classifier, "run_id": self.run_id}


@dataclass(frozen=True, slots=True)
class Run:
    """A run as its item tells it. facts: every other attribute of the item."""

    key: RunKey
    status: Status
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run's packing is: so many pictures of so many, None where not known."""

    stage: str
    done: int
    total: int | None


def packing_progress(item: Mapping[str, Any]) -> Progress | None:
    """What batch_prep last told of its progress in a run's item, or None if it has told nothing.

    One job writes `progress`, and so does the job that joins shards; before it, each child of an
    array writes its own entry of `shards`. A child that has told nothing yet is taken to be as
    large as the others.
    """
    told = item.get("progress")
    if told:
        total = told.get("total")
        return Progress(told["stage"], int(told["done"]), None if total is None else int(total))
    parts = list((item.get("shards") or {}).values())
    if not parts:
        return None
    done = sum(int(part["done"]) for part in parts)
    totals = [part["total"] for part in parts]
    if None in totals:
        return Progress(Status.PACKING.value, done, None)
    share = len(parts) / int(item.get("packing_shards", len(parts)))
    return Progress(Status.PACKING.value, done, round(sum(map(int, totals)) / share))
