"""The packing job: from a source to packed shards, and from all shards to a dataset."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain

from batch_prep.errors import JobError
from batch_prep.options import Options, Step
from batch_prep.progress import Progress, Report, RunItem, seconds_between_reports
from batch_prep.shards.files import Shard, ShardWriter, mark_done
from batch_prep.shards.merge import MANIFEST, merge, tidy
from batch_prep.shards.split import Crowded, Plan, plan
from batch_prep.shards.spool import Spool, Spooled, temporary_spool
from batch_prep.shards.worker import WORTH_PROCESSES, Packer, PackingPool
from batch_prep.sources.archives import ArchiveLimits
from batch_prep.sources.corrections import corrections
from batch_prep.sources.entries import Entry
from batch_prep.sources.folders import Source, open_source
from batch_prep.storage.folder import Folder
from batch_prep.storage.locate import folder_at

# Images whose names are in memory at the same time, some 400 bytes each.
_MOST_NAMED_AT_ONCE = 250_000
# To a caller's own `report`, which draws it.
_SECONDS_BETWEEN_REPORTS = 0.2

_LOG = logging.getLogger("batch_prep")


def is_packed(options: Options, destination: Folder) -> bool:
    """Whether an earlier attempt of this run completed the dataset, which is then tidied.

    Raises JobError where the destination holds another run's dataset, which is not overwritten.
    """
    if not destination.exists(MANIFEST):
        return False
    found = json.loads(destination.read(MANIFEST))
    if (found["classifier"], found["run_id"]) != (options.classifier, options.run_id):
        raise JobError(f"{options.destination} already holds a packed dataset.")
    # That attempt may have ended after it wrote the manifest and before it had tidied.
    count = found["shards"]
    tidy(destination, (Shard(number, count) for number in range(count)))
    _LOG.info("packed before, by an earlier attempt of this run")
    return True


def run(
    options: Options,
    destination: Folder,
    packer: Packer,
    pool: PackingPool,
    report: Report | None = None,
) -> None:
    """Do the step that the options name. Raises JobError where that is impossible.

    report: gets the progress; None: it is written to the run's item, where the options name one.
    """
    shards = options.shards
    progress = partial(_progress, options, report)
    if options.step is not Step.JOIN:
        limits = ArchiveLimits(max_member_bytes=packer.limits.max_bytes)
        with (
            open_source(options.source, limits, options.guard.images) as source,
            temporary_spool(destination) as spool,
        ):
            shards = _pack(options, destination, source, packer, spool, pool, progress)
    if options.step is not Step.PACK and shards is not None:
        merge(options, destination, shards)


def _pack(
    options: Options,
    destination: Folder,
    source: Source,
    packer: Packer,
    spool: Spool,
    pool: PackingPool,
    begin: Callable[[int | None, str], Progress],
) -> int:
    """Pack the shard that the options name, or all of them. Returns the number of shards."""

    def corrected() -> Iterable[Entry]:
        if options.corrections is None:
            return ()
        most = packer.limits.max_bytes
        return corrections(folder_at(options.corrections), destination, most)

    def guarded() -> Iterable[Entry]:
        return options.guard.watched(chain(source.entries(), corrected()))

    def listed() -> Iterator[Entry]:
        for number, entry in enumerate(guarded(), start=1):
            if number == WORTH_PROCESSES:
                pool.start()
            yield entry

    entries: Callable[[], Iterable[Entry | Spooled]] = listed
    if source.streamed:
        with begin(source.total, "reading") as progress:
            spooled = packer.spool(guarded(), spool, progress)
        entries = partial(iter, spooled)
    planned = partial(
        plan, entries, listed=source.listed, validation=options.validation, seed=options.seed
    )
    pack = partial(_pack_shard, destination, partial(packer.pack, spool, pool), begin)
    if options.shard is not None and options.shards is not None:
        part = planned(shard=options.shard, shards=options.shards)
        pack(Shard(options.shard, options.shards), part)
        return options.shards
    shards = options.shards or 1
    try:
        part = planned(shards=shards, most=None if options.shards else _MOST_NAMED_AT_ONCE)
    except Crowded as crowded:
        # Shards of half the limit, since they are not of equal size.
        shards = -(-2 * crowded.images // _MOST_NAMED_AT_ONCE)
        part = planned(shards=shards)
    for number in range(shards):
        if number:
            part = planned(shard=number, shards=shards)
        pack(Shard(number, shards), part)
    return shards


def _pack_shard(
    destination: Folder,
    pack: Callable[[Plan, ShardWriter, Progress], None],
    begin: Callable[[int | None, str], Progress],
    shard: Shard,
    part: Plan,
) -> None:
    done = shard.done(destination)
    if done is not None and done["shard"] == part.shard:
        _LOG.info("shard %d of %d was packed by an earlier attempt", shard.number, shard.count)
        return
    total = len(part.images) + len(part.skipped)
    with (
        begin(total, "packing") as progress,
        ShardWriter(destination, shard, part.reading.channels) as writer,
    ):
        pack(part, writer, progress)
    mark_done(destination, shard, part)


def _progress(options: Options, report: Report | None, total: int | None, stage: str) -> Progress:
    if report is not None:
        return Progress(total, report, stage, _SECONDS_BETWEEN_REPORTS)
    if options.runs_table is None:
        return Progress(total, stage=stage)
    item = RunItem(options.runs_table, options.classifier, options.run_id, options.shard)
    shards = options.shards if options.shard is not None and options.shards else 1
    return Progress(total, item, stage, seconds_between_reports(shards))
