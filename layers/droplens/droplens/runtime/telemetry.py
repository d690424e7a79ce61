"""Logger and metrics, made once and shared by every function."""

import os
import warnings
from collections.abc import Callable
from threading import Lock

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from droplens.domain.run import RunKey

# Most invocations have nothing to count, and a warning in each log would hide the real ones.
warnings.filterwarnings("ignore", message="No application metrics to publish")

# Two stacks in one account are two services: an alarm counts the pictures of its own.
SERVICE = os.environ.get("STACK", "droplens")
logger = Logger(service=SERVICE)
metrics = Metrics(namespace="Droplens", service=SERVICE)


# Who else is told which run an invocation works for, as a name and a value: the tracer.
followers: list[Callable[[str, str], None]] = []


def follow(run: RunKey) -> None:
    """From here on, every log line of this invocation tells its run, and so does its trace."""
    logger.set_correlation_id(run.run_id)
    logger.append_keys(**run.as_key())
    for tell in followers:
        for name, value in run.as_key().items():
            tell(name, value)


_counting = Lock()


def count(name: str, value: float = 1, unit: MetricUnit = MetricUnit.Count) -> None:
    """Add to a metric, from whatever thread: powertools' own is made for one."""
    with _counting:
        metrics.add_metric(name=name, unit=unit, value=value)
