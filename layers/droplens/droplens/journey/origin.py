"""Where the container image and model archive of an endpoint may come from: this stack, SageMaker.
And where a network that runs without an endpoint may: from that archive.

They are read from descriptions of training jobs and from a run's item, which others than this
stack may be able to create or write. They decide what code runs under the serving role, or what a
function runs, so they are checked before anything is made of them.
"""

import re

from droplens.domain import layout
from droplens.domain.card import ModelObject
from droplens.domain.errors import UserError
from droplens.domain.run import RunKey
from droplens.journey.train import builtin_image
from droplens.runtime.settings import OriginSettings

# https://github.com/opencontainers/distribution-spec/blob/main/spec.md, "Pulling manifests"
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


def check_origin(image: str, model_data: str, run: RunKey, settings: OriginSettings) -> None:
    """Raise UserError unless both come from where this stack's own runs have them.

    image: any tag of the stack's trainer repository, or the region's built-in algorithm.
    model_data: an object below the run's own training prefix.
    """
    if not _is_ours(image, settings):
        raise UserError(
            "origin.image",
            f"run {run.run_id} names the container image {image}: it must be a tag of "
            f"{settings.trainer_repository}, or SageMaker's built-in image classification of "
            f"{settings.aws_region}. No endpoint is created from it",
        )
    prefix = f"s3://{settings.bucket}/{layout.training_prefix(run.classifier, run.run_id)}"
    if not model_data.startswith(prefix) or model_data.endswith("/"):
        raise UserError(
            "origin.model_data",
            f"run {run.run_id} names the model archive {model_data}: it must lie below {prefix}. "
            "No endpoint is created from it",
        )


def check_model_object(
    model: ModelObject | None, model_data: str, run: RunKey, settings: OriginSettings
) -> None:
    """Raise UserError unless the network lies beside the model archive; None needs no check."""
    if model is None:
        return
    folder = model_data.rpartition("/")[0]
    if f"s3://{settings.bucket}/{model.key}" != f"{folder}/{layout.MODEL_FILE}":
        raise UserError(
            "origin.model",
            f"run {run.run_id} names the network {model.key}: it must be {layout.MODEL_FILE} "
            f"beside {model_data}",
        )


def _is_ours(image: str, settings: OriginSettings) -> bool:
    repository, colon, tag = image.rpartition(":")
    if colon and repository == settings.trainer_repository and _TAG.fullmatch(tag):
        return True
    return image == builtin_image(settings.aws_region, settings.url_suffix)
