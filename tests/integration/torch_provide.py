"""Builds that provide pretrained weights, one after the other in a process that has timm.

    python -m tests.integration.torch_provide ORDERS.json

ORDERS is a list of [name, given folder, out folder]; a line of JSON answers each: the exit code and
the last line of the output.
"""

import contextlib
import io
import json
import sys
from pathlib import Path

from trainer.nets.pretrained import main as provide


def main(orders: str) -> None:
    """Provide what is asked for."""
    for name, given, out in json.loads(Path(orders).read_text("utf-8")):
        with contextlib.redirect_stdout(io.StringIO()) as said:
            code = provide([name, "--given", given, "--out", out])
        sys.stdout.write(json.dumps([code, said.getvalue().splitlines()[-1]]) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
