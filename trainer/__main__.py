"""The container's entry point: `python -m trainer train` and `python -m trainer serve`."""

import argparse
import logging
import os
import sys

# Work is shared out to the cores piece by piece. Threads inside the linear algebra as well would
# only wait for each other, and the digits of its sums would depend on how many there are.
# Read when NumPy is first imported, which is later.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# PyTorch's threads would burn the cores that others wait for.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def main() -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m trainer", description=__doc__)
    parser.add_argument("command", choices=("train", "serve"), help="as SageMaker calls it")
    command = parser.parse_args().command
    logging.basicConfig(
        stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    # Each imports what the other has no need of: a server starts without the fitting libraries.
    if command == "train":
        from trainer.train import main as run
    else:
        from trainer.serve import main as run
    return run()


if __name__ == "__main__":
    sys.exit(main())
