"""Logger, tracer and metrics, made once and shared by every function."""

from aws_lambda_powertools import Logger, Metrics, Tracer

logger = Logger(service="droplens")
tracer = Tracer(service="droplens")
metrics = Metrics(namespace="Droplens", service="droplens")
