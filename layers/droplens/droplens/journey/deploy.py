"""From a finished training to an endpoint of this run's own; and its removal."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from droplens.aws.events import TrainingEnded
from droplens.aws.sagemaker import create_once, remove_endpoint
from droplens.aws.sagemaker_volumes import volume_key
from droplens.aws.tags import tag_list
from droplens.domain import choices, naming
from droplens.domain.run import RunKey, Stage
from droplens.journey.failures import Failures
from droplens.journey.origin import check_origin
from droplens.journey.train import DROPLENS, count_time
from droplens.journey.waiting import name_of_try
from droplens.runtime.settings import HostingSettings
from droplens.runtime.telemetry import logger
from droplens.state.runs import Runs

if TYPE_CHECKING:
    from types_boto3_sagemaker.client import SageMakerClient


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
    own = trained.job_name if record is None else record.training_job
    if own not in ("", trained.job_name):
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
        job = sagemaker.describe_training_job(
            TrainingJobName=training_job or (record.training_job if record else "")
        )
        artefact = Artefact(
            # A run that began before this was kept is served by what trained it.
            image=(record and record.image) or job["AlgorithmSpecification"]["TrainingImage"],
            model_data=job["ModelArtifacts"]["S3ModelArtifacts"],
            trainer=(record and record.trainer) or DROPLENS,
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
