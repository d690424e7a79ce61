"""Run a training job under the SageMaker container contract.

    SAGEMAKER_BASE_DIR=/opt/ml python -m trainer train

Reads input/config/hyperparameters.json and the channels train, validation (RecordIO) and classes
(classes.json); trains by a recipe of trainer.recipes; writes the artefact to model/. The reason of
a failure goes to output/failure, which SageMaker shows as the job's FailureReason: one sentence
where the user can correct it.
"""

import hashlib
import importlib.util
import logging
import os
import platform
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter
from types import FrameType
from typing import Any, NoReturn

import numpy as np
import onnx

from droplens.inference.network import Network
from trainer.artefact import (
    CLASSES_FILE,
    INT8_FILE,
    MODEL_FILE,
    SUSPECTS_FILE,
    TRAINING_FILE,
    read_classes,
    served,
    write_json,
    write_json_lines,
)
from trainer.cluster import Cluster, PeerLost
from trainer.data.features import Channel, DatasetError
from trainer.data.preprocess import Resize
from trainer.job import Job, Outcome, Timings
from trainer.nets.convert import backbone_file
from trainer.nets.int8 import Variant, int8_variant
from trainer.nets.pretrained import origin
from trainer.nets.specification import LITE0, PACKAGED
from trainer.recipes.auto import auto
from trainer.recipes.input_size import Choice, choose
from trainer.recipes.probe import probe
from trainer.settings import (
    AUTO,
    CHOSEN_BY_TRAINING,
    FINETUNE,
    PROBE,
    Folders,
    Hyperparameters,
    SettingsError,
)
from trainer.supervise import OUT_OF_MEMORY

log = logging.getLogger(__name__)

WEIGHTS_VARIABLE = "DROPLENS_WEIGHTS"
DEFAULT_WEIGHTS = "/opt/program/weights"
TIMED_PREDICTIONS = 15
PACKAGES = ("numpy", "onnx", "onnxruntime", "pillow", "scipy")


def main() -> int:
    """Train and return the exit code: 0, or 1 with the reason in output/failure."""
    signal.signal(signal.SIGTERM, _stop)
    folders = Folders.from_environment()
    try:
        train(folders)
    except (SettingsError, DatasetError, PeerLost) as error:
        log.error("%s", error)  # noqa: TRY400 - a sentence for the user, without a traceback
        folders.report_failure(str(error))
        return 1
    except Exception as error:
        if detail := _exhausted_memory(error):
            reason = OUT_OF_MEMORY.format(detail=detail)
            log.exception("%s", reason)
            folders.report_failure(reason)
            return 1
        log.exception("training failed")
        sentence = f"Training failed by a fault of the trainer: {type(error).__name__}: {error}."
        folders.report_failure(f"{sentence}\n{traceback.format_exc()}")
        return 1
    return 0


def train(folders: Folders) -> None:
    """Train on the channels in `folders` and write the artefact.

    Raises SettingsError and DatasetError where the user can correct the cause, and PeerLost.
    """
    job = open_job(folders)
    kept, outcome = _trained(job)
    if outcome is None:
        log.info("another instance writes the model")
        return
    with job.timings.step("int8"):
        variant = int8_variant(kept, outcome.model)
    folders.model.mkdir(parents=True, exist_ok=True)
    write_json(folders.model / CLASSES_FILE, job.classes)
    job.resize.write(folders.model)
    # Left from an earlier job, they would be taken for this job's.
    (folders.model / INT8_FILE).unlink(missing_ok=True)
    (folders.model / SUSPECTS_FILE).unlink(missing_ok=True)
    if outcome.suspects is not None:
        write_json_lines(folders.model / SUSPECTS_FILE, map(asdict, outcome.suspects))
    if variant.model is not None:
        onnx.save(variant.model, os.fspath(folders.model / INT8_FILE))
    onnx.save(outcome.model, os.fspath(folders.model / MODEL_FILE))
    with job.timings.step("timing"):
        took = prediction_ms(folders.model, job.resize)
    write_json(folders.model / TRAINING_FILE, _report(kept, outcome, variant, took))
    log.info("trained in %.1f s", sum(job.timings.seconds.values()))


def open_job(folders: Folders) -> Job:
    """The settings and the channels, checked. Raises SettingsError and DatasetError."""
    timings = Timings()
    settings = Hyperparameters.from_file(folders.hyperparameters)
    if ignored := settings.without_effect():
        log.warning("without effect on recipe=%s: %s", settings.recipe, ", ".join(ignored))
    with timings.step("read"):
        classes = _read_classes(folders, settings)
        training, validation = (_open(name, folders, classes) for name in ("train", "validation"))
        dataset = {channel.name: _digest(channel.path) for channel in (training, validation)}
    _check(training, validation, classes, settings)
    weights = Path(os.environ.get(WEIGHTS_VARIABLE, DEFAULT_WEIGHTS))
    size = Choice(*settings.image_shape, 0, ())
    if settings.image_shape == CHOSEN_BY_TRAINING:
        with timings.step("input size"):
            size = _chosen_size(settings, training, weights)
        settings = replace(settings, image_shape=(size.height, size.width))
    return Job(
        folders=folders,
        settings=settings,
        classes=classes,
        training=training,
        validation=validation,
        size=size,
        weights=weights,
        dataset=dataset,
        timings=timings,
    )


def _chosen_size(settings: Hyperparameters, training: Channel, weights: Path) -> Choice:
    # Only packaged networks run without PyTorch; Lite0 stands for all others.
    backbone = settings.backbone if settings.backbone in PACKAGED else LITE0.name
    return choose(
        weights / backbone_file(backbone),
        training,
        aspect_ratio=settings.aspect_ratio,
        max_serving_time=settings.max_serving_time,
        batch_size=settings.mini_batch_size,
        seed=settings.seed,
    )


