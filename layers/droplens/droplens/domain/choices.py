"""Resolution of the parameters that may be "auto"; shared with `make preflight`."""

import re

from droplens.domain import regions
from droplens.domain.errors import UserError

AUTO = "auto"
# TrainerImage
BUILTIN = "builtin"
DROPLENS = "droplens"
# Recipe, of our own image; auto is both, one after the other, where fine_tunes() says so.
PROBE = "probe"
FINETUNE = "finetune"
# Backbone: the networks whose pretrained weights are in the trainer's image; others are timm's.
PACKAGED_BACKBONES = ("efficientnet-lite0", "efficientnet-lite2")
# EndpointMode
SERVERLESS = "serverless"
REALTIME = "realtime"
LAMBDA = "lambda"

# ImageSize: training chooses.
CHOSEN_BY_TRAINING = 0
# The pretrained network of the built-in algorithm exists for this size only; ours was pretrained
# with it, and the time that a chosen size may take is relative to its.
PRETRAINED_IMAGE_SIZE = 224

# For auto, in order of preference. GPUs by price among those with bfloat16, then T4, which lacks
# it; the last costs twice as much. The built-in algorithm's documentation has none newer than g5.
FINETUNE_CANDIDATES = ("ml.g5.xlarge", "ml.g6.xlarge", "ml.g4dn.xlarge", "ml.g6e.xlarge")
BUILTIN_CANDIDATES = ("ml.g5.xlarge", "ml.g4dn.xlarge")
CPU_CANDIDATES = ("ml.m5.xlarge", "ml.m6i.xlarge", "ml.m7i.xlarge")
ENDPOINT_CANDIDATES = ("ml.m5.large", "ml.m6i.large", "ml.m7i.large")

# Instances with a GPU that CUDA 13, as in our PyTorch, supports: no longer those of P2 and P3.
# https://docs.nvidia.com/cuda/archive/13.0.0/cuda-toolkit-release-notes/
FINETUNE_INSTANCES = re.compile(r"ml\.[gp][4-9]")
BUILTIN_INSTANCES = ("ml.p2.", "ml.p3.", "ml.g4dn.", "ml.g5.")
# Of all instances with a GPU.
GPU_INSTANCES = ("ml.g", "ml.p")


def fine_tunes(trainer: str, recipe: str, instance: str) -> bool:
    """Whether a training fine-tunes a network, and so takes the image with PyTorch.

    trainer: TrainerImage, instance: TrainingInstanceType. Recipe auto does where that names a GPU.
    """
    if trainer == BUILTIN:
        return False
    return recipe == FINETUNE or (recipe == AUTO and instance.startswith(GPU_INSTANCES))


def check_backbone(backbone: str, trainer: str, recipe: str, instance: str) -> None:
    """Raise UserError, naming the parameter, for a Backbone that the training does not use."""
    packaged = " and ".join(PACKAGED_BACKBONES)
    if trainer == BUILTIN:
        if backbone != PACKAGED_BACKBONES[0]:
            raise UserError(
                "training.backbone",
                "the built-in algorithm trains a network of its own: "
                f"Backbone={backbone} needs TrainerImage={DROPLENS}",
            )
    elif backbone not in PACKAGED_BACKBONES and not fine_tunes(trainer, recipe, instance):
        instead = "a TrainingInstanceType with a GPU" if recipe == AUTO else f"Recipe={FINETUNE}"
        raise UserError(
            "training.backbone",
            f"recipe {PROBE} has features of {packaged} only: Backbone={backbone} needs {instead}",
        )


def image_size(setting: int, trainer: str) -> int:
    """The side of the network's input in pixels, or CHOSEN_BY_TRAINING.

    setting: ImageSize, trainer: TrainerImage.
    """
    if trainer == BUILTIN and setting == CHOSEN_BY_TRAINING:
        return PRETRAINED_IMAGE_SIZE
    return setting


def training_instance(setting: str, trainer: str, recipe: str, region: str) -> str:
    """The training instance type. setting: TrainingInstanceType, trainer: TrainerImage.

    Raises UserError, naming the parameter, where the trainer does not support the type or where
    auto finds none that the region is known to offer.
    """
    builtin = trainer == BUILTIN
    finetune = fine_tunes(trainer, recipe, setting)
    if setting == AUTO:
        candidates = training_candidates(trainer, recipe)
        offered = regions.region(region).first_offered(candidates)
        if offered is None:
            raise UserError(
                "training.region",
                f"SageMaker is not known to offer any of {', '.join(candidates)} in {region} "
                f"(data of {regions.as_of()}): choose a TrainingInstanceType that it offers there"
                + (f", or Recipe={PROBE}, which needs no GPU" if finetune else ""),
            )
        return offered
    if builtin and not setting.startswith(BUILTIN_INSTANCES):
        raise UserError(
            "training.instance",
            f"the built-in algorithm does not train on {setting}: choose a TrainingInstanceType "
            "of the families p2, p3, g4dn or g5",
        )
    # It would also run on a CPU, but for hours that are billed, until MaxTrainingMinutes.
    if finetune and not FINETUNE_INSTANCES.match(setting):
        raise UserError(
            "training.instance",
            f"recipe {recipe} does not train on {setting}: choose a TrainingInstanceType of the "
            f"families g4dn, p4d or newer, or Recipe={PROBE}, which needs no GPU",
        )
    return setting


def training_instances(count: int, trainer: str, recipe: str) -> int:
    """The instances of a training. count: TrainingInstanceCount.

    Raises UserError, naming the parameter, where the trainer would not use more than one.
    """
    if count > 1 and trainer == DROPLENS and recipe != FINETUNE:
        raise UserError(
            "training.instance_count",
            f"recipe {recipe} trains on one instance: choose TrainingInstanceCount=1, or "
            f"Recipe={FINETUNE}",
        )
    return count


def training_candidates(trainer: str, recipe: str) -> tuple[str, ...]:
    """The instance types for auto, in order of preference."""
    if trainer == BUILTIN:
        return BUILTIN_CANDIDATES
    return FINETUNE_CANDIDATES if recipe == FINETUNE else CPU_CANDIDATES


def endpoint_mode(setting: str, trainer: str, region: str) -> str:
    """serverless, realtime or lambda. setting: EndpointMode, trainer: TrainerImage.

    auto is serverless where AWS's list names the region, else lambda, unless the model is too slow
    for that (journey/deploy.py); and realtime for the built-in algorithm, whose old container may
    not run serverless. An explicit serverless is used; raises UserError, naming the parameter,
    where the region is known not to offer it, and for lambda with the built-in algorithm, whose
    models ONNX Runtime does not read.
    """
    if setting == LAMBDA and trainer == BUILTIN:
        raise UserError(
            "endpoint.lambda",
            "the built-in algorithm's models are MXNet's, which Droplens does not run inside "
            f"Lambda: deploy with EndpointMode={REALTIME}, or TrainerImage={DROPLENS}",
        )
    offered = regions.region(region).serverless_inference
    if setting == AUTO:
        if trainer == BUILTIN:
            return REALTIME
        return SERVERLESS if offered else LAMBDA
    if setting == SERVERLESS and offered is False:
        raise UserError(
            "endpoint.region",
            f"SageMaker has no serverless inference in {region} (data of {regions.as_of()}): "
            f"deploy with EndpointMode={REALTIME}, which is an instance billed day and night",
        )
    return setting
