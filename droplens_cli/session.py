"""Sessions of boto3 for a target; not in target.py, since boto3 takes long to import."""

import json
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from droplens_cli.errors import CommandError, ExitCode
from droplens_cli.target import Target

LOCAL_REGION = "us-east-1"  # as localcloud/settings.py has it
# Requests at the same time, of uploads and of reading results.
CONNECTIONS = 32
CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 5}, max_pool_connections=CONNECTIONS
)


class LocalSession(boto3.Session):
    """A session whose every client is of one local cloud, with that cloud's own key."""

    def __init__(self, url: str, key: str, secret: str) -> None:
        super().__init__(
            aws_access_key_id=key, aws_secret_access_key=secret, region_name=LOCAL_REGION
        )
        self._url = url

    def client(self, service_name: Any, **options: Any) -> Any:  # type: ignore[override]
        """A client of a service."""
        return super().client(service_name, **{"endpoint_url": self._url, **options})

    def resource(self, service_name: Any, **options: Any) -> Any:  # type: ignore[override]
        """A resource-style client of a service."""
        return super().resource(service_name, **{"endpoint_url": self._url, **options})


def session_of(target: Target) -> boto3.Session:
    """A session of the target's cloud. Raises CommandError where a local one was never started."""
    if not target.is_local:
        return boto3.Session(region_name=target.region or None, profile_name=target.profile or None)
    path = Path(target.folder) / "cloud" / "state" / "operator.json"
    try:
        operator = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise CommandError(
            "the local cloud is down: `make up` starts it",
            f"it was never up in {target.folder}; `make deploy-local` also deploys the stack",
            ExitCode.NO_TARGET,
        ) from None
    return LocalSession(target.url, operator["key"], operator["secret"])
