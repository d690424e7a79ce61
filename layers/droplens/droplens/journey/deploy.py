"""From a finished training to an endpoint of this run's own; and its removal."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from droplens.aws.events import TrainingEnded, tag_list
from droplens.aws.s3 import error_code
from droplens.aws.sagemaker import volume_key
from droplens.domain import choices, naming
from droplens.domain.errors import UserError
from droplens.journey.failures import Failures
from droplens.journey.origin import check_origin
from droplens.journey.train import DROPLENS, count_time
from droplens.journey.waiting import name_of_try, refused_by_quota
from droplens.runtime.settings import HostingSettings
from droplens.runtime.telemetry import logger
from droplens.state.runs import RunKey, Runs, Stage

if TYPE_CHECKING:
    from types_boto3_sagemaker.client import SageMakerClient

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


def deploy_endpoint(
    trained: TrainingEnded,
    run: RunKey,
    runs: Runs,
    sagemaker: "SageMakerClient",
    failures: Failures,
    settings: HostingSettings,
) -> str | None:
    """Create model, configuration and endpoint of a trained run; None if there is nothing to do."""
    record = runs.get(run)
    own = trained.job_name if record is None else record.facts.get("training_job")
    if own not in (None, trained.job_name):
        logger.warning("a job that is not the run's own is complete", job=trained.job_name)
        return None
    count_time(trained)  # the alarm takes the maximum: a repeated event does no harm
    return host(trained.job_name, run, runs, sagemaker, failures, settings)


def host(
    training_job: str | None,
    run: RunKey,
    runs: Runs,
    sagemaker: "SageMakerClient",
    failures: Failures,
    settings: HostingSettings,
    *,
    resuming: bool = False,
) -> str | None:
    """Create model, configuration and endpoint from what `training_job` has trained.

    training_job: None for the run's own, of one that is `resuming`. Returns the endpoint's name,
    which is another one at each try, or None if there is nothing to do or the run has to wait.
    """
    record = runs.get(run)
    name = None
    if record is not None:
        mark = name_of_try(record, Stage.DEPLOY)
        name = naming.resource_name(settings.stack, run.classifier, mark)
    # Kept before the endpoint exists, so that it is found and removed whatever fails here.
    if name is None or not runs.claim(run, Stage.DEPLOY, resuming=resuming, endpoint=name):
        logger.info("stage is done, or claimed by another invocation")
        failures.notify_once(run)
        return None
    with failures.recorded(run, Stage.DEPLOY):
        facts = record.facts if record else {}
        job = sagemaker.describe_training_job(
            TrainingJobName=training_job or str(facts["training_job"])
        )
        artefact = Artefact(
            # A run that began before this was kept is served by what trained it.
            image=str(facts.get("image", job["AlgorithmSpecification"]["TrainingImage"])),
            model_data=job["ModelArtifacts"]["S3ModelArtifacts"],
            trainer=str(facts.get("trainer", DROPLENS)),
        )
        check_origin(artefact.image, artefact.model_data, run, settings)
        runs.note(run, image=artefact.image, model_data=artefact.model_data)
        create_endpoint(sagemaker, name, artefact, run, settings)
        metrics = {
            metric["MetricName"]: metric["Value"] for metric in job.get("FinalMetricDataList", [])
        }
        runs.finish(run, Stage.DEPLOY, training_metrics=metrics)
        logger.info("endpoint is being created", endpoint=name)
        return name
    return None


@dataclass(frozen=True, slots=True)
class Artefact:
    """What an endpoint is made from: image's address, model archive's, and who trained it."""

    image: str
    model_data: str
    trainer: str


def create_endpoint(
    sagemaker: "SageMakerClient",
    name: str,
    artefact: Artefact,
    run: RunKey,
    settings: HostingSettings,
) -> None:
    """Create model, configuration and endpoint under one name; those that are there may stay."""
    tags = tag_list(run)
    variant = production_variant(name, artefact.trainer, settings)
    # A serverless endpoint has no instance whose volume a key could be for.
    instance = variant.get("InstanceType")
    key = volume_key(settings.kms_key_arn, instance) if instance else None
    # Serverless endpoints do not offer it (SageMaker Developer Guide, "Serverless Inference",
    # feature exclusions), and what the built-in container calls is not known.
    isolated = artefact.trainer == DROPLENS and "ServerlessConfig" not in variant
    create_once(
        sagemaker.create_model,
        lambda: sagemaker.describe_model(ModelName=name),
        ModelName=name,
        ExecutionRoleArn=settings.sagemaker_role,
        PrimaryContainer={"Image": artefact.image, "ModelDataUrl": artefact.model_data},
        EnableNetworkIsolation=isolated,
        Tags=tags,
    )
    create_once(
        sagemaker.create_endpoint_config,
        lambda: sagemaker.describe_endpoint_config(EndpointConfigName=name),
        EndpointConfigName=name,
        ProductionVariants=[variant],
        Tags=tags,
        **({"KmsKeyId": key} if key else {}),
    )
    create_once(
        sagemaker.create_endpoint,
        lambda: sagemaker.describe_endpoint(EndpointName=name),
        EndpointName=name,
        EndpointConfigName=name,
        Tags=tags,
    )


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


def production_variant(name: str, trainer: str, settings: HostingSettings) -> dict[str, Any]:
    """How the endpoint runs: without servers where the image can, or on one instance."""
    mode = choices.endpoint_mode(settings.endpoint_mode, trainer, settings.aws_region)
    if mode == choices.REALTIME and trainer == DROPLENS and settings.endpoint_mode == choices.AUTO:
        logger.warning(
            "serverless inference is not known to be offered here: the endpoint is an instance, "
            "billed day and night",
            region=settings.aws_region,
        )
    variant: dict[str, Any] = {"VariantName": "main", "ModelName": name}
    if mode == choices.SERVERLESS:
        variant["ServerlessConfig"] = {
            "MemorySizeInMB": settings.endpoint_memory_mb,
            "MaxConcurrency": settings.endpoint_max_concurrency,
        }
    else:
        variant["InstanceType"] = settings.endpoint_instance_type
        variant["InitialInstanceCount"] = 1
    return variant


def dispose(sagemaker: "SageMakerClient", runs: Runs, run: RunKey, name: str) -> bool:
    """Remove an endpoint of a run that nobody needs any more.

    False where SageMaker does not take that yet. It stays in the run's record until it is done: by
    the event of its end, or by the next look of resume_runs.
    """
    runs.to_be_removed(run, name)
    if not remove_endpoint(sagemaker, name):
        return False
    runs.is_removed(run, name)
    return True


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
