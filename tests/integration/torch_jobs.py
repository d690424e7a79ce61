"""Training jobs, each in a process forked from one that has PyTorch in memory already.

Importing it takes longer than these jobs do. An order is a line of JSON on standard input,
{"environment": {...}, "output": path of a FIFO}; the answers, a line each, are the process's id
and, once it has ended, its exit code.
"""

import importlib
import json
import os
import sys
from typing import NoReturn

from tests.integration.with_timm import declare


def main() -> None:
    """Take orders until there are no more."""
    declare()
    # No threads are started by this, which a fork would lose.
    for name in (
        "torch._dynamo",
        "onnxruntime",
        "timm",
        "trainer.recipes.finetune.run",
        "trainer.train",
    ):
        importlib.import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        process = os.fork()
        if process == 0:
            _become(order["environment"], order["output"])
        _tell(process)
        _, status = os.waitpid(process, 0)
        _tell(os.waitstatus_to_exitcode(status))


def _tell(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _become(environment: dict[str, str], output: str) -> NoReturn:
    """What `python -m trainer train` does."""
    written = os.open(output, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(written, descriptor)
    os.close(written)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = environment["PYTHONPATH"].split(os.pathsep)
    sys.argv = ["trainer", "train"]
    from trainer.__main__ import main as run

    try:
        code: object = run()
    except SystemExit as stopped:
        code = stopped.code
    sys.stdout.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    main()
