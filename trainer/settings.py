"""The settings of a training job: SageMaker's folders and validated hyperparameters.

The names, defaults and bounds are those of SageMaker's built-in image-classification algorithm
(https://docs.aws.amazon.com/sagemaker/latest/dg/IC-Hyperparameter.html); `recipe`,
`seed`, `backbone`, `device` and `serving_precision` are ours. SageMaker passes every value as a
string.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from trainer.nets.specification import LITE0, PACKAGED

PROBE, FINETUNE, AUTO = "probe", "finetune", "auto"
RECIPES = (PROBE, FINETUNE, AUTO)
# Names of the built-in algorithm that are accepted without effect: `finetune` always uses AdamW
# with a cosine schedule, in the precision that suits the device.
BUILTIN_ONLY = frozenset(
    {
        *("gamma", "kv_store", "lr_scheduler_factor", "lr_scheduler_step", "momentum"),
        *("num_layers", "optimizer", "precision_dtype", "resize"),
    }
)
# Of earlier versions: `compile` chose whether PyTorch compiles the network.
FORMER = frozenset({"compile"})
WITHOUT_EFFECT = BUILTIN_ONLY | FORMER
# The only ones with an effect on `probe`: it fits a linear head in closed form, so that settings of
# optimisation and augmentation have none.
OF_PROBE = frozenset(
    {
        *("num_classes", "num_training_samples", "recipe", "seed", "serving_precision"),
        *("backbone", "image_shape", "mini_batch_size", "multi_label"),
    }
)
# Defaults that replace those of the built-in algorithm, which are for SGD.
DEFAULTS: dict[str, dict[str, Any]] = {
    PROBE: {},
    FINETUNE: {"augmentation_type": "crop_color", "learning_rate": 5e-4, "weight_decay": 0.02},
}

# `auto` fine-tunes as `finetune` does.
DEFAULTS[AUTO] = DEFAULTS[FINETUNE]

MAX_CLASSES = 10_000
MIN_IMAGE_SIDE, MAX_IMAGE_SIDE = 32, 1024


class SettingsError(ValueError):
    """A hyperparameter is unknown, missing, malformed or out of bounds."""


# SageMaker shows this many characters of output/failure.
MAX_FAILURE_CHARACTERS = 1024


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders of SageMaker's container contract below `base`."""

    base: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        return cls(Path(environment.get("SAGEMAKER_BASE_DIR", "/opt/ml")))

    @property
    def hyperparameters(self) -> Path:
        return self.base / "input/config/hyperparameters.json"

    @property
    def resources(self) -> Path:
        return self.base / "input/config/resourceconfig.json"

    @property
    def model(self) -> Path:
        return self.base / "model"

    @property
    def checkpoints(self) -> Path:
        return self.base / "checkpoints"

    @property
    def failure(self) -> Path:
        return self.base / "output/failure"

    def report_failure(self, text: str) -> None:
        """Write the reason that SageMaker shows as the job's FailureReason."""
        self.failure.parent.mkdir(parents=True, exist_ok=True)
        self.failure.write_text(text[:MAX_FAILURE_CHARACTERS], "utf-8")

    def channel(self, name: str) -> Path:
        return self.base / "input/data" / name


def _integer(least: int, most: int | None = None, **default: Any) -> Any:
    metadata = {"parse": int, "kind": "a whole number", "bounds": (least, most)}
    return field(metadata=metadata, **default)


def _number(least: float, most: float | None = None, **default: Any) -> Any:
    metadata = {"parse": float, "kind": "a number", "bounds": (least, most)}
    return field(metadata=metadata, **default)


def _choice(*allowed: str, **default: Any) -> Any:
    return field(metadata={"parse": str, "allowed": allowed}, **default)


def _flag(**default: Any) -> Any:
    return field(metadata={"parse": _parse_flag, "kind": "0 or 1, True or False"}, **default)


def _parse_flag(text: str) -> bool:
    try:
        return {"0": False, "1": True, "false": False, "true": True}[text.lower()]
    except KeyError:
        raise ValueError(text) from None


