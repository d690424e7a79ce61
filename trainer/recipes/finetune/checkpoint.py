"""The checkpoint of a training, from which a job that was interrupted continues."""

import hashlib
import json
import logging
import os
import pickle
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from trainer.job import Job
from trainer.recipes.finetune.earlier import earlier_size

log = logging.getLogger(__name__)

CHECKPOINT_FILE = "checkpoint.pt"
# Without `checkpoint_frequency`, so much time of training is lost at most, and one more epoch.
CHECKPOINT_SECONDS = 60.0

State = dict[str, Any]


class Checkpoint:
    """/opt/ml/checkpoints/checkpoint.pt, replaced atomically."""

    def __init__(self, job: Job) -> None:
        self._path: Path = job.folders.checkpoints / CHECKPOINT_FILE
        self._fingerprint = _fingerprint(job)
        self._frequency = job.settings.checkpoint_frequency
        self._written = time.monotonic()

    def due(self, epochs: int) -> bool:
        """Whether to write one after so many epochs."""
        if self._frequency is not None:
            return epochs % self._frequency == 0
        return time.monotonic() - self._written >= CHECKPOINT_SECONDS

    def write(self, state: State) -> None:
        """Replace the checkpoint."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        with partial.open("wb") as file:
            torch.save({"fingerprint": self._fingerprint, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._path)
        self._written = time.monotonic()

    def read(self) -> State | None:
        """What was written last, on the CPU; None without a checkpoint of the same training."""
        try:
            state: State = torch.load(self._path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except (EOFError, RuntimeError, pickle.UnpicklingError) as error:
            log.warning("%s cannot be read, training starts over: %s", self._path, error)
            return None
        if state.get("fingerprint") != self._fingerprint:
            log.warning("%s is of another training: this one starts over", self._path)
            return None
        return state


# What may differ between the training that wrote a checkpoint and the one that continues from it.
_WITHOUT_CONSEQUENCE = ("given", "checkpoint_frequency", "device", "serving_precision")


def _fingerprint(job: Job) -> str:
    """A hash of what must be equal for a run to resume from a checkpoint."""
    settings = asdict(job.settings)
    for name in _WITHOUT_CONSEQUENCE:
        del settings[name]
    made_with = [settings, job.classes, job.dataset, earlier_size(job)]
    return hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()
