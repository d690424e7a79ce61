"""Pack a dataset: python -m batch_prep --source s3://bucket/datasets/cars/ --destination ...

Exit code 0: the destination holds a complete dataset, dataset.json written last. Any other: it
does not, and one sentence gives the reason: the last line on stderr, a JSON line in the log, and
failure.json in the destination. 1: another attempt would end in the same way. 75: it may not, the
storage was at fault. 143: the job was stopped by SIGTERM, and another attempt resumes the work.
"""

import gc
import json
import logging
import signal
import sys
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from batch_prep import job
from batch_prep.errors import JobError, out_of_memory
from batch_prep.options import Options, Step, parse
from batch_prep.shards.merge import FAILURE, to_json
from batch_prep.shards.worker import Packer, PackingPool
from batch_prep.storage.folder import Folder
from batch_prep.storage.locate import folder_at
from droplens.domain.text import MAX_MESSAGE, one_line
from droplens.imaging.prepare import Limits

_LOG = logging.getLogger("batch_prep")


class _OneLine(logging.Formatter):
    """A message is one line, whatever untrusted name it quotes; a traceback follows it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's own name
        return one_line(super().formatMessage(record), MAX_MESSAGE)


def main(arguments: Sequence[str], *, forked: bool = False) -> int:
    """Run the job that `arguments` describe and return the process's exit code.

    forked: start the worker processes by fork; this process must not have threads.
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
            gc.freeze()  # keeps the imported objects' memory shared with the forked processes
            pool.start()
        return _attempt(options, destination, packer, pool)


def _attempt(options: Options, destination: Folder, packer: Packer, pool: PackingPool) -> int:
    try:
        if job.is_packed(options, destination):
            return 0
    except JobError as error:
        # No failure.json: the destination may hold another run's dataset.
        return _failed(error)
    try:
        job.run(options, destination, packer, pool)
    except JobError as error:
        return _failed(error, options, destination)
    except MemoryError:
        return _failed(out_of_memory("the job was given no more"), options, destination)
    except Exception as error:  # noqa: BLE001  a fault of the program is reported like any other
        _LOG.exception("unexpected")
        unexpected = JobError(f"Packing failed unexpectedly: {error!r}.")
        return _failed(unexpected, options, destination)
    return 0


def _failed(
    failure: JobError, options: Options | None = None, destination: Folder | None = None
) -> int:
    """Report the failure to the log, stderr and failure.json; returns the exit code."""
    message = str(failure)
    line = {"level": "ERROR", "message": message}
    if options and destination:
        line |= {"classifier": options.classifier, "run_id": options.run_id}
        try:
            destination.write(FAILURE, to_json({"message": message}))
        except (JobError, OSError) as error:
            _LOG.warning("failure.json could not be written: %s", error)
    _LOG.error(json.dumps(line, ensure_ascii=False))
    print(message, file=sys.stderr)  # noqa: T201  for whoever runs the command
    return failure.exit_code


def _stop(signum: int, _: FrameType | None) -> NoReturn:
    """Batch stops a job by SIGTERM, which the first process of a container ignores by default."""
    signal.signal(signum, signal.SIG_IGN)  # a second signal would interrupt the cleanup
    _LOG.warning("stopped by signal %d before the end of packing", signum)
    raise SystemExit(128 + signum)


# Images of up to 100 megapixels are accepted; Pillow warns from 89 on. At module level, since
# spawned processes import this module too.
warnings.filterwarnings("ignore", "Image size .* could be decompression bomb")

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    raise SystemExit(main(sys.argv[1:], forked=sys.platform == "linux"))
