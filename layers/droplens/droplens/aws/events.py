"""Parsers of the events that invoke the functions.

Field names are AWS's; unknown fields are ignored. Keys in S3's EventBridge events are not
URL-encoded, so they are not decoded here. (Powertools' class for these events decodes them, which
would turn "a+b.jpg" into "a b.jpg".)
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
MODEL_DEPLOYED = "Model Deployed"  # our own, from deploy_endpoint to promote_endpoint
ENDPOINT_MISSING = "Endpoint Missing"  # our own, from classify_image to pause_endpoint


# Invocations that one event may cause one after another. Each makes progress by at least a page of
# images or a part of an evaluation; at 12 minutes each this is more than four days.
LONGEST_CHAIN = 500


class ChainTooLong(DroplensError):
    """Work continued from one invocation to the next did not end within LONGEST_CHAIN."""

    def __init__(self) -> None:
        super().__init__(
            "event.chain", f"not done after {LONGEST_CHAIN} invocations, one after the other"
        )


class UnexpectedEvent(DroplensError):
    """An event that matches no event rule of the stack."""

    def __init__(self, message: str) -> None:
        super().__init__("event.unexpected", message)


@dataclass(frozen=True, slots=True)
class ObjectCreated:
    """An object was stored. etag: without quotes; version_id: None on an unversioned bucket.

    sequencer: orders the versions of a key, see `is_later`; None where the event is not from S3.
    answered_by_default: the sweep has found a result of the default classifier for an image in
    another classifier's folder, which is to be removed once the image has its own result.
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
        """An identifier of this version among those of the same key."""
        return self.version_id or self.etag

    def sequencer_of(self, found: ObjectInfo) -> str | None:
        """The event's sequencer if `found` is the version that it is about, else None."""
        version = (self.etag, self.version_id or found.version_id)
        return self.sequencer if version == (found.etag, found.version_id) else None


@dataclass(frozen=True, slots=True)
class PackingEnded:
    """A Batch job of a run ended.

    exit_code: None if no container ran; step: the subcommand of batch_prep; child: its index in an
    array; waited_for: the job id of the array that this job depends on, or that it is itself.
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
    """A training job ended: status Completed, Failed or Stopped.

    time_used: training time as a share of its limit; None if it never began.
    """

    job_name: str
    job_arn: str
    status: str
    tags: Mapping[str, str]
    time_used: float | None


@dataclass(frozen=True, slots=True)
class EndpointChanged:
    """An endpoint changed its status. status: in UPPER_CASE, as in the event."""

    name: str
    arn: str
    status: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AlarmRaised:
    """One of the stack's alarms is raised. meaning: its description; reason: CloudWatch's text."""

    name: str
    meaning: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSwitched:
    """Another model is live: retire the one that it replaced and sweep the images.

    generation: of the live model card; reclassify: which classified images are classified again;
    cursor: the last key that the sweep has read, "" at the beginning; found: images enqueued;
    turn: invocations that have worked on it before.
    """

    classifier: str
    run_id: str
    generation: int
    reclassify: str
    cursor: str = ""
    found: int = 0
    turn: int = 0

    def after(self, cursor: str, found: int) -> "ModelSwitched":
        """The event of the next invocation, which continues. Raises ChainTooLong."""
        return replace(self, cursor=cursor, found=found, turn=_next_turn(self.turn))

    @property
    def run(self) -> RunKey:
        """The run whose model is live."""
        return RunKey(self.classifier, self.run_id)


def detail_type(event: Mapping[str, Any]) -> str:
    """The event's detail-type, or "" for an event that is not from EventBridge."""
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

    They are hexadecimal; the shorter one is padded with zeros on its right.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
    """
    length = max(len(sequencer), len(other))
    return sequencer.ljust(length, "0").upper() > other.ljust(length, "0").upper()


def packing_ended(event: Mapping[str, Any]) -> PackingEnded | None:
    """Read a Batch event; None for a job that belongs to no run.

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
    """The ARN of the model package whose approval changed. Raises UnexpectedEvent."""
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
    """The same event for the next invocation, which continues. Raises ChainTooLong."""
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


def deployed_event(run: RunKey) -> dict[str, Any]:
    """The event that promote_endpoint is invoked with where a model needs no endpoint."""
    return {"source": "droplens", "detail-type": MODEL_DEPLOYED, "detail": run.as_key()}


def model_deployed(event: Mapping[str, Any]) -> RunKey:
    """Read what `deployed_event` wrote. Raises UnexpectedEvent."""
    try:
        return RunKey(**_detail(event))
    except TypeError as error:
        raise UnexpectedEvent(f"not a deployed model: {error}") from error


def missing_endpoint(event: Mapping[str, Any]) -> str:
    """The classifier whose live endpoint an image found missing. Raises UnexpectedEvent."""
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
    """The cause, from the up to four fields in which Batch puts it, without repetition."""
    last = (detail.get("attempts") or [{}])[-1]
    container = detail.get("container") or {}
    reasons = [
        detail.get("statusReason"),
        container.get("reason"),
        last.get("statusReason"),
        (last.get("container") or {}).get("reason"),
    ]
    return "; ".join(dict.fromkeys(str(reason) for reason in reasons if reason))