def _trained(job: Job) -> tuple[Job, Outcome | None]:
    """The outcome, and the job of the recipe that it is of; None where another instance has it."""
    settings = job.settings
    instances = len(Cluster.read(job.folders.resources).hosts)
    if settings.recipe != FINETUNE and instances > 1:
        raise SettingsError(
            f"Hyperparameter recipe={settings.recipe} trains on one instance: {instances - 1} more "
            "would be paid for without effect."
        )
    if settings.recipe == PROBE:
        return job, probe(job)
    finetune = _finetune()
    if settings.recipe == AUTO:
        return auto(job, probe, finetune)
    if finetune is None:
        raise SettingsError(
            f"Hyperparameter recipe={settings.recipe} needs PyTorch, which this image was built "
            "without."
        )
    return job, finetune(job)


def _finetune() -> Callable[[Job], Outcome | None] | None:
    """None without PyTorch, which takes seconds to import."""
    if importlib.util.find_spec("torch") is None:
        return None
    from trainer.recipes.finetune.run import finetune

    return finetune


def _read_classes(folders: Folders, settings: Hyperparameters) -> list[str]:
    path = folders.channel("classes") / CLASSES_FILE
    try:
        classes = read_classes(path)
    except FileNotFoundError:
        raise DatasetError(f"Channel classes must hold classes.json, there is no {path}.") from None
    except ValueError as error:
        raise DatasetError(f"Channel classes: {error}.") from None
    if len(classes) != settings.num_classes:
        raise DatasetError(
            f"Hyperparameter num_classes={settings.num_classes}, but classes.json names "
            f"{len(classes)} classes."
        )
    return classes


def _open(name: str, folders: Folders, classes: list[str]) -> Channel:
    return Channel.open(name, folders.channel(name), len(classes))


def _check(
    training: Channel, validation: Channel, classes: list[str], settings: Hyperparameters
) -> None:
    """Raise DatasetError where a class has no training record; warn of the rest."""
    counts = np.bincount(training.labels, minlength=len(classes))
    if missing := [name for name, count in zip(classes, counts, strict=True) if not count]:
        raise DatasetError(
            f"{training.path.name} holds no picture of {len(missing)} of {len(classes)} classes: "
            f"{', '.join(missing[:5])}{', …' if len(missing) > 5 else ''}."
        )
    if settings.num_training_samples != len(training):
        log.warning(
            "num_training_samples=%d, but %s holds %d records: all are used",
            settings.num_training_samples,
            training.path.name,
            len(training),
        )
    if not len(validation):
        log.warning("%s is empty: no validation accuracy", validation.path.name)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def prediction_ms(model: Path, resize: Resize) -> float:
    """The median time in milliseconds in which one core predicts an image of random pixels."""
    network = Network.load(served(model), 1, (resize.height, resize.width))
    pixels = np.random.default_rng(0).integers(0, 256, (resize.height, resize.width, 3), np.uint8)
    seconds = []
    for _ in range(TIMED_PREDICTIONS):
        began = perf_counter()
        network.predict(pixels)
        seconds.append(perf_counter() - began)
    return round(1000 * median(seconds), 2)


def _report(job: Job, outcome: Outcome, variant: Variant, took: float) -> dict[str, Any]:
    """The content of training.json. took: milliseconds of a prediction, by one core."""
    settings = job.settings
    counts = {
        channel.name: np.bincount(channel.labels, minlength=len(job.classes)).tolist()
        for channel in (job.training, job.validation)
    }
    return {
        "schema": "droplens.training.v1",
        "recipe": settings.recipe,
        "hyperparameters": settings.as_given(),
        "without_effect": settings.without_effect(),
        "backbone": _backbone(job),
        "dataset_sha256": job.dataset,
        "records": {name: sum(count) for name, count in counts.items()},
        "records_per_class": [
            {"name": name, "train": train, "validation": validation}
            for name, train, validation in zip(
                job.classes, counts["train"], counts["validation"], strict=True
            )
        ],
        "input_size": job.size.report(),
        "accuracy": outcome.accuracies,
        **outcome.report,
        "int8": variant.report,
        "prediction_ms": took,
        "seconds": job.timings.seconds,
        "peak_memory_mb": _peak_memory_mb(),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
    }


def _backbone(job: Job) -> dict[str, Any]:
    """The network's name, and where its pretrained weights come from; null where it had none."""
    settings = job.settings
    pretrained = settings.recipe == PROBE or settings.use_pretrained_model
    found = origin(settings.backbone, job.weights) if pretrained else None
    return {"name": settings.backbone, "source": None, "sha256": None} | (
        asdict(found) if found else {}
    )


def _peak_memory_mb() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))


def _exhausted_memory(error: Exception) -> str | None:
    """Which memory was exhausted, if `error` means that; else None."""
    if isinstance(error, MemoryError):
        return "the process was given no more"
    if isinstance(error, BrokenProcessPool):
        return "a process that decodes pictures was killed"
    if type(error).__name__ == "OutOfMemoryError":  # PyTorch's, which may not be installed
        return "the GPU's own; a lower MiniBatchSize needs less of it"
    return None


def _stop(signum: int, _: FrameType | None) -> NoReturn:
    """End without a model: SIGTERM means that the job is stopped or its spot instance reclaimed."""
    signal.signal(signum, signal.SIG_IGN)  # a second signal would interrupt the cleanup
    log.warning("stopped by signal %d before the end of training", signum)
    raise SystemExit(128 + signum)
