"""From a finished training to an endpoint of this run's own; and its removal."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from droplens import naming
from droplens.domain import choices
from droplens.errors import QuotaReached, UserError
from droplens.events import TrainingEnded, tag_list
from droplens.failures import Failures
from droplens.runs import RunKey, Runs, Stage
from droplens.settings import HostingSettings
from droplens.storage import error_code
from droplens.telemetry import logger
from droplens.training import DROPLENS, count_time
from droplens.volumes import volume_key

if TYPE_CHECKING:
    from types_boto3_sagemaker.client import SageMakerClient

# SageMaker answers so both for a name that is taken and for one that is not there.
_EXISTS_OR_MISSING = "ValidationException"


def deploy_endpoint(
    trained: TrainingEnded,
    run: RunKey,
    runs: Runs,
    sagemaker: "SageMakerClient",
    failures: Failures,
    settings: HostingSettings,
) -> str | None:
    """Create model, configuration and endpoint of a trained run; None if there is nothing to do."""
    if not runs.claim(run, Stage.DEPLOY):
        logger.info("run is past this stage, or another invocation has it")
        failures.notify_once(run)
        return None
    count_time(trained)
    with failures.recorded(run, Stage.DEPLOY):
        job = sagemaker.describe_training_job(TrainingJobName=trained.job_name)
        record = runs.get(run)
        facts = record.facts if record else {}
        name = naming.resource_name(settings.stack, run.classifier, run.run_id)
        artefact = Artefact(
            # A run that began before this was kept is served by what trained it.
            image=str(facts.get("image", job["AlgorithmSpecification"]["TrainingImage"])),
            model_data=job["ModelArtifacts"]["S3ModelArtifacts"],
            trainer=str(facts.get("trainer", DROPLENS)),
        )
        # Kept before the endpoint exists, so that it is found and removed whatever fails here.
        runs.note(run, endpoint=name, image=artefact.image, model_data=artefact.model_data)
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


def serves(sagemaker: "SageMakerClient", name: str) -> bool:
    """Whether the endpoint is in service."""
    try:
        return sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "InService"
    except ClientError as error:
        if error_code(error) != _EXISTS_OR_MISSING:
            raise
        return False


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


def remove_endpoint(sagemaker: "SageMakerClient", name: str) -> None:
    """Delete endpoint, configuration and model of one run; what is gone already is let be."""
    deletes: tuple[Callable[[], Any], ...] = (
        lambda: sagemaker.delete_endpoint(EndpointName=name),
        lambda: sagemaker.delete_endpoint_config(EndpointConfigName=name),
        lambda: sagemaker.delete_model(ModelName=name),
    )
    for delete in deletes:
        try:
            delete()
        except ClientError as error:
            if error_code(error) != _EXISTS_OR_MISSING:
                raise
    logger.info("endpoint removed", endpoint=name)


def create_once(create: Any, describe: Any, **request: Any) -> None:
    """Create a resource whose name is of our making; one that is there is this very one."""
    try:
        create(**request)
    except ClientError as error:
        if error_code(error) == "ResourceLimitExceeded":
            raise QuotaReached(error) from error
        if error_code(error) != _EXISTS_OR_MISSING:
            raise
        try:
            describe()
        except ClientError as absent:
            if error_code(absent) != _EXISTS_OR_MISSING:
                raise
            raise UserError("endpoint.refused", f"SageMaker refused it: {error}") from error
