"""What the functions are told: AWS's events read into what the journey needs of them.

Field names as AWS publishes them; fields that are not known are let pass. Keys in S3's EventBridge
events are not URL-encoded, so they are never decoded. (Powertools' own class for these events does
decode them: "a+b.jpg" would become "a b.jpg", which is why the detail is read here as it stands.)
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from aws_lambda_powertools.utilities.data_classes import EventBridgeEvent

from droplens.aws.tags import tag_map
from droplens.domain.errors import DroplensError
from droplens.domain.run import RunKey, Stage
from droplens.domain.stored_object import ObjectInfo

BATCH_JOB = "Batch Job State Change"
TRAINING_JOB = "SageMaker Training Job State Change"
ENDPOINT = "SageMaker Endpoint State Change"
OBJECT_CREATED = "Object Created"
ALARM = "CloudWatch Alarm State Change"
MODEL_PACKAGE = "SageMaker Model Package State Change"
MODEL_SWITCHED = "Model Switched"  # our own, from one invocation to the next
RUN_RESUMED = "Run Resumed"  # our own, from resume_runs to the function of the stage
ENDPOINT_MISSING = "Endpoint Missing"  # our own, from classify_image to pause_endpoint


# Invocations that may follow one another from one event. Each gets ahead by a page of pictures or a
# part of a measurement; at 12 minutes of work each it would be more than four days.
LONGEST_CHAIN = 500


class ChainTooLong(DroplensError):
    """What was handed from one invocation to the next has not come to its end."""

    def __init__(self) -> None:
        super().__init__(
            "event.chain", f"not done after {LONGEST_CHAIN} invocations, one after the other"
        )


class UnexpectedEvent(DroplensError):
    """An event that no rule of ours should have let through."""

    def __init__(self, message: str) -> None:
        super().__init__("event.unexpected", message)


@dataclass(frozen=True, slots=True)
class ObjectCreated:
    """An object was stored. etag: without quotes; version_id: None on an unversioned bucket.

    sequencer: the version's place among those of its key, see `is_later`; None where the event is
    not S3's own. answered_by_default: our sweep has found a result of the default classifier for a
    picture in another classifier's folder, which is to be removed once the picture is answered.
    """

    bucket: str
    key: str
    etag: str
    version_id: str | None
    bytes: int
    sequencer: str | None = None
    answered_by_default: bool = False

    @property
    def version(self) -> str:
        """What tells this version of the object from others of the same key."""
        return self.version_id or self.etag

    def sequencer_of(self, found: ObjectInfo) -> str | None:
        """The sequencer of the version that was found there, if it is the one that is told of."""
        told = (self.etag, self.version_id or found.version_id)
        return self.sequencer if told == (found.etag, found.version_id) else None


@dataclass(frozen=True, slots=True)
class PackingEnded:
    """A Batch job of ours reached its end.

    exit_code: None if no container ran; step: what batch_prep was to do; child: its index in an
    array; waited_for: the array whose children this job had to wait for, as its parent does.
    """

    run: RunKey
    job_id: str
    reason: str
    exit_code: int | None
    step: str
    child: int | None = None
    waited_for: str | None = None


@dataclass(frozen=True, slots=True)
class TrainingEnded:
    """A training job reached its end: status Completed, Failed or Stopped.

    time_used: seconds of training by the seconds it was given; None if it never began.
    """

    job_name: str
    job_arn: str
    status: str
    tags: Mapping[str, str]
    time_used: float | None


@dataclass(frozen=True, slots=True)
class EndpointChanged:
    """An endpoint changed its state. status: in the event's own UPPER_CASE."""

    name: str
    arn: str
    status: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AlarmRaised:
    """One of the stack's alarms went off. meaning: its description; reason: CloudWatch's words."""

    name: str
    meaning: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSwitched:
    """Another model is live: retire what it replaced, and have pictures answered.

    generation: of the live card; reclassify: which answered pictures are to be answered again;
    cursor: the last picture that was looked at, "" at the beginning; found: how many were sent;
    turn: how many invocations have had it before.
    """

    classifier: str
    run_id: str
    generation: int
    reclassify: str
    cursor: str = ""
    found: int = 0
    turn: int = 0

    def after(self, cursor: str, found: int) -> "ModelSwitched":
        """What is left of it for the next invocation. Raises ChainTooLong."""
        return replace(self, cursor=cursor, found=found, turn=_next_turn(self.turn))

    @property
    def run(self) -> RunKey:
        """The run whose model is live."""
        return RunKey(self.classifier, self.run_id)


def detail_type(event: Mapping[str, Any]) -> str:
    """The event's kind, or "" for something that did not come by EventBridge."""
    return str(event.get("detail-type", ""))


