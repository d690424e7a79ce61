"""Idempotent creation, status and removal of SageMaker resources."""

import re
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from droplens.aws.errors import error_code
from droplens.aws.tags import tag_map, tagged_run
from droplens.domain.errors import QuotaReached, UserError
from droplens.domain.run import RunKey
from droplens.runtime.telemetry import logger

if TYPE_CHECKING:
    from types_boto3_sagemaker.client import SageMakerClient

_NOT_OFFERED = "not available in this region"
# SageMaker's code for a name that exists already, for one that does not exist, and for an endpoint
# that is being changed; only the message distinguishes them.
_REFUSED = "ValidationException"
# For a model or configuration that was just created: SageMaker's store is eventually consistent,
# and the API reference requires retries (CreateEndpoint).
_NOT_YET_READABLE = re.compile(r"Could not find (model|endpoint configuration) \"")
_TAKEN = re.compile(r"Cannot create already existing|already exists")
_SERVES = {"InService", "Updating", "SystemUpdating", "RollingBack", "UpdateRollbackFailed"}
# Seconds; half a minute in all, within the functions' timeout of a minute.
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


def create_once(create: Any, describe: Any, **request: Any) -> None:
    """Create a resource under a name derived from its run; does nothing if it exists.

    Retries while a resource that it needs is not readable yet. Raises QuotaReached, and UserError
    where SageMaker refuses the request.
    """
    for pause in (*PAUSES, None):
        try:
            create(**request)
        except ClientError as error:
            if pause is not None and _NOT_YET_READABLE.search(str(error)):
                logger.info(
                    "a required resource is not readable yet", error=str(error), seconds=pause
                )
                time.sleep(pause)
                continue
            _raise_unless_existing(error, describe)
        return


def _raise_unless_existing(error: ClientError, describe: Any) -> None:
    """Return if a resource could not be created because it exists; raise otherwise."""
    if error_code(error) == "ResourceLimitExceeded":
        raise refused_by_quota(error) from error
    # A dependency that is not readable after all retries is no refusal: the retry of the event
    # creates the resource.
    if error_code(error) != _REFUSED or _NOT_YET_READABLE.search(str(error)):
        raise error
    if _TAKEN.search(str(error)):  # it may itself not be readable yet
        return
    try:
        describe()
    except ClientError as absent:
        if error_code(absent) != _REFUSED:
            raise
        raise UserError("endpoint.refused", f"SageMaker refused it: {error}") from error


def refused_by_quota(error: Exception) -> UserError:
    """The error for a `ResourceLimitExceeded`: QuotaReached, or UserError where the region does
    not offer it."""
    if _NOT_OFFERED in str(error):
        return UserError("region.refused", f"SageMaker does not offer it here: {error}")
    return QuotaReached(error)


class Serving(StrEnum):
    """Whether an endpoint accepts invocations."""

    NOW = "now"
    SOON = "soon"  # it is being created: SageMaker sends an event once it is in service or failed
    NOT = "not"


def serving(sagemaker: "SageMakerClient", name: str) -> Serving:
    """Whether the endpoint serves, which it also does during an update.

    An update or its rollback keeps the old fleet in service until the new one is, maintenance
    does not change the configuration, and an endpoint whose rollback failed "is in service with a
    mix" of both (API reference, DescribeEndpoint, EndpointStatus; Developer Guide, "Deployment
    guardrails for updating models in production").
    """
    status = _status(sagemaker, name)
    if status == "Creating":
        return Serving.SOON
    return Serving.NOW if status in _SERVES else Serving.NOT


def remove_endpoint(sagemaker: "SageMakerClient", name: str) -> bool:
    """Delete the endpoint, configuration and model of one name, as far as they exist.

    False, with nothing deleted, where the endpoint cannot be deleted now: its configuration must
    not be deleted while it exists (API reference, DeleteEndpointConfig).
    """
    if not delete_endpoint(sagemaker, name):
        return False
    deletes: tuple[Callable[[], Any], ...] = (
        lambda: sagemaker.delete_endpoint_config(EndpointConfigName=name),
        lambda: sagemaker.delete_model(ModelName=name),
    )
    for delete in deletes:
        try:
            delete()
        except ClientError as error:
            if error_code(error) != _REFUSED:
                raise
    logger.info("endpoint removed", endpoint=name)
    return True


def delete_endpoint(sagemaker: "SageMakerClient", name: str) -> bool:
    """Delete the endpoint alone; False where SageMaker refuses that now.

    It refuses while an endpoint is Creating, Updating or SystemUpdating: "Cannot update in-progress
    endpoint" (aws/amazon-sagemaker-operator-for-k8s quotes both messages; API reference,
    DescribeEndpoint, for SystemUpdating).
    """
    try:
        sagemaker.delete_endpoint(EndpointName=name)
    except ClientError as error:
        if error_code(error) != _REFUSED:
            raise
        status = _status(sagemaker, name)
        if status not in (None, "Deleting"):
            logger.warning("endpoint cannot be removed yet", endpoint=name, status=status)
            return False
    return True


def _status(sagemaker: "SageMakerClient", name: str) -> str | None:
    """The endpoint's status; None if there is none of that name."""
    try:
        return sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"]
    except ClientError as error:
        if error_code(error) != _REFUSED:
            raise
        return None


def run_of_resource(
    sagemaker: "SageMakerClient", arn: str, tags: Mapping[str, str]
) -> RunKey | None:
    """The run in a resource's tags, or None. tags: of its event, which may lack them."""
    run = tagged_run(tags)
    if run is None:
        try:
            response = sagemaker.list_tags(ResourceArn=arn)
        except ClientError as error:
            logger.warning("tags cannot be read", arn=arn, error=str(error))
            return None
        run = tagged_run(tag_map(response["Tags"]))
    if run is None:
        logger.warning("resource belongs to no run", arn=arn)
    return run
