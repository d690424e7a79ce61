"""The command line of a packing job."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from batch_prep.errors import JobError
from batch_prep.sources.guard import Guard
from droplens.imaging.prepare import Preprocessing

# A Batch job definition has a fixed list of options, so "not set" needs a value.
AS_NEEDED = "auto"
# The same for corrections, where there are none.
NO_CORRECTIONS = "none"
# AWS Batch sets it to the index of each child of an array job.
_ARRAY_INDEX = "AWS_BATCH_JOB_ARRAY_INDEX"


class Step(StrEnum):
    """Which part of the work: pack one shard, merge all shards, or both for all shards."""

    ALL = "all"
    PACK = "pack"
    JOIN = "join"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The command line, checked.

    step: which part of the work is done.
    shards: how many the dataset is packed in; None: as few as suffice, allowed with step ALL only.
    shard: number of the one to pack, from 0; None unless step is PACK.

    source: a folder of class folders, or with a labelled list or Stanford Cars' files in it; the
        list itself; or one archive. s3://bucket/key or a local path.
    destination: the folder to fill, s3://bucket/prefix/ or a local path.
    corrections: a folder of corrections, <class>/<picture>; None: there are none.
    preprocessing: size and quality of the stored images.
    validation: share of every class that is held out for validation, above 0 and at most 0.5.
    seed: another seed gives another split and another order.
    max_bad: share of the images that may be unusable before the job fails, 0 to 1.
    guard: the largest dataset that is packed.
    classifier, run_id: of this run, for dataset.json and the logs.
    runs_table: DynamoDB table with the run's item, for the progress; None: not written.
    workers: images decoded at the same time.
    """

    step: Step
    shards: int | None
    shard: int | None
    source: str
    destination: str
    preprocessing: Preprocessing
    validation: float
    seed: int
    max_bad: float
    guard: Guard
    classifier: str
    run_id: str
    runs_table: str | None
    workers: int
    corrections: str | None = None

    def __post_init__(self) -> None:
        if self.shards is not None and not 1 <= self.shards <= 10_000:
            raise JobError(f"--shards is {self.shards}, expected 1 to 10000.")
        if self.step is not Step.ALL and self.shards is None:
            raise JobError(f"--step {self.step} needs --shards.")
        if self.step is Step.PACK and self.shard not in range(self.shards or 0):
            raise JobError(
                f"--shard is {self.shard}, expected 0 to {(self.shards or 0) - 1}; a child of a "
                f"Batch array has it in {_ARRAY_INDEX}."
            )
        if not 0 < self.validation <= 0.5:
            raise JobError(f"--validation is {self.validation:g}, expected above 0, at most 0.5.")
        if not 0 <= self.max_bad <= 1:
            raise JobError(f"--max-bad is {self.max_bad:g}, expected 0 to 1.")
        if self.guard.images < 1 or self.guard.gib < 1:
            raise JobError("--max-pictures and --max-gib are expected to be at least 1.")
        if self.workers < 1:
            raise JobError(f"--workers is {self.workers}, expected at least 1.")


def parse(arguments: Sequence[str]) -> Options:
    """The options in `arguments`. Raises JobError where a value is out of its range.

    Where an option is unknown or missing, prints the usage and raises SystemExit, as argparse does.
    """
    parser = argparse.ArgumentParser(prog="python -m batch_prep", description=__doc__)
    parser.add_argument("--step", type=Step, choices=list(Step), default=Step.ALL, help="(all)")
    parser.add_argument(
        "--shards",
        type=_shards,
        default=AS_NEEDED,
        help="parts to pack the dataset in (%(default)s: as few as will do)",
    )
    parser.add_argument(
        "--shard",
        type=int,
        default=os.environ.get(_ARRAY_INDEX),
        help=f"number of the part to pack, from 0 ({_ARRAY_INDEX})",
    )
    parser.add_argument("--source", required=True, help="s3://bucket/key or a local path")
    parser.add_argument("--destination", required=True, help="s3://bucket/prefix/ or a folder")
    parser.add_argument(
        "--corrections",
        type=_corrections,
        default=NO_CORRECTIONS,
        help="folder of class folders that is packed beside the source (%(default)s)",
    )
    parser.add_argument("--classifier", required=True, help="name of the classifier")
    parser.add_argument("--run-id", required=True, help="id of the run")
    parser.add_argument("--shorter-side", type=int, default=256, help="pixels (%(default)s)")
    parser.add_argument("--quality", type=int, default=95, help="of the JPEGs (%(default)s)")
    parser.add_argument("--validation", type=float, default=0.2, help="share (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of split and order (%(default)s)")
    parser.add_argument("--max-bad", type=float, default=0.2, help="share (%(default)s)")
    parser.add_argument("--max-pictures", type=int, default=1_000_000, help="(%(default)s)")
    parser.add_argument("--max-gib", type=int, default=256, help="of pictures (%(default)s)")
    parser.add_argument("--runs-table", help="DynamoDB table to report the progress to")
    parser.add_argument(
        "--workers", type=int, default=_cores(), help="decoders at work (%(default)s)"
    )
    parsed = parser.parse_args(arguments)
    try:
        preprocessing = Preprocessing(shorter_side=parsed.shorter_side, quality=parsed.quality)
    except ValueError as error:
        raise JobError(f"The preprocessing cannot be done: {error}.") from None
    return Options(
        step=parsed.step,
        shards=parsed.shards,
        shard=parsed.shard if parsed.step is Step.PACK else None,
        source=parsed.source,
        destination=parsed.destination,
        preprocessing=preprocessing,
        validation=parsed.validation,
        seed=parsed.seed,
        max_bad=parsed.max_bad,
        guard=Guard(parsed.max_pictures, parsed.max_gib),
        classifier=parsed.classifier,
        run_id=parsed.run_id,
        runs_table=parsed.runs_table,
        workers=parsed.workers,
        corrections=parsed.corrections,
    )


def _shards(text: str) -> int | None:
    return None if text == AS_NEEDED else int(text)


def _corrections(text: str) -> str | None:
    return None if text == NO_CORRECTIONS else text


def _cores() -> int:
    """CPU cores that this process may use; of the machine where the system has no affinity."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
