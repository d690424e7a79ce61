"""What the packing of one shard leaves for the join: a piece of each channel, and a report.

All of it lies below work/ in the destination. done.json is written last: a shard that has it is
complete and need not be packed again.
"""

import base64
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

from batch_prep.errors import JobError
from batch_prep.image.prepare import Prepared
from batch_prep.shards.split import Plan, Planned, Reading
from batch_prep.sources.entries import Refused
from batch_prep.sources.labels import MAX_REASON
from batch_prep.sources.ready_made_splits import CHANNELS
from batch_prep.storage.folder import Folder, together
from droplens.domain.layout import MAX_KEY_BYTES
from droplens.domain.text import one_line
from droplens.records.recordio import RecordWriter


@dataclass(frozen=True, slots=True)
class PackedImage:
    """A picture in a piece. start, end: its record's bytes there; size: of its file in bytes."""

    id: int
    name: str
    label: int
    channel: str
    sha256: str
    fingerprint: bytes
    start: int
    end: int
    size: int
    width: int
    height: int
    upscaled: bool


@dataclass(frozen=True, slots=True)
class Skipped:
    """What was not packed. label: the name of its class, "" for none; code, reason: why."""

    name: str
    label: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Shard:
    """Where one shard's files are, number `number` of `count`."""

    number: int
    count: int

    def path(self, name: str) -> str:
        """The path of one of its files, from the destination."""
        return f"work/{self.number:05}-of-{self.count:05}/{name}"

    def paths(self) -> Iterator[str]:
        """All of them, done.json first: without it, nobody takes the others for complete."""
        for name in ("done.json", "report.jsonl", *(f"{channel}.rec" for channel in CHANNELS)):
            yield self.path(name)

    def done(self, place: Folder) -> dict[str, Any] | None:
        """What done.json says, or None where the shard is not complete."""
        try:
            return dict(json.loads(place.read(self.path("done.json"))))
        except FileNotFoundError:
            return None

    def report(self, place: Folder) -> Iterator[PackedImage | Skipped]:
        """Every picture in the order of the records, and whatever was skipped."""
        with place.open(self.path("report.jsonl")) as lines:
            for line in lines:
                row = json.loads(line)
                if len(row) == len(Skipped.__slots__):
                    yield Skipped(*row)
                else:
                    row[5] = base64.b64decode(row[5])
                    yield PackedImage(*row)


class ShardWriter:
    """Writes one shard's files, with records in these channels, while its context is open."""

    def __init__(self, place: Folder, shard: Shard, channels: Sequence[str]) -> None:
        self._place = place
        self._shard = shard
        self._channels = channels
        self._files = ExitStack()

    def __enter__(self) -> Self:
        names = ("report.jsonl", *(f"{channel}.rec" for channel in self._channels))
        writers = (self._place.writer(self._shard.path(name)) for name in names)
        self._report, *records = self._files.enter_context(together(*writers))
        self._records = {
            channel: RecordWriter(file)
            for channel, file in zip(self._channels, records, strict=True)
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return self._files.__exit__(kind, error, trace)

    def add(self, planned: Planned, prepared: Prepared, sha256: str) -> None:
        """Write a picture's record, and its line in the report."""
        records = self._records[planned.channel]
        start = records.write(planned.id, planned.label, prepared.jpeg)
        image = planned.image
        self._line(
            planned.id,
            image.name,
            planned.label,
            planned.channel,
            sha256,
            base64.b64encode(prepared.fingerprint).decode(),
            start,
            records.bytes,
            image.size,
            prepared.width,
            prepared.height,
            prepared.upscaled,
        )

    def skip(self, label: str, refused: Refused) -> None:
        """Write why something is not packed."""
        name, reason = one_line(refused.name, MAX_KEY_BYTES), one_line(refused.reason, MAX_REASON)
        self._line(name, label, refused.code, reason)

    def _line(self, *row: object) -> None:
        self._report.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")


def mark_done(place: Folder, shard: Shard, plan: Plan) -> None:
    """Say that every file of the shard is there."""
    done = {
        "reading": asdict(plan.reading),
        "dataset": plan.dataset,
        "shard": plan.shard,
    }
    place.write(shard.path("done.json"), json.dumps(done).encode())


def packed_shards(place: Folder, count: int) -> tuple[list[Shard], Reading]:
    """All shards, and the reading of the dataset that they agree on.

    Raises JobError where a shard is missing, or where they were not planned on the same dataset.
    """
    shards = [Shard(number, count) for number in range(count)]
    found = [shard.done(place) for shard in shards]
    missing = [shard.number for shard, done in zip(shards, found, strict=True) if done is None]
    if missing:
        raise JobError(
            f"Shard {missing[0]} of {count} was not packed ({len(missing)} are missing)."
        )
    complete = [done for done in found if done is not None]
    if len({done["dataset"] for done in complete}) > 1:
        raise JobError(
            "The dataset changed while it was being packed: complete it again by a new _READY."
        )
    reading = complete[0]["reading"]
    return shards, Reading(**{**reading, "channels": tuple(reading["channels"])})
