"""Pack a dataset: python -m batch_prep --source s3://bucket/datasets/cars/ --destination ...

Exit code 0: the destination holds a complete dataset, dataset.json written last. Any other: it
does not, and one sentence says why: the last line on stderr, a JSON line in the log, and
failure.json in the destination. 1: another attempt would end in the same way. 75: it may not, the
storage was at fault. 143: it was stopped by SIGTERM, and another attempt goes on from there.
"""

import gc
import json
import logging
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from types import FrameType
from typing import NoReturn

from batch_prep.errors import JobError, out_of_memory
from batch_prep.options import Options, Step, parse
from batch_prep.progress import Progress, RunItem, seconds_between_reports
from batch_prep.shards.files import Shard, ShardWriter, mark_done
from batch_prep.shards.merge import FAILURE, MANIFEST, join, tidy, to_json
from batch_prep.shards.split import Crowded, Plan, plan
from batch_prep.shards.spool import Spool, Spooled, temporary_spool
from batch_prep.shards.worker import WORTH_PROCESSES, Packer, PackingPool
from batch_prep.sources.archives import ArchiveLimits
from batch_prep.sources.entries import Entry
from batch_prep.sources.folders import Source, open_source
from batch_prep.storage.folder import Folder
from batch_prep.storage.locate import folder_at
from droplens.domain.text import MAX_MESSAGE, one_line
from droplens.imaging.prepare import Limits

# Pictures whose names are in memory at the same time, some 400 bytes each.
_MOST_NAMED_AT_ONCE = 250_000

_LOG = logging.getLogger("batch_prep")


