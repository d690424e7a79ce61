"""Settings of the functions, parsed from environment variables."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self


class SettingsError(Exception):
    """An environment variable that the template should set is missing or malformed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Base of the settings classes: each field is the environment variable in upper case."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read every field from `environment` (default: the process's).

        Raises SettingsError naming the variable.
        """
        source = os.environ if environment is None else environment
        values: dict[str, Any] = {}
        for field in fields(cls):
            variable = field.name.upper()
            if variable not in source:
                raise SettingsError(f"environment variable {variable} is not set")
            try:
                values[field.name] = _parse(field.type, source[variable])
            except ValueError as error:
                raise SettingsError(
                    f"environment variable {variable}={source[variable]!r}: {error}"
                ) from error
        return cls(**values)


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("must be true or false")
    return text == "true"


_PARSERS: dict[Any, Callable[[str], Any]] = {str: str, int: int, float: float, bool: _flag}


def _parse(kind: Any, text: str) -> Any:
    return _PARSERS[kind](text)


@dataclass(frozen=True, slots=True, kw_only=True)
class JourneySettings(Settings):
    """Settings of every step of a run."""

    bucket: str
    runs_table: str
    stack: str
    failure_topic: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildingSettings(Settings):
    """build_images: the bucket of the sources and the CodeBuild project that builds them."""

    bucket: str
    build_project: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PackingSettings(JourneySettings):
    """prepare_dataset: the Batch queue, and how a dataset is packed.

    image_size: side of the model's input, in pixels, or 0: training chooses within
    max_serving_time; trainer_image: "builtin" or "droplens"; packing_vcpus: of one job;
    packing_max_vcpus: of all concurrent jobs; pictures_per_packing_job: a larger dataset is packed
    by several jobs; max_dataset_gib: a larger dataset is refused; retrain_after_corrections: new
    corrections after which a run starts by itself, 0 for never.
    """

    job_queue: str
    job_definition: str
    image_size: int
    max_serving_time: float
    trainer_image: str
    packing_vcpus: int
    packing_max_vcpus: int
    pictures_per_packing_job: int
    max_dataset_gib: int
    retrain_after_corrections: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings(JourneySettings):
    """start_training: the trainer, its instance and its limits.

    trainer_image: "builtin" or "droplens"; recipe: of our own image, "probe", "finetune" or "auto";
    backbone: its network. trainer_image_uri: our own image, which serves the models of any recipe;
    finetune_image_uri: our image with PyTorch, and with timm for a network of timm.
    training_instance_type: "auto" is the first suitable type that the region offers;
    training_instance_count: instances that train together; learning_rate: 0 is the trainer's
    default; image_size: side of the model's input, in pixels, or 0: training chooses;
    max_serving_time: of what it chooses, in multiples of the time for 224 x 224 pixels;
    max_training_minutes: upper limit of the billed time; endpoint_mode: as deploy_endpoint will use
    it; kms_key_arn: the user's key, or "".
    """

    aws_region: str
    url_suffix: str
    sagemaker_role: str
    trainer_image: str
    trainer_image_uri: str
    finetune_image_uri: str
    recipe: str
    backbone: str
    training_instance_type: str
    training_instance_count: int
    use_spot: bool
    kms_key_arn: str
    epochs: int
    mini_batch_size: int
    learning_rate: float
    image_size: int
    max_serving_time: float
    max_training_minutes: int
    endpoint_mode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginSettings(JourneySettings):
    """Allowed origins of a run's container image and model archive.

    url_suffix: of the partition's domain names; trainer_repository: the stack's ECR repository of
    trainer images, without a tag.
    """

    aws_region: str
    url_suffix: str
    trainer_repository: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostingSettings(OriginSettings):
    """The endpoint of a candidate, or of a model that is restored.

    endpoint_mode: "auto", "serverless", "realtime" or "lambda"; endpoint_memory_mb: serverless
    only; kms_key_arn: the user's key, or "".
    """

    sagemaker_role: str
    kms_key_arn: str
    endpoint_mode: str
    endpoint_instance_type: str
    endpoint_memory_mb: int
    endpoint_max_concurrency: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSettings(HostingSettings):
    """deploy_endpoint: how a candidate is hosted, and the function that measures it."""

    promote_function: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionSettings(OriginSettings):
    """promote_endpoint: the requirements on a candidate, and what follows its promotion.

    minimum_accuracy: required of the lower end of the accuracy's two-sided interval with
    accuracy_confidence; confident_precision: required precision of confident predictions;
    candidate_precision: share of images whose candidates contain the right class;
    unfamiliar_share: share of the own images that may be called unfamiliar;
    approval: "automatic" or "manual"; keep_models: replaced models that keep their endpoints;
    reclassify: "all", "unsure" or "none" of the images that another model classified;
    code_version: of the layer.
    """

    picture_queue_url: str
    minimum_accuracy: float
    accuracy_confidence: float
    confident_precision: float
    candidate_precision: float
    unfamiliar_share: float
    approval: str
    keep_models: int
    reclassify: str
    code_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackSettings(HostingSettings):
    """rollback: how an endpoint is created again, and the function that follows up a switch."""

    promote_function: str
    reclassify: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumptionSettings(JourneySettings):
    """resume_runs: the functions that retry a stage, and the table of reviews."""

    reviews_table: str
    train_function: str
    deploy_function: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PausingSettings(Settings):
    """pause_endpoint: the hours without a call after which an endpoint is idle."""

    bucket: str
    stop_idle_endpoint_hours: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationSettings(Settings):
    """classify_image: its bucket, queue, tables and event bus, and its concurrency.

    endpoint_max_concurrency: concurrent calls that an endpoint accepts;
    classify_max_concurrency: concurrent invocations of classify_image, which share them;
    stop_idle_endpoint_hours: 0 where idle endpoints are not removed; result_schema: "v1" or "v2",
    the version of results and events; spot_check_share: of all images, to be reviewed;
    reviews_retention_days: after which reviews are deleted, 0: never.
    """

    bucket: str
    runs_table: str
    reviews_table: str
    event_bus: str
    picture_queue_url: str
    endpoint_max_concurrency: int
    classify_max_concurrency: int
    stop_idle_endpoint_hours: int
    result_schema: str
    spot_check_share: float
    reviews_retention_days: int

    @property
    def concurrent_calls(self) -> int:
        """The concurrent calls of the endpoint that one invocation may make."""
        return max(1, self.endpoint_max_concurrency // self.classify_max_concurrency)
