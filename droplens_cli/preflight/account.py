"""Calls AWS for the checks, where each call may be denied or fail."""

from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

# https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html and the services' own.
FORBIDDEN = {
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "Forbidden",
    "UnauthorizedOperation",
    "403",
}
CONFIG = Config(
    connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 4}
)


class UnavailableError(Exception):
    """A call failed; the message says why, and names the action that is denied."""


class Account:
    """One region of an account. `session`: a boto3 session."""

    def __init__(self, session: Any, region: str) -> None:
        self.session = session
        self.region = region
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """The service's client in this region."""
        if service not in self._clients:
            self._clients[service] = self.session.client(
                service, region_name=self.region, config=CONFIG
            )
        return self._clients[service]

    def call(
        self, service: str, operation: str, *, absent: tuple[str, ...] = (), **request: Any
    ) -> dict[str, Any] | None:
        """The response of one operation (in botocore's spelling, get_caller_identity).

        absent: error codes of a resource that does not exist: returns None. Raises UnavailableError
        for all other errors.
        """
        try:
            client = self.client(service)
            response: dict[str, Any] = getattr(client, operation)(**request)
        except ClientError as error:
            if _code(error) in absent:
                return None
            raise self._unavailable(service, operation, error) from error
        except BotoCoreError as error:
            raise self._unavailable(service, operation, error) from error
        return response

    def pages(self, service: str, operation: str, key: str, **request: Any) -> list[Any]:
        """Every entry below `key` of a paginated operation. Raises UnavailableError."""
        try:
            pages = self.client(service).get_paginator(operation).paginate(**request)
            return [entry for page in pages for entry in page.get(key, [])]
        except (ClientError, BotoCoreError) as error:
            raise self._unavailable(service, operation, error) from error

    def _unavailable(
        self, service: str, operation: str, error: ClientError | BotoCoreError
    ) -> UnavailableError:
        if isinstance(error, ClientError):
            called = self.client(service).meta.method_to_api_mapping[operation]
            prefix = ACTION_PREFIXES.get(service, service)
            if _code(error) in FORBIDDEN:
                action = ACTIONS.get((service, called), called)
                return UnavailableError(f"{prefix}:{action} is not allowed to this identity")
            return UnavailableError(f"{prefix}:{called} was refused: {error}")
        return UnavailableError(f"{service} did not answer: {error}")


# Where an action's name in a policy is not that of the service or of the operation (Service
# Authorization Reference).
ACTION_PREFIXES = {"service-quotas": "servicequotas"}
ACTIONS = {("s3", "HeadBucket"): "ListBucket", ("s3", "ListBuckets"): "ListAllMyBuckets"}


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
