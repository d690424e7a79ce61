"""The HTTP server of an endpoint."""
