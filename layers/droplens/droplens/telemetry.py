"""Logger, tracer and metrics, made once and shared by every function."""

import warnings

from aws_lambda_powertools import Logger, Metrics, Tracer

# Most invocations have nothing to count, and a warning in each log would hide the real ones.
warnings.filterwarnings("ignore", message="No application metrics to publish")

logger = Logger(service="droplens")
tracer = Tracer(service="droplens")
metrics = Metrics(namespace="Droplens", service="droplens")
