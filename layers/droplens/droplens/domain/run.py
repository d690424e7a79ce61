"""A run as its record in DynamoDB has it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from droplens.domain.card import ModelObject


class Stage(StrEnum):
    """The stages of a run, each done by one function."""

    PACK = "pack"
    TRAIN = "train"
    DEPLOY = "deploy"
    PROMOTE = "promote"


class Status(StrEnum):
    """The status of a run. The first six are transient, the others final, except that a replaced
    model may be restored, and a person may resume a failed run."""

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
# The model is live, or was and can be live again.
MAY_RETURN = frozenset({Status.LIVE, Status.REPLACED, Status.RESTORING})


_TEXTS = (
    "batch_job_id",
    "batch_array_id",
    "training_job",
    "trainer",
    "image",
    "model_data",
    "endpoint",
    "model_package",
    "leaving",
    "wait_notified",
    "ended_at",
    "replaced_at",
    "replaced_by",
)
_FLAGS = ("endpoint_removed", "retired", "approval_asked", "notified")
_NUMBERS = ("image_size", "generation", "restored_from_generation")


@dataclass(frozen=True, slots=True)
class RunKey:
    """The key of a run: its classifier and its id."""

    classifier: str
    run_id: str

    def as_key(self) -> dict[str, str]:
        """The item's primary key."""
        return {"classifier": self.classifier, "run_id": self.run_id}


@dataclass(frozen=True, slots=True)
class Run:
    """A run. Fields of stages that it has not reached are empty.

    dataset: "key", "version" and "etag" of the object that completed it, and "after", the id of the
    run after which corrections started this one; trainer, image, image_size
    (pixels; 0: training chooses): of the training; model_data: the model archive's S3 URI;
    endpoint: its name; model: what classify_image runs itself, None where an endpoint predicts;
    to_remove: names of endpoints that are to be removed; retired: whether its
    endpoint will not be used again; generation: of its model card when it went live; leaving,
    restored_from_generation:
    the live run that its restoration replaces, and that one's generation; error: "stage", "code"
    and "message"; waits_for: see journey/waiting.py; accuracy: on validation images, 0 to 1; times:
    ISO 8601 in UTC; record: all attributes of the item.
    """

    key: RunKey
    status: Status
    dataset: Mapping[str, str] = field(default_factory=dict)
    batch_job_id: str = ""
    batch_array_id: str = ""
    training_job: str = ""
    trainer: str = ""
    image: str = ""
    image_size: int = 0
    model_data: str = ""
    endpoint: str = ""
    model: ModelObject | None = None
    endpoint_removed: bool = False
    retired: bool = False
    to_remove: frozenset[str] = frozenset()
    model_package: str = ""
    approval_asked: bool = False
    generation: int | None = None
    leaving: str = ""
    restored_from_generation: int | None = None
    error: Mapping[str, str] = field(default_factory=dict)
    notified: bool = False
    waits_for: Mapping[str, Any] = field(default_factory=dict)
    wait_notified: str = ""
    accuracy: float | None = None
    ended_at: str = ""
    replaced_at: str = ""
    replaced_by: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def awaits_packing_after_corrections(self) -> bool:
        """Whether corrections have started the run, and its packing is not submitted."""
        claim = self.record.get(f"claim_{Stage.PACK}") or {}
        packing = self.status is Status.PACKING and not claim.get("done")
        return packing and bool(self.dataset.get("after"))

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """A run from its item in the Runs table."""
        given = {name: value for name, value in record.items() if value is not None}
        fields: dict[str, Any] = {name: str(given[name]) for name in _TEXTS if name in given}
        fields |= {name: bool(given[name]) for name in _FLAGS if name in given}
        fields |= {name: int(given[name]) for name in _NUMBERS if name in given}
        accuracy, model = record.get("accuracy"), record.get("model")
        return cls(
            RunKey(str(record["classifier"]), str(record["run_id"])),
            Status(str(record["status"])),
            dataset=record.get("dataset") or {},
            to_remove=frozenset(map(str, record.get("to_remove") or ())),
            error=record.get("error") or {},
            waits_for=record.get("waits_for") or {},
            model=ModelObject.from_dict(model) if model else None,
            accuracy=None if accuracy is None else float(accuracy),
            record=record,
            **fields,
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a run's packing. done, total: images; total is None where it is not known."""

    stage: str
    done: int
    total: int | None


def packing_progress(item: Mapping[str, Any]) -> Progress | None:
    """The progress that batch_prep last wrote into a run's item, or None if there is none.

    A single job and the job that merges shards write `progress`; before that, each child of an
    array writes its own entry of `shards`. A child without an entry is assumed to be as large as
    the others.
    """
    progress = item.get("progress")
    if progress:
        total = progress.get("total")
        return Progress(
            progress["stage"], int(progress["done"]), None if total is None else int(total)
        )
    parts = list((item.get("shards") or {}).values())
    if not parts:
        return None
    done = sum(int(part["done"]) for part in parts)
    totals = [part["total"] for part in parts]
    if None in totals:
        return Progress(Status.PACKING.value, done, None)
    share = len(parts) / int(item.get("packing_shards", len(parts)))
    return Progress(Status.PACKING.value, done, round(sum(map(int, totals)) / share))
