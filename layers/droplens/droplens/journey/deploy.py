"""From a finished training to an endpoint of this run's own, or a model that needs none."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from droplens.aws.events import TrainingEnded, deployed_event
from droplens.aws.s3 import Bucket
from droplens.aws.sagemaker import create_once, run_of_resource
from droplens.aws.sagemaker_volumes import volume_key
from droplens.aws.tags import tag_list
from droplens.domain import choices
from droplens.domain.errors import UserError
from droplens.domain.run import RunKey, Stage
from droplens.journey.invocation import Invocation
from droplens.journey.model_object import TooSlow, publish_model
from droplens.journey.origin import check_origin
from droplens.journey.train import DROPLENS, count_time
from droplens.runtime.settings import HostingSettings
from droplens.runtime.telemetry import follow, logger

if TYPE_CHECKING:
    from types_boto3_sagemaker.client import SageMakerClient


# Of one prediction by one core, as training measured it. With EndpointMode=auto a slower model gets
# an endpoint: ten pictures of a batch would take more of classify_image's time than an answer may.
MOST_MS_OF_AUTO = 500.0


@dataclass(frozen=True, slots=True)
class Artefact:
    """What an endpoint is created from.

    image: the container image's address; model_data: the model archive's S3 URI; trainer: "builtin"
    or "droplens".
    """

    image: str
    model_data: str
    trainer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Creates the endpoints of trained runs, or publishes models that are run inside Lambda."""

    sagemaker: "SageMakerClient"
    bucket: Bucket
    settings: HostingSettings

    def start(
        self, trained: TrainingEnded, invocation: Invocation
    ) -> tuple[RunKey | None, str | None]:
        """Create model, configuration and endpoint of the run that a training job belongs to.

        Returns the run, None where the job belongs to none, and the endpoint's name: another one at
        each try, None if there is nothing to do or the run has to wait.
        """
        run = run_of_resource(self.sagemaker, trained.job_arn, trained.tags)
        if run is None:
            return None, None
        follow(run)
        record = invocation.runs.get(run)
        own = trained.job_name if record is None else record.training_job
        if own not in ("", trained.job_name):
            logger.warning("a job that is not the run's own is complete", job=trained.job_name)
            return run, None
        count_time(trained)  # the alarm takes the maximum: a repeated event does no harm
        return run, self._create(run, trained.job_name, invocation, resuming=False)

    def resume(self, run: RunKey, invocation: Invocation) -> str | None:
        """Create the endpoint of a run that waits, from its own training job; returns its name.

        None if there is nothing to do or the run has to wait again.
        """
        follow(run)
        return self._create(run, None, invocation, resuming=True)

    def _create(
        self, run: RunKey, training_job: str | None, invocation: Invocation, *, resuming: bool
    ) -> str | None:
        """training_job: None for the one on record."""
        runs = invocation.runs
        claimed = invocation.claim_try(run, Stage.DEPLOY, self.settings.stack, resuming=resuming)
        if claimed is None:
            return None
        record, name = claimed
        with invocation.failures.recorded(run, Stage.DEPLOY):
            job = self.sagemaker.describe_training_job(
                TrainingJobName=training_job or record.training_job
            )
            artefact = Artefact(
                # An earlier version did not record it: the image that trained the model serves it.
                image=record.image or job["AlgorithmSpecification"]["TrainingImage"],
                model_data=job["ModelArtifacts"]["S3ModelArtifacts"],
                trainer=record.trainer or DROPLENS,
            )
            check_origin(artefact.image, artefact.model_data, run, self.settings)
            # An earlier try may have been in another mode.
            runs.note(run, image=artefact.image, model_data=artefact.model_data, model=None)
            self._host(name, artefact, run, invocation)
            metrics = {
                metric["MetricName"]: metric["Value"]
                for metric in job.get("FinalMetricDataList", [])
            }
            runs.finish(run, Stage.DEPLOY, training_metrics=metrics)
            return name
        return None

    def _host(self, name: str, artefact: Artefact, run: RunKey, invocation: Invocation) -> None:
        settings = self.settings
        mode = choices.endpoint_mode(settings.endpoint_mode, artefact.trainer, settings.aws_region)
        if mode == choices.LAMBDA:
            auto = settings.endpoint_mode == choices.AUTO
            try:
                model = publish_model(
                    self.bucket, artefact.model_data, MOST_MS_OF_AUTO if auto else math.inf
                )
            except (TooSlow, UserError) as unfit:
                if not auto:
                    raise
                logger.warning("model is not run inside Lambda", reason=str(unfit))
            else:
                invocation.runs.note(run, model=model.to_dict())
                invocation.invoke(deployed_event(run))
                return
        create_endpoint(self.sagemaker, name, artefact, run, settings)
        logger.info("endpoint is being created", endpoint=name)


def create_endpoint(
    sagemaker: "SageMakerClient",
    name: str,
    artefact: Artefact,
    run: RunKey,
    settings: HostingSettings,
) -> None:
    """Create model, configuration and endpoint under one name; those that exist stay."""
    tags = tag_list(run)
    variant = production_variant(name, artefact.trainer, settings)
    # A serverless endpoint has no instance, and so no volume to encrypt.
    instance = variant.get("InstanceType")
    key = volume_key(settings.kms_key_arn, instance) if instance else None
    # Serverless endpoints do not offer it (SageMaker Developer Guide, "Serverless Inference",
    # feature exclusions), and it is not known which services the built-in container calls.
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
    """The endpoint's only variant: serverless, or on one instance."""
    setting = settings.endpoint_mode
    # Of a run that was deployed in another mode, a rollback makes the endpoint again.
    setting = choices.AUTO if setting == choices.LAMBDA else setting
    mode = choices.endpoint_mode(setting, trainer, settings.aws_region)
    if mode == choices.LAMBDA:
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
