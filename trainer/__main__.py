"""The container's entry point: `python -m trainer train` and `python -m trainer serve`."""

import argparse
import logging
import os
import sys
import warnings

from trainer.cuda_compat import with_compatibility
from trainer.supervise import OUT_OF_MEMORY, supervised

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
        if environment := with_compatibility(os.environ):
            # The loader reads it once, when a process starts.
            arguments = [sys.executable, "-m", "trainer", command]
            os.execve(sys.executable, arguments, environment)  # noqa: S606
        return supervised(_train, _killed)
    from trainer.serving.app import main as serve

    return serve()


def _train() -> int:
    from trainer.train import main as train

    return train()


def _killed() -> None:
    from trainer.settings import Folders

    reason = OUT_OF_MEMORY.format(detail="its process was killed")
    logging.getLogger(__name__).error("%s", reason)
    Folders.from_environment().report_failure(reason)


# Pictures of up to 100 megapixels are wanted; Pillow warns from 89 on. Also in processes that begin
# anew, which import this module.
warnings.filterwarnings("ignore", "Image size .* could be decompression bomb")


if __name__ == "__main__":
    sys.exit(main())
