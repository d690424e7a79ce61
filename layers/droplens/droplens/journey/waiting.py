"""Temporary limits of AWS: how they are recognised, how long a run waits, and the notification.

Two kinds of limit stop a run for a while and are no fault of its dataset: a quota of the account
that is used up, and instances for which AWS has no capacity. The run waits, and is tried again from
the stage that it had reached; what it has trained stays in its bucket.

Where SageMaker shows them:

- CreateTrainingJob, CreateModel, CreateEndpointConfig and CreateEndpoint fail with
  `ResourceLimitExceeded`: "The account-level service limit 'ml.g5.xlarge for spot training job
  usage' is 0 Instances, with current utilization of ..." (amazon-sagemaker-examples, issues 263 and
  307; botocore's model of these operations). It is also the code where a region has no such
  instance: "The requested resource training-job/ml.p2.xlarge is not available in this region"
  (issue 1001), which waiting does not change.
- A training job fails with the reason "CapacityError: Unable to provision requested ML compute
  capacity. ..." (rse-grand-challenge, issue 2631).
- A spot training that never got an instance ends as Stopped, its secondary status
  MaxWaitTimeExceeded (SageMaker Developer Guide, "Managed Spot Training Lifecycle"); it has no
  TrainingStartTime then, and nothing was billed.
- An endpoint fails with the reason "Unable to provision requested ML compute capacity due to
  InsufficientInstanceCapacity error." (aws/deep-learning-containers, pull request 6673).
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from droplens.domain.errors import CapacityMissing, LimitReached
from droplens.domain.run import Run, RunKey, Stage

# After the first failed try of a stage; then the run fails.
LONGEST_WAIT = timedelta(days=14)
# Between one try and the next; doubled each time. An account's quota is mostly raised within hours
# or days, and capacity changes within minutes or hours.
FIRST_PAUSE = timedelta(minutes=15)
LONGEST_PAUSE = timedelta(hours=3)
# A try without any outcome, as when its invocation is lost, is repeated after this.
TRY_TAKES = timedelta(minutes=15)

# The stages that can meet such a limit, and the fact that names what each try creates.
NAME_OF_TRY = {Stage.TRAIN: "training_job", Stage.DEPLOY: "endpoint"}

QUOTA, CAPACITY = "account.quota", "aws.capacity"
_NO_INSTANCES = re.compile(
    r"^CapacityError\b|InsufficientInstanceCapacity|Unable to provision requested ML compute"
)
# The second form: a request that is larger than the whole quota (sagemaker-python-sdk, issue 4939).
_QUOTA_NAME = re.compile(r"service limit '([^']+)'|delta of [^']+ for '([^']+)' is greater")

# A person may have these tried again, once their cause is gone: what was refused before a training
# began, what was stopped by a time limit (spot trainings with checkpoints continue from the last
# one), and whatever failed after a complete training.
_TRIED_AGAIN_AT_TRAINING = {QUOTA, CAPACITY, "training.stopped"}
_REFUSED_BEFORE_TRAINING = {"training.refused", "training.instance", "training.region"}

_AVOIDED_BY = {
    (Stage.TRAIN, QUOTA): (
        "UseSpot=false counts against another quota than UseSpot=true, and so does another "
        "TrainingInstanceType; Recipe=probe trains on a CPU."
    ),
    (Stage.TRAIN, CAPACITY): (
        "Another TrainingInstanceType may be had at once, and UseSpot=false waits less; "
        "Recipe=probe trains on a CPU."
    ),
    (Stage.DEPLOY, QUOTA): (
        "A smaller EndpointMaxConcurrency, EndpointMemoryMb or KeepModels takes less of a "
        "serverless quota; EndpointMode and EndpointInstanceType choose another one."
    ),
    (Stage.DEPLOY, CAPACITY): (
        "Another EndpointInstanceType may be had at once; EndpointMode=serverless needs none."
    ),
}


def training_limit(job: Mapping[str, Any]) -> LimitReached | None:
    """The limit by which a training job has ended, or None. job: of DescribeTrainingJob."""
    reason = str(job.get("FailureReason", ""))
    if _NO_INSTANCES.search(reason):
        return CapacityMissing(reason)
    waited = job.get("SecondaryStatus") == "MaxWaitTimeExceeded"
    if waited and "TrainingStartTime" not in job:
        return CapacityMissing("no spot instance was to be had until MaxWaitTimeInSeconds was over")
    return None


def endpoint_limit(reason: str) -> LimitReached | None:
    """The limit by which an endpoint has failed, or None. reason: its FailureReason."""
    return CapacityMissing(reason) if _NO_INSTANCES.search(reason) else None


@dataclass(frozen=True, slots=True)
class Wait:
    """What a run waits for, kept in its record as `waits_for`.

    stage: that is tried again; code, message: of the limit; since: of the first failed try, ISO
    8601; tries: how often the stage was tried; next_try: seconds since 1970.
    """

    stage: str
    code: str
    message: str
    since: str
    tries: int
    next_try: int

    @classmethod
    def of(cls, run: Run) -> Self | None:
        """What the run waits for, or waited for before its stage was tried again."""
        found = run.waits_for
        if not found:
            return None
        numbers = {"tries": int(found["tries"]), "next_try": int(found["next_try"])}
        return cls(**{**found, **numbers})

    @classmethod
    def after(cls, run: Run, stage: Stage, code: str, message: str, now: datetime) -> Self:
        """What it waits for when one more try of `stage` has met a limit."""
        before = cls.of(run)
        if before is None or before.stage != stage:
            before = cls(stage.value, code, message, now.isoformat(timespec="seconds"), 0, 0)
        pause = min(FIRST_PAUSE * 2 ** min(before.tries, 10), LONGEST_PAUSE)
        return replace(
            before,
            code=code,
            message=message,
            tries=before.tries + 1,
            next_try=int((now + pause).timestamp()),
        )

    @classmethod
    def requested(cls, run: Run, stage: Stage, code: str, message: str, now: datetime) -> Self:
        """What a failed run waits for when a person has it tried again: a try that is due now."""
        again = cls.after(run, stage, code, message, now)
        return replace(
            again, since=now.isoformat(timespec="seconds"), next_try=int(now.timestamp())
        )

    @property
    def until(self) -> datetime:
        """When the run fails if no try has succeeded."""
        return datetime.fromisoformat(self.since) + LONGEST_WAIT

    def is_due(self, now: datetime) -> bool:
        """Whether the stage is to be tried again now."""
        return self.next_try <= now.timestamp()

    def to_fact(self) -> dict[str, Any]:
        """As the run's record keeps it."""
        return asdict(self)


