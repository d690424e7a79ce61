"""Logger, tracer and metrics, made once and shared by every function."""

import warnings

from aws_lambda_powertools import Logger, Metrics, Tracer

from droplens.runs import RunKey

# Most invocations have nothing to count, and a warning in each log would hide the real ones.
warnings.filterwarnings("ignore", message="No application metrics to publish")

logger = Logger(service="droplens")
tracer = Tracer(service="droplens")
metrics = Metrics(namespace="Droplens", service="droplens")


def follow(run: RunKey) -> None:
    """From here on, every log line of this invocation tells its run."""
    logger.set_correlation_id(run.run_id)
    logger.append_keys(**run.as_key())
