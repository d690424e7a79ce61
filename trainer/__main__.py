"""The container's entry point: `python -m trainer train`, `serve` or `classify`."""

import argparse
import logging
import os
import sys
import warnings

from trainer.cuda_compat import with_compatibility
from trainer.logs import log_to_stdout
from trainer.supervise import OUT_OF_MEMORY, supervised

# Read when NumPy is first imported, which is later. Work is distributed over the cores already;
# threads of BLAS would contend for them, and the digits of sums would depend on their number.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Idle threads of PyTorch would spin on cores that others need.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def main() -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m trainer", description=__doc__)
    parser.add_argument(
        "command",
        choices=("train", "serve", "classify"),
        help="train and serve as SageMaker calls them, classify as AWS Batch does",
    )
    parser.add_argument("--job", default="", help="of classify: the address of job.json")
    options = parser.parse_args()
    command = options.command
    log_to_stdout()
    # Imported by command: a server starts without the training libraries.
    if command == "train":
        if environment := with_compatibility(os.environ):
            # The dynamic loader reads LD_LIBRARY_PATH once, when a process starts.
            arguments = [sys.executable, "-m", "trainer", command]
            os.execve(sys.executable, arguments, environment)  # noqa: S606
        return supervised(_train, _killed)
    if command == "classify":
        from trainer.inference.job import main as classify

        return classify(options.job)
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


# Images of up to 100 megapixels are accepted; Pillow warns from 89 on. At module level, since
# spawned processes import this module too.
warnings.filterwarnings("ignore", "Image size .* could be decompression bomb")


if __name__ == "__main__":
    sys.exit(main())