def object_created(event: Mapping[str, Any]) -> ObjectCreated:
    """Read an S3 "Object Created" event. Raises UnexpectedEvent."""
    detail = _detail(event)
    try:
        found = detail["object"]
        return ObjectCreated(
            bucket=detail["bucket"]["name"],
            key=found["key"],
            etag=found["etag"].strip('"'),
            version_id=found.get("version-id"),
            bytes=int(found.get("size") or 0),
            sequencer=found.get("sequencer"),
            answered_by_default=detail.get("answered_by_default") is True,
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UnexpectedEvent(f"not an S3 object event: {error!r}") from error


def is_later(sequencer: str, other: str) -> bool:
    """Whether the first of two sequencers of one key is the later one.

    They are hexadecimal; the shorter one is filled up with zeros on its right.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
    """
    length = max(len(sequencer), len(other))
    return sequencer.ljust(length, "0").upper() > other.ljust(length, "0").upper()


def packing_ended(event: Mapping[str, Any]) -> PackingEnded | None:
    """Read a Batch event; None for a job that was submitted by others and carries no run.

    Raises UnexpectedEvent.
    """
    detail = _detail(event)
    parameters = detail.get("parameters") or {}
    run = RunKey(parameters.get("classifier", ""), parameters.get("run_id", ""))
    if not (run.classifier and run.run_id):
        return None
    try:
        job_id = detail["jobId"]
    except KeyError as error:
        raise UnexpectedEvent(f"a Batch job's event without {error}") from error
    exit_code = (detail.get("container") or {}).get("exitCode")
    if exit_code is None and detail.get("attempts"):
        exit_code = (detail["attempts"][-1].get("container") or {}).get("exitCode")
    array = detail.get("arrayProperties") or {}
    dependencies = [str(job["jobId"]) for job in detail.get("dependsOn") or []]
    return PackingEnded(
        run,
        job_id,
        _batch_reason(detail),
        exit_code,
        step=parameters.get("step", ""),
        child=array.get("index"),
        waited_for=job_id if "size" in array else next(iter(dependencies), None),
    )


def training_ended(event: Mapping[str, Any]) -> TrainingEnded:
    """Read a training job's event. Raises UnexpectedEvent."""
    detail = _detail(event)
    try:
        return TrainingEnded(
            detail["TrainingJobName"],
            detail["TrainingJobArn"],
            detail["TrainingJobStatus"],
            tag_map(detail.get("Tags")),
            _time_used(detail),
        )
    except KeyError as error:
        raise UnexpectedEvent(f"a training job's event without {error}") from error


def _time_used(detail: Mapping[str, Any]) -> float | None:
    """Times are milliseconds since 1970, as text."""
    began, ended = detail.get("TrainingStartTime"), detail.get("TrainingEndTime")
    if began is None or ended is None:
        return None
    seconds = (int(ended) - int(began)) / 1000
    return seconds / int(detail["StoppingCondition"]["MaxRuntimeInSeconds"])


def endpoint_changed(event: Mapping[str, Any]) -> EndpointChanged:
    """Read an endpoint's event. Raises UnexpectedEvent."""
    detail = _detail(event)
    try:
        return EndpointChanged(
            detail["EndpointName"],
            detail["EndpointArn"],
            detail["EndpointStatus"],
            tag_map(detail.get("Tags")),
        )
    except KeyError as error:
        raise UnexpectedEvent(f"an endpoint's event without {error}") from error


def alarm_raised(event: Mapping[str, Any]) -> AlarmRaised:
    """Read an alarm's event. Raises UnexpectedEvent."""
    detail = _detail(event)
    try:
        return AlarmRaised(
            detail["alarmName"],
            detail["configuration"].get("description", ""),
            detail["state"]["reason"],
        )
    except KeyError as error:
        raise UnexpectedEvent(f"an alarm's event without {error}") from error


def model_package_arn(event: Mapping[str, Any]) -> str:
    """Which registered model was decided on. Raises UnexpectedEvent."""
    try:
        return str(_detail(event)["ModelPackageArn"])
    except KeyError as error:
        raise UnexpectedEvent(f"a model package's event without {error}") from error


def model_switched(event: Mapping[str, Any]) -> ModelSwitched:
    """Read what `switched_event` wrote. Raises UnexpectedEvent."""
    try:
        return ModelSwitched(**_detail(event))
    except TypeError as error:
        raise UnexpectedEvent(f"not a switched model: {error}") from error


def switched_event(switched: ModelSwitched) -> dict[str, Any]:
    """The event that promote_endpoint is invoked with after a switch."""
    return {"source": "droplens", "detail-type": MODEL_SWITCHED, "detail": asdict(switched)}


def continued(event: Mapping[str, Any]) -> dict[str, Any]:
    """The same event for the next invocation, which goes on. Raises ChainTooLong."""
    return {**event, "turn": _next_turn(int(event.get("turn", 0)))}


def _next_turn(turn: int) -> int:
    if turn >= LONGEST_CHAIN:
        raise ChainTooLong
    return turn + 1


def resumed_event(run: RunKey, stage: Stage) -> dict[str, Any]:
    """The event that the function of a stage is invoked with, to try it again."""
    detail = {**run.as_key(), "stage": stage.value}
    return {"source": "droplens", "detail-type": RUN_RESUMED, "detail": detail}


def run_resumed(event: Mapping[str, Any]) -> tuple[RunKey, Stage]:
    """Read what `resumed_event` wrote. Raises UnexpectedEvent."""
    detail = _detail(event)
    try:
        return RunKey(detail["classifier"], detail["run_id"]), Stage(detail["stage"])
    except (KeyError, ValueError) as error:
        raise UnexpectedEvent(f"not a resumed run: {error!r}") from error


def missing_endpoint(event: Mapping[str, Any]) -> str:
    """The classifier whose live endpoint a picture found missing. Raises UnexpectedEvent."""
    try:
        return str(_detail(event)["classifier"])
    except KeyError as error:
        raise UnexpectedEvent(f"a missing endpoint's event without {error}") from error


def _detail(event: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return EventBridgeEvent(dict(event)).detail
    except KeyError as error:
        raise UnexpectedEvent(f"an event without {error}") from error


def _batch_reason(detail: Mapping[str, Any]) -> str:
    """Batch tells the cause in up to three places: say each thing once."""
    last = (detail.get("attempts") or [{}])[-1]
    container = detail.get("container") or {}
    said = [
        detail.get("statusReason"),
        container.get("reason"),
        last.get("statusReason"),
        (last.get("container") or {}).get("reason"),
    ]
    return "; ".join(dict.fromkeys(str(reason) for reason in said if reason))
