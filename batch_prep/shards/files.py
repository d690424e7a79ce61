"""The files of one packed shard, below work/ in the destination, for the merge to read.

<channel>.rec: its records; report.jsonl: a line for each packed image and each skipped file;
done.json: written last, so that a shard which has it is complete and is not packed again.
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
    """A packed image.

    start, end: its record's bytes in the channel's shard file; size: of its source file in bytes;
    label: as in `split.Planned`; corrected: whether it is a correction.
    """

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
    corrected: bool = False


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was not packed. label: the name of its class, "" for none; code, reason: why."""

    name: str
    label: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Shard:
    """Shard number `number`, from 0, of `count`."""

    number: int
    count: int

    def path(self, name: str) -> str:
        """The path of one of its files, from the destination."""
        return f"work/{self.number:05}-of-{self.count:05}/{name}"

    def paths(self) -> Iterator[str]:
        """All of them, done.json first: once it is removed, the shard counts as not packed."""
        for name in ("done.json", "report.jsonl", *(f"{channel}.rec" for channel in CHANNELS)):
            yield self.path(name)

    def done(self, folder: Folder) -> dict[str, Any] | None:
        """The content of done.json, or None where the shard is not complete."""
        try:
            return dict(json.loads(folder.read(self.path("done.json"))))
        except FileNotFoundError:
            return None

    def report(self, folder: Folder) -> Iterator[PackedImage | Skipped]:
        """Every packed image, in the order of the records, and every skipped file."""
        with folder.open(self.path("report.jsonl")) as lines:
            for line in lines:
                row = json.loads(line)
                if len(row) == len(Skipped.__slots__):
                    yield Skipped(*row)
                else:
                    row[5] = base64.b64decode(row[5])
                    yield PackedImage(*row)


class ShardWriter:
    """Writes one shard's report and a shard file for each of `channels`; a context manager."""

    def __init__(self, folder: Folder, shard: Shard, channels: Sequence[str]) -> None:
        self._folder = folder
        self._shard = shard
        self._channels = channels
        self._files = ExitStack()

    def __enter__(self) -> Self:
        names = ("report.jsonl", *(f"{channel}.rec" for channel in self._channels))
        writers = (self._folder.writer(self._shard.path(name)) for name in names)
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
        """Write an image's record, and its line in the report."""
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
            image.corrected,
        )

    def skip(self, label: str, refused: Refused) -> None:
        """Write a line in the report for a file that is not packed."""
        name, reason = one_line(refused.name, MAX_KEY_BYTES), one_line(refused.reason, MAX_REASON)
        self._line(name, label, refused.code, reason)

    def _line(self, *row: object) -> None:
        self._report.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")


def mark_done(folder: Folder, shard: Shard, plan: Plan) -> None:
    """Write done.json. Every other file of the shard must be complete."""
    done = {
        "reading": asdict(plan.reading),
        "dataset": plan.dataset,
        "shard": plan.shard,
    }
    folder.write(shard.path("done.json"), json.dumps(done).encode())


def packed_shards(folder: Folder, count: int) -> tuple[list[Shard], Reading]:
    """All shards, and the reading of the dataset, which is the same for all of them.

    Raises JobError where a shard is missing, or where they were not planned on the same dataset.
    """
    shards = [Shard(number, count) for number in range(count)]
    found = [shard.done(folder) for shard in shards]
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
