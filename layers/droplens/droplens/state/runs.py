"""The Runs table: one item per run, each stage claimed and each end reached exactly once.

Events come twice, late and out of order. A stage is therefore claimed by a conditional write
before its work, and marked done after it. Whoever finds the claim done, or held by somebody who
is still within the lease, does nothing. A holder that died is succeeded by its own retry (Lambda
repeats an event under the same request id) or by anybody once the lease has run out.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

from boto3.dynamodb.conditions import Attr, ConditionBase, Key
from botocore.exceptions import ClientError

from droplens import __version__
from droplens.aws.errors import error_code
from droplens.domain.run import CLAIMABLE, IN_PROGRESS, WORKING, Run, RunKey, Stage, Status

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext
    from types_boto3_dynamodb.service_resource import Table


# The index of the runs that somebody must come back to, and the value that they all bear there.
ATTENTION = "attention"
_NEEDED = "needed"


def utc_now() -> datetime:
    """Now, with its zone."""
    return datetime.now(UTC)


class Runs:
    """The Runs table, for one thread; `newest` and what rests on it for any number.

    boto3 builds the conditions of one Table in state that its threads share: two at once send each
    other's placeholders, and a claim could be judged by the wrong condition.

    owner: this invocation's request id; lease_seconds: how long it may still run, after which its
    claims are anybody's.
    """

    def __init__(
        self,
        table: "Table",
        *,
        owner: str,
        lease_seconds: int = 900,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.table = table
        self.owner = owner
        self.lease_seconds = lease_seconds
        self.clock = clock

    @classmethod
    def of_invocation(cls, table: "Table", context: "LambdaContext") -> Self:
        """The table as one Lambda invocation may claim stages in it."""
        remaining = context.get_remaining_time_in_millis() // 1000
        return cls(table, owner=context.aws_request_id, lease_seconds=remaining + 1)

    def get(self, key: RunKey) -> Run | None:
        """The run, read consistently, or None."""
        item = self.table.get_item(Key=key.as_key(), ConsistentRead=True).get("Item")
        return Run.from_record(item) if item else None

    def find_by_dataset(self, classifier: str, version: str) -> Run | None:
        """The newest run of `classifier` that packs this version of its dataset, or None."""
        answer = self.table.query(
            KeyConditionExpression=Key("classifier").eq(classifier),
            FilterExpression=Attr("dataset.version").eq(version),
            ScanIndexForward=False,
            ConsistentRead=True,
        )
        return Run.from_record(answer["Items"][0]) if answer["Items"] else None

    def newest(self, classifier: str) -> Run | None:
        """The last run that was opened for `classifier`, or None."""
        answer = self.table.query(
            KeyConditionExpression="classifier = :classifier",  # text, so that nothing is shared
            ExpressionAttributeValues={":classifier": classifier},
            ScanIndexForward=False,
            Limit=1,
        )
        return Run.from_record(answer["Items"][0]) if answer["Items"] else None

    def any_of(self, classifier: str) -> bool:
        """Whether `classifier` has ever had a run."""
        return self.newest(classifier) is not None

    def is_stranded(self, classifier: str) -> bool:
        """Whether the newest run of `classifier` ended without a model."""
        run = self.newest(classifier)
        return run is not None and run.status in (Status.FAILED, Status.REFUSED)

    def of(self, classifier: str) -> list[Run]:
        """Every run of `classifier`, oldest first, read consistently."""
        found: list[Run] = []
        more: dict[str, Any] = {}
        while True:
            answer = self.table.query(
                KeyConditionExpression=Key("classifier").eq(classifier),
                ConsistentRead=True,
                **more,
            )
            found += map(Run.from_record, answer["Items"])
            if "LastEvaluatedKey" not in answer:
                return found
            more = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    def open(self, key: RunKey, dataset: Mapping[str, Any]) -> bool:
        """Make the run's item if there is none yet; False if there is one."""
        now = self.clock().isoformat(timespec="seconds")
        item: dict[str, Any] = {
            **key.as_key(),
            "status": Status.PACKING.value,
            "dataset": dict(dataset),
            "droplens_version": __version__,
            "created_at": now,
            "updated_at": now,
        }
        return self._conditionally(
            lambda: self.table.put_item(Item=item, ConditionExpression=Attr("run_id").not_exists())
        )

    def claim(self, key: RunKey, stage: Stage, *, resuming: bool = False, **facts: Any) -> bool:
        """Take `stage` of a run that has not ended; False if it is done or in other hands.

        A run that waits is let be but by whoever is `resuming` the stage that it waits at. facts:
        kept with the claim.
        """
        now = self.clock()
        claim = Attr(f"claim_{stage}")
        free: ConditionBase = (
            claim.not_exists()
            | (Attr(f"claim_{stage}.owner").eq(self.owner) & ~self._done(stage))
            | (
                Attr(f"claim_{stage}.lease_until").lt(Decimal(int(now.timestamp())))
                & ~self._done(stage)
            )
        )
        for later in list(Stage)[list(Stage).index(stage) + 1 :]:
            free &= Attr(f"claim_{later}").not_exists()  # a late event must not turn a run back
        allowed: ConditionBase = free & Attr("status").is_in([status.value for status in CLAIMABLE])
        if resuming:
            waits = Attr("status").eq(Status.WAITING.value) & Attr("waits_for.stage").eq(
                stage.value
            )
            allowed = waits | allowed
        return self._update(
            key,
            allowed,
            {
                f"claim_{stage}": {
                    "owner": self.owner,
                    "lease_until": int(now.timestamp()) + self.lease_seconds,
                    "done": False,
                },
                "status": WORKING[stage].value,
                **facts,
            },
        )

    def finish(self, key: RunKey, stage: Stage, **facts: Any) -> None:
        """Mark the stage done and keep what it found out."""
        claim = {"owner": self.owner, "lease_until": 0, "done": True}
        self._update(key, Attr("run_id").exists(), {f"claim_{stage}": claim, **facts})

    def release(self, key: RunKey, stage: Stage) -> None:
        """Let go of a stage that this invocation could not do, so that another may take it."""
        claim = {"owner": self.owner, "lease_until": 0, "done": False}
        own = Attr(f"claim_{stage}.owner").eq(self.owner) & ~self._done(stage)
        self._update(key, own, {f"claim_{stage}": claim})

    def note(self, key: RunKey, **facts: Any) -> None:
        """Keep facts of a run, whatever its state."""
        self._update(key, Attr("run_id").exists(), facts)

    def end(self, key: RunKey, status: Status, **facts: Any) -> bool:
        """Bring a run to its end; False if it had ended before, and nothing is changed then."""
        going = Attr("status").is_in([status.value for status in IN_PROGRESS])
        return self._update(key, going, {"status": status.value, "ended_at": self._now(), **facts})

    def wait(self, key: RunKey) -> None:
        """Let go of a measured run until a person has decided on it."""
        claim = {"owner": self.owner, "lease_until": 0, "done": False}
        self._update(
            key,
            Attr("status").eq(Status.MEASURING.value),
            {f"claim_{Stage.PROMOTE}": claim, "status": Status.AWAITING.value},
        )

    def hold(
        self,
        key: RunKey,
        stage: Stage,
        waits_for: Mapping[str, Any],
        of_try: tuple[str, str],
        surplus: str | None = None,
    ) -> bool:
        """Have a run wait at `stage`, which is free again for whoever resumes it.

        of_try: the fact that names what this try made, and the name. surplus: an endpoint that is
        to be removed. False if the run is not at that stage any more, or at another try of it.
        """
        at_it = Attr("status").eq(WORKING[stage].value) & Attr(of_try[0]).eq(of_try[1])
        free = {"owner": self.owner, "lease_until": 0, "done": False}
        values = {
            "status": Status.WAITING.value,
            "waits_for": dict(waits_for),
            f"claim_{stage}": free,
            ATTENTION: _NEEDED,
        }
        return self._update(key, at_it, values, add=surplus)

    def begin_try(self, run: Run, until: int) -> bool:
        """Take the next try of a run that waits; nobody else begins one before `until`.

        until: seconds since 1970. False if somebody has begun one since `run` was read.
        """
        waits = Attr("status").eq(Status.WAITING.value)
        same = Attr("waits_for.next_try").eq(run.waits_for["next_try"])
        waits_for = {**run.waits_for, "next_try": until}
        return self._update(run.key, waits & same, {"waits_for": waits_for})

    def revive(self, key: RunKey, waits_for: Mapping[str, Any]) -> bool:
        """Have a failed run wait for its next try; False if it is not failed any more."""
        values = {
            "status": Status.WAITING.value,
            "waits_for": dict(waits_for),
            ATTENTION: _NEEDED,
        }
        failed = Attr("status").eq(Status.FAILED.value)
        return self._update(key, failed, values, forget=("error", "ended_at", "notified"))

    def needing_attention(self) -> list[RunKey]:
        """The runs that wait, or whose endpoints are still to be removed; perhaps others too."""
        found: list[RunKey] = []
        more: dict[str, Any] = {}
        while True:
            answer = self.table.query(
                IndexName=ATTENTION, KeyConditionExpression=Key(ATTENTION).eq(_NEEDED), **more
            )
            found += [
                RunKey(str(item["classifier"]), str(item["run_id"])) for item in answer["Items"]
            ]
            if "LastEvaluatedKey" not in answer:
                return found
            more = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    def needs_none(self, key: RunKey) -> bool:
        """Take a run off the list of `needing_attention`, unless it belongs there."""
        idle = Attr("status").ne(Status.WAITING.value) & Attr("to_remove").not_exists()
        return self._update(key, idle, {}, forget=(ATTENTION,))

    def to_be_removed(self, key: RunKey, endpoint: str) -> None:
        """Keep that an endpoint is to be removed, until it is."""
        self._update(key, Attr("run_id").exists(), {ATTENTION: _NEEDED}, add=endpoint)

    def is_removed(self, key: RunKey, endpoint: str) -> None:
        """An endpoint that was to be removed is gone."""
        self._update(key, Attr("run_id").exists(), {}, take=endpoint)

    def replace(self, run: Run, by: str) -> bool:
        """Mark a live run as replaced by the run `by`.

        False if it is not live any more, or has become live again since `run` was read.
        """
        return self._update(
            run.key,
            Attr("status").eq(Status.LIVE.value) & _same(run, "generation"),
            {"status": Status.REPLACED.value, "replaced_by": by, "replaced_at": self._now()},
        )

    def retire(self, run: Run) -> bool:
        """Take a replaced run's endpoint out of use for good, before it is removed.

        False if the run is being restored, or has been since `run` was read: its endpoint serves.
        """
        return self._update(
            run.key,
            Attr("status").eq(Status.REPLACED.value) & _same(run, "endpoint"),
            {"retired": True},
        )

    def restore(self, key: RunKey, leaving: str, generation: int) -> bool:
        """Begin to make a replaced run live again; False if it cannot be, or is being already.

        leaving, generation: of the model that is live now. A run whose model has just been
        replaced may still be on record as live.
        """
        return self._update(
            key,
            Attr("status").is_in([Status.REPLACED.value, Status.LIVE.value]),
            {
                "status": Status.RESTORING.value,
                "leaving": leaving,
                "restored_from_generation": generation,
            },
        )

    def make_again(self, run: Run, endpoint: str) -> None:
        """Give a run that is restored another endpoint; the one it had is to be removed."""
        before = run.endpoint
        values: dict[str, Any] = {"endpoint": endpoint, "retired": False, "endpoint_removed": False}
        if before == endpoint:
            self.note(run.key, **values)
        else:
            values[ATTENTION] = _NEEDED
            self._update(run.key, Attr("run_id").exists(), values, add=before)

    def endpoint_removed(self, run: Run) -> None:
        """Keep that a retired run's endpoint is gone, unless the run has got another since."""
        self._update(run.key, _same(run, "endpoint"), {"endpoint_removed": True})

    def restored(self, key: RunKey, status: Status, **facts: Any) -> bool:
        """End a restoration: LIVE, or REPLACED where it came to nothing."""
        restoring = Attr("status").eq(Status.RESTORING.value)
        return self._update(key, restoring, {"status": status.value, **facts})

    def _done(self, stage: Stage) -> ConditionBase:
        return Attr(f"claim_{stage}.done").eq(True)

    def _now(self) -> str:
        return self.clock().isoformat(timespec="seconds")

    def _update(
        self,
        key: RunKey,
        condition: ConditionBase,
        values: Mapping[str, Any],
        *,
        forget: Sequence[str] = (),
        add: str | None = None,
        take: str | None = None,
    ) -> bool:
        """forget: facts to drop; add, take: an endpoint for the set `to_remove`, or from it."""
        values = {**values, "updated_at": self._now()}
        # "#u" and ":u": boto3 numbers the condition's own placeholders "#n" and ":v".
        names = {f"#u{i}": name for i, name in enumerate([*values, *forget])}
        given = {f":u{i}": _to_item(value) for i, value in enumerate(values.values())}
        expression = "SET " + ", ".join(f"#u{i} = :u{i}" for i in range(len(values)))
        if forget:
            expression += " REMOVE " + ", ".join(list(names)[len(values) :])
        for verb, endpoint in (("ADD", add), ("DELETE", take)):
            if endpoint is not None:
                given[":endpoint"] = {endpoint}
                expression += f" {verb} to_remove :endpoint"
        return self._conditionally(
            lambda: self.table.update_item(
                Key=key.as_key(),
                UpdateExpression=expression,
                ConditionExpression=condition,
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=given,
            )
        )

    def _conditionally(self, write: Callable[[], Any]) -> bool:
        try:
            write()
        except ClientError as error:
            if error_code(error) == "ConditionalCheckFailedException":
                return False
            raise
        return True


def _same(run: Run, attribute: str) -> ConditionBase:
    """That an attribute of the run is still what it was when the run was read."""
    if attribute in run.record:
        return Attr(attribute).eq(run.record[attribute])
    return Attr(attribute).not_exists()


def _to_item(value: Any) -> Any:
    """DynamoDB's numbers are decimals: floats are written with the digits that people read."""
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, Mapping):
        return {key: _to_item(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_to_item(entry) for entry in value]
    return value
