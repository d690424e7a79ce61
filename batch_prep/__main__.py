"""Pack a dataset: python -m batch_prep --source s3://bucket/datasets/cars/ --destination ...

Exit code 0: the destination holds a complete dataset, dataset.json written last. Any other: it
does not, and one sentence says why: the last line on stderr, a JSON line in the log, and
failure.json in the destination. 1: another attempt would end in the same way. 75: it may not, the
storage was at fault.
"""

import json
import logging
import sys
import tempfile
import time
from collections.abc import Sequence

from batch_prep.archives import ArchiveLimits
from batch_prep.dataset import assemble
from batch_prep.errors import JobError
from batch_prep.options import Options, parse
from batch_prep.pack import pack
from batch_prep.progress import Progress, RunItem
from batch_prep.records import write_channel, write_small
from batch_prep.report import manifest
from batch_prep.sources import open_source
from batch_prep.split import split
from batch_prep.storage import Folder, folder
from droplens.pictures import Limits

MANIFEST = "dataset.json"
CLASSES = "classes.json"
FAILURE = "failure.json"

_LOG = logging.getLogger("batch_prep")


def main(arguments: Sequence[str]) -> int:
    """Run the job that `arguments` describe and return the process's exit code."""
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    _LOG.setLevel(logging.INFO)
    try:
        options = parse(arguments)
        destination = folder(options.destination)
        if destination.exists(MANIFEST):
            return _packed_before(options, destination)
    except JobError as error:
        return _failed(error)
    try:
        run(options, destination)
    except JobError as error:
        return _failed(error, options, destination)
    except MemoryError:
        return _failed(JobError("The job ran out of memory."), options, destination)
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
    _LOG.info("packed before, by an earlier attempt of this run")
    return 0


def run(options: Options, destination: Folder) -> None:
    """Pack the source into the destination. Raises JobError where that cannot be done."""
    started = time.monotonic()
    limits = Limits()
    with (
        open_source(options.source, ArchiveLimits(max_member_bytes=limits.max_bytes)) as source,
        tempfile.TemporaryFile() as spool,
    ):
        item = options.runs_table and RunItem(
            options.runs_table, options.classifier, options.run_id
        )
        with Progress(source.total, item or None) as progress:
            packed = pack(
                source.entries, spool, options.preprocessing, limits, options.workers, progress
            )
        dataset = assemble(packed, options.max_bad, listed=source.listed)
        channels = split(
            [dataset.pictures[name] for name in dataset.classes], options.validation, options.seed
        )
        written = write_channel(destination, "train", channels.train, spool)
        written |= write_channel(destination, "validation", channels.validation, spool)
        written[CLASSES] = write_small(destination, CLASSES, _json(dataset.classes))
        seconds = time.monotonic() - started
        report = manifest(options, dataset, channels, written, seconds)
        destination.write(MANIFEST, _json(report))
    counts = " ".join(f"{name}={count}" for name, count in report["counts"].items())
    _LOG.info("packed classes=%d %s seconds=%.1f", len(dataset.classes), counts, seconds)


def _failed(
    failure: JobError, options: Options | None = None, destination: Folder | None = None
) -> int:
    """Say the failure everywhere that somebody will look, and return the exit code."""
    message = str(failure)
    line = {"level": "ERROR", "message": message}
    if options and destination:
        line |= {"classifier": options.classifier, "run_id": options.run_id}
        try:
            destination.write(FAILURE, _json({"message": message}))
        except (JobError, OSError) as error:
            _LOG.warning("failure.json could not be written: %s", error)
    _LOG.error(json.dumps(line, ensure_ascii=False))
    print(message, file=sys.stderr)  # noqa: T201  what the caller shows
    return failure.exit_code


def _json(value: object) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
