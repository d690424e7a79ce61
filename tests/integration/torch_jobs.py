"""Modules run by processes forked from one that has PyTorch in memory already.

Importing them takes longer than most of these jobs do. An order is a line of JSON on standard
input, a list of jobs to run at the same time: {"module": ..., "arguments": [...], "environment":
{...}, "output": path of a FIFO}. The answers are a line with the list of their process ids and,
once all have ended, one with that of their exit codes.
"""

import importlib
import json
import os
import runpy
import sys
from typing import Any, NoReturn


def main() -> None:
    """Take orders until there are no more."""
    # Not at the top of the module: processes that a job spawns import it too.
    from tests.integration.torch_timm import declare_operators

    declare_operators()
    # No threads are started by this, which a fork would lose. timm is left to the jobs: it reads
    # the hub's address as it is imported.
    for name in (
        "torch._dynamo",
        "onnxruntime",
        "trainer.recipes.finetune.run",
        "trainer.train",
    ):
        importlib.import_module(name)
    for line in sys.stdin:
        processes = [_fork(job) for job in json.loads(line)]
        _tell(processes)
        statuses = [os.waitpid(process, 0)[1] for process in processes]
        _tell([os.waitstatus_to_exitcode(status) for status in statuses])


def _tell(numbers: list[int]) -> None:
    sys.stdout.write(f"{json.dumps(numbers)}\n")
    sys.stdout.flush()


def _fork(job: dict[str, Any]) -> int:
    process = os.fork()
    if process == 0:
        _become(job)
    return process


def _become(job: dict[str, Any]) -> NoReturn:
    """What `python -m MODULE ARGUMENTS` does."""
    written = os.open(job["output"], os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(written, descriptor)
    os.close(written)
    environment = job["environment"]
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = environment["PYTHONPATH"].split(os.pathsep)
    sys.argv = [job["module"], *job["arguments"]]
    code: object = 1
    try:
        runpy.run_module(job["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as stopped:
        code = 0 if stopped.code is None else stopped.code
    except BaseException:  # noqa: BLE001  printed, as Python does
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    main()
