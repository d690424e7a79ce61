"""From a packed dataset to a SageMaker training job: the built-in algorithm or our own image."""

import json
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit
from botocore.exceptions import ClientError

from droplens.aws.errors import error_code
from droplens.aws.events import PackingEnded, TrainingEnded
from droplens.aws.s3 import Bucket
from droplens.aws.sagemaker import refused_by_quota
from droplens.aws.sagemaker_volumes import volume_gb, volume_key
from droplens.aws.tags import tag_list
from droplens.domain import choices, layout
from droplens.domain.errors import UserError
from droplens.domain.run import RunKey, Stage
from droplens.domain.text import one_line
from droplens.journey import pack
from droplens.journey.invocation import Invocation
from droplens.records.manifest import PackedDataset
from droplens.runtime.settings import TrainingSettings
from droplens.runtime.telemetry import count, follow, logger
from droplens.state.packed import read_packed

if TYPE_CHECKING:
    from types_boto3_sagemaker.client import SageMakerClient

BUILTIN = choices.BUILTIN
DROPLENS = choices.DROPLENS

# The pretrained network of the built-in algorithm exists for this size only.
BUILTIN_IMAGE_SIZE = 224
BUILTIN_LAYERS = 50
BUILTIN_LEARNING_RATE = 0.01

METRICS = [
    {"Name": "train:accuracy", "Regex": r"Epoch\[\d+\] Train-accuracy=([0-9.]+)"},
    {"Name": "validation:accuracy", "Regex": r"Epoch\[\d+\] Validation-accuracy=([0-9.]+)"},
]

# MaxWaitTimeInSeconds covers waiting for spot capacity and training together, and must not be less
# than MaxRuntimeInSeconds: a training may also wait for the time that it does not run.
SPOT_WAIT_SECONDS = 3600
CHECKPOINTS = "/opt/ml/checkpoints"
SCRATCH_GB = 10
# What a run's record keeps of a dataset's warnings.
_MOST_WARNINGS = 5
_LONGEST_WARNING = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """Creates the training jobs of packed runs."""

    bucket: Bucket
    sagemaker: "SageMakerClient"
    settings: TrainingSettings

    def start(self, packed: PackingEnded, invocation: Invocation) -> str | None:
        """Create the training job of a packed run; returns its name.

        None if only a shard is packed, or the run has its job, has ended, or waits for a quota.
        """
        follow(packed.run)
        if packed.step == pack.SHARD:
            logger.info("one shard is packed, not yet the whole dataset")
            return None
        return self._create(packed.run, invocation, resuming=False)

    def resume(self, run: RunKey, invocation: Invocation) -> str | None:
        """Create the next training job of a run that waits; returns as `start` does."""
        follow(run)
        return self._create(run, invocation, resuming=True)

    def _create(self, run: RunKey, invocation: Invocation, *, resuming: bool) -> str | None:
        runs, settings = invocation.runs, self.settings
        claimed = invocation.claim_try(run, Stage.TRAIN, settings.stack, resuming=resuming)
        if claimed is None:
            return None
        _, name = claimed
        with invocation.failures.recorded(run, Stage.TRAIN):
            dataset = read_packed(self.bucket, run)
            request = training_request(run, dataset, self.bucket.name, settings, name)
            # Recorded before the job exists: the next steps may get its events before this ends.
            runs.note(
                run,
                trainer=settings.trainer_image,
                image=serving_image(settings),
                image_size=settings.image_size,
                counts={"train": dataset.train, "validation": dataset.validation}
                | ({"test": dataset.test} if dataset.test else {}),
                classes=len(dataset.classes),
                **_warnings(dataset),
            )
            self._create_job(request)
            runs.finish(run, Stage.TRAIN, training_job=name)
            logger.info("training job created", training_job=name)
            return name
        return None

    def _create_job(self, request: dict[str, Any]) -> None:
        """Create the job unless it exists. Raises QuotaReached, and UserError for a refusal."""
        try:
            self.sagemaker.create_training_job(**request)
        except ClientError as error:
            if error_code(error) == "ResourceLimitExceeded":
                raise refused_by_quota(error) from error
            if error_code(error) == "ValidationException":
                raise UserError(
                    "training.refused", f"SageMaker refused the job: {error}"
                ) from error
            if error_code(error) != "ResourceInUse":  # the name is the run's: it is this very job
                raise


