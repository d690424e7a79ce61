"""Telemetry of the functions by Powertools, apart from tracing."""

import os
import warnings
from collections.abc import Callable
from threading import Lock

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from droplens.domain.run import RunKey

# Most invocations add no metric; a warning in each log would hide the relevant ones.
warnings.filterwarnings("ignore", message="No application metrics to publish")

# One service per stack, so that an alarm counts only the images of its own stack.
SERVICE = os.environ.get("STACK", "droplens")
logger = Logger(service=SERVICE)
NAMESPACE = "Droplens"
metrics = Metrics(namespace=NAMESPACE, service=SERVICE)
# By classifier, which is their second dimension. Log lines have one value of each dimension.
_of_classifiers: dict[str, EphemeralMetrics] = {}


# Called with a name and a value for the run of an invocation; the tracer adds itself.
annotators: list[Callable[[str, str], None]] = []


def follow(run: RunKey) -> None:
    """Add the run to every further log line of this invocation, and to its trace."""
    logger.set_correlation_id(run.run_id)
    logger.append_keys(**run.as_key())
    for annotate in annotators:
        for name, value in run.as_key().items():
            annotate(name, value)


_metrics_lock = Lock()


def count(name: str, value: float = 1, unit: MetricUnit = MetricUnit.Count) -> None:
    """Add to a metric. Thread-safe, which Powertools' `add_metric` is not."""
    with _metrics_lock:
        metrics.add_metric(name=name, unit=unit, value=value)


def count_of_classifier(classifier: str, name: str, value: float, unit: MetricUnit) -> None:
    """Add to a metric that each classifier has of its own. Thread-safe."""
    with _metrics_lock:
        if classifier not in _of_classifiers:
            own = EphemeralMetrics(namespace=NAMESPACE, service=SERVICE)
            own.add_dimension("classifier", classifier)
            _of_classifiers[classifier] = own
        _of_classifiers[classifier].add_metric(name=name, unit=unit, value=value)


def flush_of_classifiers() -> None:
    """Log the metrics of `count_of_classifier`, a line for each classifier."""
    with _metrics_lock:
        for own in _of_classifiers.values():
            own.flush_metrics()
        _of_classifiers.clear()
