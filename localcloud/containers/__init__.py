"""Container images built and run without Docker."""