def _warnings(dataset: PackedDataset) -> dict[str, list[str]]:
    """The first of the packing's warnings, for the run's record; dataset.json has them all."""
    first = [one_line(warning, _LONGEST_WARNING) for warning in dataset.warnings[:_MOST_WARNINGS]]
    return {"dataset_warnings": first} if first else {}


def count_time(trained: TrainingEnded) -> None:
    """Count the share of its maximum run time that a training used, if it began, for an alarm."""
    if trained.time_used is not None:
        count("TrainingTimeUsed", 100 * trained.time_used, MetricUnit.Percent)


def training_request(
    run: RunKey, dataset: PackedDataset, bucket: str, settings: TrainingSettings, name: str
) -> dict[str, Any]:
    """The CreateTrainingJob request. Raises UserError where the settings cannot work."""
    builtin = settings.trainer_image == BUILTIN
    finetune = choices.fine_tunes(
        settings.trainer_image, settings.recipe, settings.training_instance_type
    )
    # Raises UserError for a network that the training would not use.
    choices.check_backbone(
        settings.backbone, settings.trainer_image, settings.recipe, settings.training_instance_type
    )
    instance = choices.training_instance(
        settings.training_instance_type,
        settings.trainer_image,
        settings.recipe,
        settings.aws_region,
    )
    instances = choices.training_instances(
        settings.training_instance_count, settings.trainer_image, settings.recipe
    )
    # Raises UserError for an endpoint that could not be created, before a training is billed.
    choices.endpoint_mode(settings.endpoint_mode, settings.trainer_image, settings.aws_region)
    algorithm: dict[str, Any] = {
        "TrainingImage": settings.finetune_image_uri if finetune else serving_image(settings),
        "TrainingInputMode": "File",
    }
    channels = [
        _channel("train", f"s3://{bucket}/{dataset.prefix}train/train.rec"),
        _channel("validation", f"s3://{bucket}/{dataset.prefix}validation/validation.rec"),
    ]
    if not builtin:  # SageMaker refuses metric definitions for its own algorithms
        algorithm["MetricDefinitions"] = METRICS
        channels.append(
            _channel("classes", f"s3://{bucket}/{dataset.prefix}classes.json", "application/json")
        )
    output = f"s3://{bucket}/{layout.training_prefix(run.classifier, run.run_id)}"
    max_seconds = 60 * settings.max_training_minutes
    stopping: dict[str, Any] = {"MaxRuntimeInSeconds": max_seconds}
    request: dict[str, Any] = {
        "TrainingJobName": name,
        "RoleArn": settings.sagemaker_role,
        "AlgorithmSpecification": algorithm,
        "HyperParameters": (
            _builtin_hyperparameters(dataset, settings)
            if builtin
            else _droplens_hyperparameters(dataset, settings, finetune=finetune)
        ),
        "InputDataConfig": channels,
        "OutputDataConfig": {"S3OutputPath": output},
        "ResourceConfig": {
            "InstanceType": instance,
            "InstanceCount": instances,
            # The records, and room to work. (What finetune decodes goes to disks that all of its
            # instances have of their own.)
            "VolumeSizeInGB": volume_gb(instance, SCRATCH_GB + 3 * dataset.bytes // 2**30),
        },
        "StoppingCondition": stopping,
        "Tags": tag_list(run),
    }
    # Our containers call one another at most, which isolation permits (CreateTrainingJob of the API
    # reference); the built-in one may fetch its pretrained network from S3.
    request["EnableNetworkIsolation"] = not builtin
    if settings.use_spot:
        request["EnableManagedSpotTraining"] = True
        if builtin or finetune:  # recipe probe has no steps that it could go on from
            request["CheckpointConfig"] = {
                "S3Uri": f"{output}checkpoints/",
                "LocalPath": CHECKPOINTS,
            }
        stopping["MaxWaitTimeInSeconds"] = max_seconds + SPOT_WAIT_SECONDS
    if settings.kms_key_arn:
        request["OutputDataConfig"]["KmsKeyId"] = settings.kms_key_arn
    if key := volume_key(settings.kms_key_arn, instance):
        request["ResourceConfig"]["VolumeKmsKeyId"] = key
    return request


def serving_image(settings: TrainingSettings) -> str:
    """The container image that serves the model: the built-in algorithm's, or our own."""
    builtin = settings.trainer_image == BUILTIN
    if not builtin:
        return settings.trainer_image_uri
    image = builtin_image(settings.aws_region, settings.url_suffix)
    if image is None:
        raise UserError(
            "training.region",
            "SageMaker's built-in image classification is not offered in "
            f"{settings.aws_region}: deploy with TrainerImage={DROPLENS}",
        )
    return image


def builtin_accounts() -> dict[str, str]:
    """The account that holds the built-in algorithm's image, by region."""
    text = resources.files("droplens").joinpath("builtin_registry.json").read_text("utf-8")
    return dict(json.loads(text))


def builtin_image(region: str, url_suffix: str) -> str | None:
    """The built-in algorithm's image in a region, or None where it is not offered."""
    account = builtin_accounts().get(region)
    return f"{account}.dkr.ecr.{region}.{url_suffix}/image-classification:1" if account else None


def _builtin_hyperparameters(dataset: PackedDataset, settings: TrainingSettings) -> dict[str, str]:
    if settings.image_size != BUILTIN_IMAGE_SIZE:
        raise UserError(
            "training.image_size",
            f"the built-in algorithm's pretrained network sees {BUILTIN_IMAGE_SIZE} pixels: "
            f"ImageSize={settings.image_size} needs TrainerImage={DROPLENS}",
        )
    steps = sorted({max(1, settings.epochs * 2 // 3), max(1, settings.epochs * 5 // 6)})
    together = settings.training_instance_count > 1
    return {
        **_common_hyperparameters(dataset, settings),
        # All instances wait for one another's gradients, as those of our recipe do.
        **({"kv_store": "dist_sync"} if together else {}),
        "num_layers": str(BUILTIN_LAYERS),
        "use_pretrained_model": "1",
        "epochs": str(settings.epochs),
        "optimizer": "sgd",
        "learning_rate": str(settings.learning_rate or BUILTIN_LEARNING_RATE),
        "lr_scheduler_factor": "0.1",
        "lr_scheduler_step": ",".join(map(str, steps)),
        "augmentation_type": "crop_color_transform",
        "early_stopping": "True",
    }


def _droplens_hyperparameters(
    dataset: PackedDataset, settings: TrainingSettings, *, finetune: bool
) -> dict[str, str]:
    values = {
        **_common_hyperparameters(dataset, settings),
        "recipe": settings.recipe,
        "backbone": settings.backbone,
    }
    if not finetune:
        return values
    # What is not set here is best left to the recipe (trainer/settings.py).
    values |= {"epochs": str(settings.epochs), "device": "gpu"}
    if settings.learning_rate:
        values["learning_rate"] = str(settings.learning_rate)
    return values


def _common_hyperparameters(dataset: PackedDataset, settings: TrainingSettings) -> dict[str, str]:
    return {
        "num_classes": str(len(dataset.classes)),
        "num_training_samples": str(dataset.train),
        "image_shape": f"3,{settings.image_size},{settings.image_size}",
        # The built-in algorithm fails when a batch is larger than the dataset.
        "mini_batch_size": str(min(settings.mini_batch_size, dataset.train)),
    }


def _channel(name: str, uri: str, content_type: str = "application/x-recordio") -> dict[str, Any]:
    return {
        "ChannelName": name,
        "ContentType": content_type,
        "CompressionType": "None",
        "DataSource": {
            "S3DataSource": {
                "S3DataType": "S3Prefix",
                "S3Uri": uri,
                "S3DataDistributionType": "FullyReplicated",
            }
        },
    }
