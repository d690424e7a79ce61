"""The error codes of AWS's services."""

from botocore.exceptions import ClientError


def error_code(error: ClientError) -> str:
    """The service's own code for a failed call."""
    return str(error.response.get("Error", {}).get("Code", ""))
