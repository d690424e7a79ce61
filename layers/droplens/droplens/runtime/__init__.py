"""What a function gets from its environment: settings, logger, metrics, tracer."""
