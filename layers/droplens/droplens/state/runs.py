"""The Runs table in DynamoDB: one item per run, with a lease for each stage.

Events arrive twice, late and out of order. A stage is therefore claimed by a conditional write
before its work and marked done after it. An invocation that finds the claim done, or held under a
lease that has not expired, does nothing. A holder that was killed is succeeded by its own retry
(Lambda retries an event with the same request id), or by any invocation after the lease.
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


# The sparse index of the runs that wait or have endpoints to remove, and its partition key's value.
ATTENTION = "attention"
_NEEDED = "needed"


def utc_now() -> datetime:
    """The current time in UTC."""
    return datetime.now(UTC)


class Runs:
    """The Runs table. Not thread-safe, except for `newest` and the methods that only use it.

    boto3 builds the condition expressions of one Table in state that threads share: two at once
    exchange their placeholders, and a claim could be made on the wrong condition.

    owner: this invocation's request id; lease_seconds: how long it may still run, after which
    others may take over its claims.
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
        """The table for one Lambda invocation: its request id, its remaining time as lease."""
        remaining = context.get_remaining_time_in_millis() // 1000
        return cls(table, owner=context.aws_request_id, lease_seconds=remaining + 1)

    def get(self, key: RunKey) -> Run | None:
        """The run, read consistently, or None."""
        item = self.table.get_item(Key=key.as_key(), ConsistentRead=True).get("Item")
        return Run.from_record(item) if item else None

    def find_by_dataset(self, classifier: str, version: str) -> Run | None:
        """The newest run of `classifier` that packs this version of its dataset, or None."""
        response = self.table.query(
            KeyConditionExpression=Key("classifier").eq(classifier),
            FilterExpression=Attr("dataset.version").eq(version),
            ScanIndexForward=False,
            ConsistentRead=True,
        )
        return Run.from_record(response["Items"][0]) if response["Items"] else None

    def newest(self, classifier: str, *, consistent: bool = False) -> Run | None:
        """The last run that was opened for `classifier`, or None.

        consistent: by a strongly consistent read.
        """
        response = self.table.query(
            KeyConditionExpression="classifier = :classifier",  # text: no state shared by threads
            ExpressionAttributeValues={":classifier": classifier},
            ScanIndexForward=False,
            Limit=1,
            ConsistentRead=consistent,
        )
        return Run.from_record(response["Items"][0]) if response["Items"] else None

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
            response = self.table.query(
                KeyConditionExpression=Key("classifier").eq(classifier),
                ConsistentRead=True,
                **more,
            )
            found += map(Run.from_record, response["Items"])
            if "LastEvaluatedKey" not in response:
                return found
            more = {"ExclusiveStartKey": response["LastEvaluatedKey"]}

    def open(self, key: RunKey, dataset: Mapping[str, Any]) -> bool:
        """Create the run's item; False if it exists."""
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

    def name_successor(self, key: RunKey, run_id: str) -> str:
        """Name the run that corrections start after this one, once; returns its id.

        run_id: of the run to start, unless another invocation has named one.
        """
        if self._update(key, Attr("successor").not_exists(), {"successor": run_id}):
            return run_id
        item = self.table.get_item(Key=key.as_key(), ConsistentRead=True)["Item"]
        return str(item["successor"])

    def count_correction(self, key: RunKey) -> tuple[int, int | None]:
        """Count an event of a correction since this run.

        Returns the number of events up to this one, and how many corrections can be new at most, by
        the last `counted_corrections`; None if there was none.
        """
        response = self.table.update_item(
            Key=key.as_key(),
            UpdateExpression="ADD correction_events :one",
            ConditionExpression=Attr("run_id").exists(),
            ExpressionAttributeValues={":one": 1},
            ReturnValues="ALL_NEW",
        )
        item: Mapping[str, Any] = response["Attributes"]
        events, counted = int(item["correction_events"]), item.get("corrections_counted")
        return events, counted and int(counted["new"]) + events - int(counted["events"])

    def counted_corrections(self, key: RunKey, events: int, new: int) -> None:
        """Record how many corrections were new, listed at the event of this number."""
        self.note(key, corrections_counted={"events": events, "new": new})

    def claim(self, key: RunKey, stage: Stage, *, resuming: bool = False, **facts: Any) -> bool:
        """Claim `stage` of a run that has not ended; False if it is done or claimed by another.

        A run that waits can only be claimed by `resuming` the stage at which it waits. facts:
        attributes stored with the claim. The first claim also stores the time, as begun_<stage>.
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
            free &= Attr(f"claim_{later}").not_exists()  # a late event must not repeat a stage
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
            once={f"begun_{stage}": now.isoformat(timespec="seconds")},
        )

    def finish(self, key: RunKey, stage: Stage, **facts: Any) -> None:
        """Mark the stage done and store `facts`."""
        claim = {"owner": self.owner, "lease_until": 0, "done": True}
        self._update(key, Attr("run_id").exists(), {f"claim_{stage}": claim, **facts})

    def release(self, key: RunKey, stage: Stage) -> None:
        """Release the claim on a stage that this invocation could not do."""
        claim = {"owner": self.owner, "lease_until": 0, "done": False}
        own = Attr(f"claim_{stage}.owner").eq(self.owner) & ~self._done(stage)
        self._update(key, own, {f"claim_{stage}": claim})

    def note(self, key: RunKey, **facts: Any) -> None:
        """Store attributes of a run, whatever its status."""
        self._update(key, Attr("run_id").exists(), facts)

    def end(self, key: RunKey, status: Status, **facts: Any) -> bool:
        """End a run with `status`; False, with nothing changed, if it had ended before."""
        going = Attr("status").is_in([status.value for status in IN_PROGRESS])
        return self._update(key, going, {"status": status.value, "ended_at": self._now(), **facts})

    def wait(self, key: RunKey) -> None:
        """Release an evaluated run until a person has approved or rejected it."""
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
        """Set a run to wait at `stage`, whose claim is released for its next attempt.

        of_try: the attribute that names what this attempt created, and its value. surplus: an
        endpoint that is to be removed. False if the run is at another stage or attempt by now.
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
        """Begin the next attempt of a run that waits, and allow no other before `until`.

        until: seconds since 1970. False if another was begun since `run` was read.
        """
        waits = Attr("status").eq(Status.WAITING.value)
        same = Attr("waits_for.next_try").eq(run.waits_for["next_try"])
        waits_for = {**run.waits_for, "next_try": until}
        return self._update(run.key, waits & same, {"waits_for": waits_for})

    def revive(self, key: RunKey, waits_for: Mapping[str, Any]) -> bool:
        """Set a failed run to wait for its next attempt; False if it is not failed by now."""
        values = {
            "status": Status.WAITING.value,
            "waits_for": dict(waits_for),
            ATTENTION: _NEEDED,
        }
        failed = Attr("status").eq(Status.FAILED.value)
        return self._update(key, failed, values, forget=("error", "ended_at", "notified"))

    def needing_attention(self) -> list[RunKey]:
        """The runs that wait or have endpoints to remove; may contain others."""
        found: list[RunKey] = []
        more: dict[str, Any] = {}
        while True:
            response = self.table.query(
                IndexName=ATTENTION, KeyConditionExpression=Key(ATTENTION).eq(_NEEDED), **more
            )
            found += [
                RunKey(str(item["classifier"]), str(item["run_id"])) for item in response["Items"]
            ]
            if "LastEvaluatedKey" not in response:
                return found
            more = {"ExclusiveStartKey": response["LastEvaluatedKey"]}

    def needs_none(self, key: RunKey) -> bool:
        """Remove a run from `needing_attention`, unless it waits or has endpoints to remove."""
        idle = Attr("status").ne(Status.WAITING.value) & Attr("to_remove").not_exists()
        return self._update(key, idle, {}, forget=(ATTENTION,))

    def to_be_removed(self, key: RunKey, endpoint: str) -> None:
        """Record that an endpoint is to be removed, until `is_removed`."""
        self._update(key, Attr("run_id").exists(), {ATTENTION: _NEEDED}, add=endpoint)

    def is_removed(self, key: RunKey, endpoint: str) -> None:
        """Record that an endpoint that was to be removed is deleted."""
        self._update(key, Attr("run_id").exists(), {}, take=endpoint)

    def replace(self, run: Run, by: str) -> bool:
        """Mark a live run as replaced by the run `by`.

        False if it is not live by now, or has become live again since `run` was read.
        """
        return self._update(
            run.key,
            Attr("status").eq(Status.LIVE.value) & _same(run, "generation"),
            {"status": Status.REPLACED.value, "replaced_by": by, "replaced_at": self._now()},
        )

    def retire(self, run: Run) -> bool:
        """Mark a replaced run's endpoint as retired, before it is removed.

        False if the run is being or was restored since `run` was read: its endpoint serves.
        """
        return self._update(
            run.key,
            Attr("status").eq(Status.REPLACED.value) & _same(run, "endpoint"),
            {"retired": True},
        )

    def restore(self, key: RunKey, leaving: str, generation: int) -> bool:
        """Begin to restore a replaced run; False if it cannot be, or is being restored already.

        leaving, generation: run id and generation of the model that is live now. The status of a
        run that was just replaced may still be LIVE.
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
        """Record a restored run's new endpoint; the one that it had is to be removed."""
        before = run.endpoint
        values: dict[str, Any] = {"endpoint": endpoint, "retired": False, "endpoint_removed": False}
        if before == endpoint:
            self.note(run.key, **values)
        else:
            values[ATTENTION] = _NEEDED
            self._update(run.key, Attr("run_id").exists(), values, add=before)

    def endpoint_removed(self, run: Run) -> None:
        """Record that a retired run's endpoint is deleted, unless it has another by now."""
        self._update(run.key, _same(run, "endpoint"), {"endpoint_removed": True})

    def restored(self, key: RunKey, status: Status, **facts: Any) -> bool:
        """End a restoration with `status`: LIVE, or REPLACED where it failed."""
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
        once: Mapping[str, Any] | None = None,
        forget: Sequence[str] = (),
        add: str | None = None,
        take: str | None = None,
    ) -> bool:
        """once: attributes that keep a value that they have; forget: attributes to remove; add,
        take: an endpoint to add to or delete from the set `to_remove`."""
        once = once or {}
        values = {**values, "updated_at": self._now(), **once}
        # "#u" and ":u": boto3 numbers the condition's own placeholders "#n" and ":v".
        names = {f"#u{i}": name for i, name in enumerate([*values, *forget])}
        given = {f":u{i}": _to_item(value) for i, value in enumerate(values.values())}
        expression = "SET " + ", ".join(
            f"#u{i} = if_not_exists(#u{i}, :u{i})" if name in once else f"#u{i} = :u{i}"
            for i, name in enumerate(values)
        )
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
    """The condition that an attribute has not changed since the run was read."""
    if attribute in run.record:
        return Attr(attribute).eq(run.record[attribute])
    return Attr(attribute).not_exists()


def _to_item(value: Any) -> Any:
    """A value as boto3 takes it for DynamoDB: floats become decimals with the digits of `repr`."""
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, Mapping):
        return {key: _to_item(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_to_item(entry) for entry in value]
    return value