def _parse_shape(text: str) -> tuple[int, int]:
    """Height and width of the built-in's "channels,height,width"."""
    channels, height, width = (int(part) for part in text.split(","))
    if channels != 3 or not all(MIN_IMAGE_SIDE <= n <= MAX_IMAGE_SIDE for n in (height, width)):
        raise ValueError(text)
    return height, width


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameters:
    """The validated hyperparameters of a training job.

    num_classes: classes in classes.json and in the records.
    num_training_samples: training records; a warning where the channel has another number.
    image_shape: height and width of the network's input in pixels.
    mini_batch_size: the most images in a pass through the network.
    seed: of all randomness of the run.
    backbone: a packaged network, or for `finetune` a name that timm knows.
    checkpoint_frequency: of `finetune`, epochs between checkpoints; None: by elapsed time.
    device: of `finetune`; auto: a GPU where there is one, gpu: SettingsError without one.
    learning_rate: of `finetune`, the maximum, of the last layer, for batches of 128 images.
    serving_precision: auto keeps an int8 variant where it is as accurate and faster, fp32 never.
    given: the names of the hyperparameters in the job, in alphabetical order.
    """

    num_classes: int = _integer(2, MAX_CLASSES)
    num_training_samples: int = _integer(1)
    recipe: str = _choice(*RECIPES, default=PROBE)
    backbone: str = field(metadata={"parse": str}, default=LITE0.name)
    device: str = _choice("auto", "gpu", default="auto")
    serving_precision: str = _choice("auto", "fp32", default="auto")
    seed: int = _integer(0, 2**32 - 1, default=0)
    image_shape: tuple[int, int] = field(
        default=(224, 224),
        metadata={
            "parse": _parse_shape,
            "kind": f"'3,height,width' with sides of {MIN_IMAGE_SIDE} to {MAX_IMAGE_SIDE} pixels",
        },
    )
    mini_batch_size: int = _integer(1, default=32)
    multi_label: bool = _flag(default=False)

    augmentation_type: str = _choice("crop", "crop_color", "crop_color_transform", default="crop")
    beta_1: float = _number(0, 1, default=0.9)
    beta_2: float = _number(0, 1, default=0.999)
    checkpoint_frequency: int | None = _integer(1, default=None)
    early_stopping: bool = _flag(default=False)
    early_stopping_min_epochs: int = _integer(1, default=10)
    early_stopping_patience: int = _integer(1, default=5)
    early_stopping_tolerance: float = _number(0, 1, default=0.0)
    epochs: int = _integer(1, default=30)
    eps: float = _number(0, 1, default=1e-8)
    learning_rate: float = _number(0, 1, default=0.1)
    top_k: int = _integer(2, default=2)
    use_pretrained_model: bool = _flag(default=True)
    use_weighted_loss: bool = _flag(default=False)
    weight_decay: float = _number(0, 1, default=1e-4)

    given: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.multi_label:
            raise SettingsError(
                "Hyperparameter multi_label=1 is not supported: a picture has one label."
            )
        if self.recipe == PROBE and self.backbone not in PACKAGED:
            raise SettingsError(
                f"Hyperparameter backbone={self.backbone!r} needs recipe={FINETUNE}: recipe "
                f"{PROBE} has features of {' and '.join(PACKAGED)} only."
            )

    @classmethod
    def from_strings(cls, values: Mapping[str, str]) -> Self:
        """Parse what SageMaker passes. Raises SettingsError, naming the hyperparameter."""
        known = {f.name: f for f in fields(cls) if f.metadata}
        unknown = sorted(set(values) - set(known) - WITHOUT_EFFECT)
        if unknown:
            raise SettingsError(f"Unknown hyperparameter: {', '.join(unknown)}.")
        for name, f in known.items():
            if f.default is MISSING and name not in values:
                raise SettingsError(f"Hyperparameter {name} is required.")
        parsed = {
            name: _parse(name, str(text), known[name])
            for name, text in values.items()
            if name not in WITHOUT_EFFECT
        }
        defaults = DEFAULTS[parsed.get("recipe", PROBE)]
        return cls(**(defaults | parsed), given=tuple(sorted(values)))

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read hyperparameters.json: one JSON object of strings."""
        try:
            values = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise SettingsError(f"There is no {path}: hyperparameters are required.") from None
        except ValueError as error:
            raise SettingsError(f"{path} is not JSON: {error}.") from None
        if not isinstance(values, dict):
            raise SettingsError(f"{path} must hold one JSON object.")
        return cls.from_strings(values)

    def without_effect(self) -> tuple[str, ...]:
        """The given hyperparameters without effect on the recipe, in alphabetical order."""
        return tuple(
            name
            for name in self.given
            if name in WITHOUT_EFFECT or (self.recipe == PROBE and name not in OF_PROBE)
        )

    def as_given(self) -> dict[str, Any]:
        """Name and validated value of everything that was given, but for WITHOUT_EFFECT."""
        return {name: getattr(self, name) for name in self.given if name not in WITHOUT_EFFECT}


def _parse(name: str, text: str, f: Any) -> Any:
    allowed = f.metadata.get("allowed")
    if allowed and text not in allowed:
        raise SettingsError(f"Hyperparameter {name}={text!r} must be one of {', '.join(allowed)}.")
    try:
        value = f.metadata["parse"](text)
    except ValueError:
        raise SettingsError(
            f"Hyperparameter {name}={text!r} must be {f.metadata['kind']}."
        ) from None
    least, most = f.metadata.get("bounds", (None, None))
    # In this form, a NaN is out of bounds too.
    if least is not None and not (least <= value and (most is None or value <= most)):
        upper = "" if most is None else f" and at most {most}"
        raise SettingsError(f"Hyperparameter {name}={text} must be at least {least}{upper}.")
    return value