class _OneLine(logging.Formatter):
    """A message is a line, whatever name of a stranger's it quotes; a traceback follows it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's own name
        return one_line(super().formatMessage(record), MAX_MESSAGE)


def main(arguments: Sequence[str], *, forked: bool = False) -> int:
    """Run the job that `arguments` describe and return the process's exit code.

    forked: this process has no threads yet, and the others may begin as copies of it.
    """
    lines = logging.StreamHandler(sys.stdout)
    lines.setFormatter(_OneLine("%(message)s"))
    logging.basicConfig(handlers=[lines])
    _LOG.setLevel(logging.INFO)
    try:
        options = parse(arguments)
        destination = folder_at(options.destination)
    except JobError as error:
        return _failed(error)
    packer = Packer(options.preprocessing, Limits(), options.workers)
    with packer.worker_pool(forked=forked) as pool:
        if forked and options.step is not Step.JOIN:
            gc.freeze()  # what is imported stays: nobody need look at it again
            pool.start()
        return _attempt(options, destination, packer, pool)


def _attempt(options: Options, destination: Folder, packer: Packer, pool: PackingPool) -> int:
    try:
        if destination.exists(MANIFEST):
            return _packed_before(options, destination)
    except JobError as error:
        return _failed(error)
    try:
        _run(options, destination, packer, pool)
    except JobError as error:
        return _failed(error, options, destination)
    except MemoryError:
        return _failed(out_of_memory("the job was given no more"), options, destination)
    except Exception as error:  # noqa: BLE001  a fault of ours: the run still has to say so
        _LOG.exception("unexpected")
        unexpected = JobError(f"Packing failed unexpectedly: {error!r}.")
        return _failed(unexpected, options, destination)
    return 0


def _packed_before(options: Options, destination: Folder) -> int:
    """A job that was cut off after its last write is tried again, and finds its work done.

    Raises JobError for a dataset of another run, which is never written over.
    """
    found = json.loads(destination.read(MANIFEST))
    if (found["classifier"], found["run_id"]) != (options.classifier, options.run_id):
        raise JobError(f"{options.destination} already holds a packed dataset.")
    # It may have been cut off between the manifest and the end of its tidying.
    count = found["shards"]
    tidy(destination, (Shard(number, count) for number in range(count)))
    _LOG.info("packed before, by an earlier attempt of this run")
    return 0


def _run(options: Options, destination: Folder, packer: Packer, pool: PackingPool) -> None:
    """Do the step of the work. Raises JobError where that cannot be done."""
    shards = options.shards
    if options.step is not Step.JOIN:
        limits = ArchiveLimits(max_member_bytes=packer.limits.max_bytes)
        with (
            open_source(options.source, limits, options.guard.images) as source,
            temporary_spool(destination) as spool,
        ):
            shards = _pack(options, destination, source, packer, spool, pool)
    if options.step is not Step.PACK and shards is not None:
        join(options, destination, shards)


def _pack(
    options: Options,
    destination: Folder,
    source: Source,
    packer: Packer,
    spool: Spool,
    pool: PackingPool,
) -> int:
    """Pack the shard that was asked for, or all; how many shards there are."""

    def guarded() -> Iterable[Entry]:
        return options.guard.watched(source.entries())

    def listed() -> Iterator[Entry]:
        for number, entry in enumerate(guarded(), start=1):
            if number == WORTH_PROCESSES:
                pool.start()
            yield entry

    entries: Callable[[], Iterable[Entry | Spooled]] = listed
    if source.streamed:
        with _progress(options, source.total, "reading") as progress:
            spooled = packer.spool(guarded(), spool, progress)
        entries = partial(iter, spooled)
    planned = partial(
        plan, entries, listed=source.listed, validation=options.validation, seed=options.seed
    )
    pack = partial(_pack_shard, options, destination, partial(packer.pack, spool, pool))
    if options.shard is not None and options.shards is not None:
        part = planned(shard=options.shard, shards=options.shards)
        pack(Shard(options.shard, options.shards), part)
        return options.shards
    shards = options.shards or 1
    try:
        part = planned(shards=shards, most=None if options.shards else _MOST_NAMED_AT_ONCE)
    except Crowded as crowded:
        shards = -(
            -2 * crowded.images // _MOST_NAMED_AT_ONCE
        )  # half full: they are not equally large
        part = planned(shards=shards)
    for number in range(shards):
        if number:
            part = planned(shard=number, shards=shards)
        pack(Shard(number, shards), part)
    return shards


def _pack_shard(
    options: Options,
    destination: Folder,
    pack: Callable[[Plan, ShardWriter, Progress], None],
    shard: Shard,
    part: Plan,
) -> None:
    done = shard.done(destination)
    if done is not None and done["shard"] == part.shard:
        _LOG.info("shard %d of %d was packed by an earlier attempt", shard.number, shard.count)
        return
    total = len(part.images) + len(part.skipped)
    with (
        _progress(options, total, "packing") as progress,
        ShardWriter(destination, shard, part.reading.channels) as writer,
    ):
        pack(part, writer, progress)
    mark_done(destination, shard, part)


def _progress(options: Options, total: int | None, stage: str) -> Progress:
    if options.runs_table is None:
        return Progress(total, stage=stage)
    item = RunItem(options.runs_table, options.classifier, options.run_id, options.shard)
    shards = options.shards if options.shard is not None and options.shards else 1
    return Progress(total, item, stage, seconds_between_reports(shards))


def _failed(
    failure: JobError, options: Options | None = None, destination: Folder | None = None
) -> int:
    """Say the failure everywhere that somebody will look, and return the exit code."""
    message = str(failure)
    line = {"level": "ERROR", "message": message}
    if options and destination:
        line |= {"classifier": options.classifier, "run_id": options.run_id}
        try:
            destination.write(FAILURE, to_json({"message": message}))
        except (JobError, OSError) as error:
            _LOG.warning("failure.json could not be written: %s", error)
    _LOG.error(json.dumps(line, ensure_ascii=False))
    print(message, file=sys.stderr)  # noqa: T201  what the caller shows
    return failure.exit_code


def _stop(signum: int, _: FrameType | None) -> NoReturn:
    """Batch stops a job by SIGTERM, which the first process of a container would not heed."""
    signal.signal(signum, signal.SIG_IGN)  # a second one would cut the tidying short
    _LOG.warning("stopped by signal %d before the end of packing", signum)
    raise SystemExit(128 + signum)


# Pictures of up to 100 megapixels are wanted; Pillow warns from 89 on. Also in processes that begin
# anew, which import this module.
warnings.filterwarnings("ignore", "Image size .* could be decompression bomb")

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    raise SystemExit(main(sys.argv[1:], forked=sys.platform == "linux"))
