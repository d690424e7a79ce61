"""A run's journey: its stages with times, progress and outcome, from its item in the Runs table."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from droplens.domain.figures import percent
from droplens.domain.run import WORKING, Run, Stage, Status, packing_progress
from droplens_console.data.runs import Training

_WHAT = {
    Stage.PACK: ("Packing", "pictures into records, by AWS Batch"),
    Stage.TRAIN: ("Training", "a model of these pictures, by SageMaker"),
    Stage.DEPLOY: ("Endpoint", "one of its own for the new model"),
    Stage.PROMOTE: ("Evaluation", "validation pictures through that endpoint, then the gate"),
}
_OVER = {Status.LIVE, Status.REPLACED, Status.RESTORING}


class State(StrEnum):
    """The state of a stage. refused: its model, by the gate or by a person; superseded: its run, by
    a newer one."""

    TO_COME = "to come"
    NOW = "now"
    WAITS = "waits"
    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    SUPERSEDED = "superseded"


_ENDED = {
    Status.FAILED: State.FAILED,
    Status.REFUSED: State.REFUSED,
    Status.SUPERSEDED: State.SUPERSEDED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One stage of a run.

    what: happens in it; detail: its progress or outcome in words, "" for none; seconds: how long it
    took, or has taken so far, None where that is not known; done, total: images, where they are
    counted.
    """

    title: str
    what: str
    state: State
    detail: str = ""
    begun: datetime | None = None
    seconds: float | None = None
    done: int | None = None
    total: int | None = None

    @property
    def has_progress(self) -> bool:
        """Whether the share that is done is known."""
        return self.state is State.NOW and bool(self.total) and self.done is not None


def steps(run: Run, now: datetime, training: Training | None = None) -> list[Step]:
    """The stages of a run, in order. training: its progress, where it was read."""
    at = _stage_of(run)
    begun = [_time(run.record.get(f"begun_{stage}")) for stage in Stage]
    ends = [*begun[1:], _time(run.ended_at)]
    found = []
    for number, stage in enumerate(Stage):
        state = _state(run, number, at)
        began, end = begun[number], ends[number]
        if state is State.NOW:
            end = now
        known = began is not None and end is not None and state is not State.TO_COME
        title, what = _WHAT[stage]
        done, total, detail = _progress(run, stage, state, training)
        found.append(
            Step(
                title=title,
                what=what,
                state=state,
                detail=detail,
                begun=began,
                seconds=(end - began).total_seconds() if known and end and began else None,
                done=done,
                total=total,
            )
        )
    return found


def _stage_of(run: Run) -> int:
    """The number of the stage that the run is at or ended in; 4 behind the last."""
    stages = list(Stage)
    if run.status in _OVER:
        return len(stages)
    working = {status: stage for stage, status in WORKING.items()}
    if run.status in working:
        return stages.index(working[run.status])
    if run.status is Status.WAITING:
        return stages.index(Stage(run.waits_for["stage"]))
    if run.status is Status.FAILED and run.error.get("stage") in set(Stage):
        return stages.index(Stage(run.error["stage"]))
    claimed = [n for n, stage in enumerate(stages) if f"claim_{stage}" in run.record]
    return max(claimed, default=0)


def _state(run: Run, number: int, at: int) -> State:
    if number < at:
        return State.DONE
    if number > at:
        return State.TO_COME
    if run.status in (Status.WAITING, Status.AWAITING):
        return State.WAITS
    return _ENDED.get(run.status, State.NOW)


def _progress(
    run: Run, stage: Stage, state: State, training: Training | None
) -> tuple[int | None, int | None, str]:
    if stage is Stage.PACK and state is State.NOW:
        found = packing_progress(run.record)
        if found is None:
            return None, None, ""
        total = "" if found.total is None else f" of {found.total:,}"
        return found.done, found.total, f"{found.done:,}{total} pictures"
    if stage is Stage.TRAIN and training is not None and state in (State.NOW, State.DONE):
        return training.done, training.total, training.said
    if stage is Stage.DEPLOY and state is State.DONE:
        return None, None, run.endpoint
    if stage is Stage.PROMOTE:
        if run.status is Status.AWAITING:
            return None, None, "waits for a person to promote or reject the model"
        if run.accuracy is not None and state is not State.TO_COME:
            return None, None, f"validation accuracy {percent(run.accuracy)}"
    return None, None, ""


def _time(text: Any) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) and text else None


def begun(record: Mapping[str, Any]) -> str:
    """When the run began, ISO 8601; "" where its item does not say so."""
    return str(record.get("created_at", ""))
