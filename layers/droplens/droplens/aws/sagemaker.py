"""SageMaker's endpoints and their parts: created once, looked at, removed; and whose they are."""

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
# SageMaker answers so for a name that is taken, for one that is not there, and for an endpoint that
# is at work; what it says tells them apart.
_REFUSED = "ValidationException"
# Of a model or configuration that was created a moment ago: SageMaker reads it from a store that is
# eventually consistent, and asks for retries (API reference, CreateEndpoint).
_NOT_YET_READABLE = re.compile(r"Could not find (model|endpoint configuration) \"")
_TAKEN = re.compile(r"Cannot create already existing|already exists")
_SERVES = {"InService", "Updating", "SystemUpdating", "RollingBack", "UpdateRollbackFailed"}
# Half a minute in all, within the minute that the functions have.
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


def create_once(create: Any, describe: Any, **request: Any) -> None:
    """Create a resource whose name is of our making; one that is there is this very one.

    A resource that it needs and that is not readable yet is waited for. Raises QuotaReached, and
    UserError for what SageMaker refuses.
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
            _judge(error, describe)
        return


def _judge(error: ClientError, describe: Any) -> None:
    """Return if a resource could not be created because it is there; raise otherwise."""
    if error_code(error) == "ResourceLimitExceeded":
        raise refused_by_quota(error) from error
    # What was made a moment ago and is gone again is no refusal: the next invocation makes it.
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
    """What a `ResourceLimitExceeded` of SageMaker means: QuotaReached, or an end where waiting
    cannot help."""
    if _NOT_OFFERED in str(error):
        return UserError("region.refused", f"SageMaker does not offer it here: {error}")
    return QuotaReached(error)


class Serving(StrEnum):
    """Whether pictures can be sent to an endpoint."""

    NOW = "now"
    SOON = "soon"  # it is being made: SageMaker sends an event once it serves, or has failed
    NOT = "not"


def serving(sagemaker: "SageMakerClient", name: str) -> Serving:
    """Whether the endpoint serves; one that SageMaker is at work on, for one, does all the while.

    An update or its rollback leaves the old fleet in traffic until the new one is, maintenance
    changes nothing that was asked for, and an endpoint whose rollback failed "is in service with a
    mix" of both (API reference, DescribeEndpoint, EndpointStatus; Developer Guide, "Deployment
    guardrails for updating models in production").
    """
    status = _status(sagemaker, name)
    if status == "Creating":
        return Serving.SOON
    return Serving.NOW if status in _SERVES else Serving.NOT


def remove_endpoint(sagemaker: "SageMakerClient", name: str) -> bool:
    """Delete endpoint, configuration and model of one name; what is gone already is let be.

    False, with all three as they were, where the endpoint cannot be deleted now: its configuration
    must not be deleted under it (API reference, DeleteEndpointConfig).
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

    It does while an endpoint is Creating, Updating or SystemUpdating: "Cannot update in-progress
    endpoint" (aws/amazon-sagemaker-operator-for-k8s has both refusals' words; API reference,
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
    """The run that a SageMaker resource is tagged with; its event may come without the tags."""
    run = tagged_run(tags)
    if run is None:
        try:
            answer = sagemaker.list_tags(ResourceArn=arn)
        except ClientError as error:
            logger.warning("tags cannot be read", arn=arn, error=str(error))
            return None
        run = tagged_run(tag_map(answer["Tags"]))
    if run is None:
        logger.warning("resource belongs to no run", arn=arn)
    return run