def name_of_try(run: Run, stage: Stage) -> str:
    """The run's id, with the number of the try after the first, for names of what `stage` creates.

    SageMaker never accepts a training job's name twice, and a failed endpoint's only once it is
    deleted; the events of earlier tries are known by their names.
    """
    waited = Wait.of(run)
    tries = waited.tries if waited and waited.stage == stage else 0
    return f"{run.key.run_id}-{tries + 1}" if tries else run.key.run_id


def may_be_tried_again(stage: str, code: str) -> bool:
    """Whether a person may have a run tried again that failed at `stage` for the reason `code`."""
    if stage == Stage.TRAIN:
        return code in _TRIED_AGAIN_AT_TRAINING | _REFUSED_BEFORE_TRAINING | {"region.refused"}
    return stage == Stage.DEPLOY and not code.startswith("origin.")


def notice(key: RunKey, wait: Wait) -> tuple[str, str]:
    """Subject and message of the notification that a run begins to wait."""
    what = "a quota of the account" if wait.code == QUOTA else "capacity of AWS"
    next_try = datetime.fromtimestamp(wait.next_try, UTC)
    begun = (
        f"Run {key.run_id} of classifier {key.classifier} waits at stage {wait.stage} for {what}; "
        "completed stages are kept."
    )
    again = (
        f"Code: {wait.code}. It is retried automatically, first at {next_try:%Y-%m-%d %H:%M} UTC, "
        f"then with growing delays until {wait.until:%Y-%m-%d %H:%M} UTC. To retry it now: "
        f"{command(key)}."
    )
    parts = [begun, wait.message, again]
    if wait.code == QUOTA:
        parts.append(_how_to_raise(wait.message))
    parts.append(f"To do without it, deploy with other parameters: {_avoided(wait)}")
    parts.append("A model that was live before keeps serving.")
    return f"Droplens: {key.classifier} waits at {wait.stage}", "\n\n".join(parts)


def command(key: RunKey) -> str:
    """The command that retries a run from the stage that it has reached."""
    arguments = f"CLASSIFIER={key.classifier} RUN={key.run_id}"
    return f"make resume {arguments} (on the local cloud: make resume-local {arguments})"


def _avoided(wait: Wait) -> str:
    return _AVOIDED_BY[Stage(wait.stage), QUOTA if wait.code == QUOTA else CAPACITY]


def _how_to_raise(message: str) -> str:
    found = _QUOTA_NAME.search(message)
    quota = f"?QuotaName=='{found[1] or found[2]}'" if found else ""
    return (
        "To raise the quota: the Service Quotas console, "
        "https://console.aws.amazon.com/servicequotas/home/services/sagemaker/quotas, or\n\n"
        "aws service-quotas list-service-quotas --service-code sagemaker "
        f'--query "Quotas[{quota}].[QuotaCode,QuotaName,Value]"\n'
        "aws service-quotas request-service-quota-increase --service-code sagemaker "
        "--quota-code CODE --desired-value VALUE"
    )
