"""The log of a container: lines on standard output."""

import logging
import sys


def log_to_stdout() -> None:
    """Send this process's log to standard output, where SageMaker collects it."""
    logging.basicConfig(
        stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
