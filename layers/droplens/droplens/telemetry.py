"""Logger and metrics, made once and shared by every function."""

import os
import warnings
from threading import Lock

from aws_lambda_powertools import Logger, Metrics

from droplens.runs import RunKey

# Most invocations have nothing to count, and a warning in each log would hide the real ones.
warnings.filterwarnings("ignore", message="No application metrics to publish")

# Two stacks in one account are two services: an alarm counts the pictures of its own.
SERVICE = os.environ.get("STACK", "droplens")
logger = Logger(service=SERVICE)
metrics = Metrics(namespace="Droplens", service=SERVICE)


def follow(run: RunKey) -> None:
    """From here on, every log line of this invocation tells its run."""
    logger.set_correlation_id(run.run_id)
    logger.append_keys(**run.as_key())


_counting = Lock()


def count(name: str, value: float = 1) -> None:
    """Add to a metric, from whatever thread: powertools' own is made for one."""
    with _counting:
        metrics.add_metric(name=name, unit="Count", value=value)
