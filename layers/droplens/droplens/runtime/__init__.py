"""The Lambda runtime of the functions: settings, logger, metrics, tracer."""
