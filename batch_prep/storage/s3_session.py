"""The AWS session, S3 client and credentials that all threads of a process share.

Each depends on the AWS_ variables of the environment, so that a changed environment gets its own.
"""

import os
import threading
from collections.abc import Callable
from functools import cache, wraps
from typing import TYPE_CHECKING, TypeVar

import boto3
import botocore.session
from botocore.config import Config
from obstore.auth.boto3 import Boto3CredentialProvider

from batch_prep.errors import JobError, StorageError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

Environment = tuple[tuple[str, str], ...]
Created = TypeVar("Created")


def aws_environment() -> Environment:
    """Names and values of the AWS_ variables, sorted by name."""
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))


# `functools.cache` alone lets every thread that calls before the first result create its own.
_creating = threading.RLock()


def _once(create: Callable[[Environment], Created]) -> Callable[[Environment], Created]:
    """`create`, called once for each environment, however many threads call at the same time."""
    cached = cache(create)

    @wraps(create)
    def created(environment: Environment) -> Created:
        with _creating:
            return cached(environment)

    return created


@_once
def _session_for(environment: Environment) -> boto3.Session:
    core = botocore.session.get_session()
    # The AWS SDKs' common variable is AWS_REGION (AWS SDKs and Tools Reference Guide, "AWS
    # Region"); botocore reads AWS_DEFAULT_REGION only.
    region = dict(environment).get("AWS_REGION")
    if core.get_config_variable("region") is None and region:
        core.set_config_variable("region", region)
    # Dates of last change are not used, and parsing them takes half of a listing's time.
    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=str)
    return boto3.Session(botocore_session=core)


@_once
def client_for(environment: Environment) -> "S3Client":
    """The S3 client, which takes 0.1 s to create. Raises JobError without a region."""
    session = _session_for(environment)
    if session.region_name is None:
        raise JobError("S3 cannot be used: AWS_REGION names no region.")
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 10},
        # The global address is not served by a VPC's interface endpoint.
        s3={"us_east_1_regional_endpoint": "regional"},
    )
    return session.client("s3", config=config)


@_once
def credentials_for(environment: Environment) -> Boto3CredentialProvider:
    """The session's credentials for obstore. Raises StorageError where there are none.

    One provider for the process: each provider requests credentials from the ECS agent, obstore's
    threads start together, and the agent serves 40 requests a second and 60 at once, then returns
    429 (Amazon ECS Developer Guide, container agent configuration, ECS_TASK_METADATA_RPS_LIMIT).
    """
    try:
        return Boto3CredentialProvider(_session_for(environment))
    except ValueError:
        raise StorageError("S3 cannot be used: no AWS credentials were found.") from None
