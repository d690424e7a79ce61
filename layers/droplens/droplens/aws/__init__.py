"""AWS services as the functions use them, one module per service."""
