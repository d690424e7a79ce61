"""The interface of a recipe: its input, a job, and its result, an outcome."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from trainer.data.features import Channel
from trainer.data.preprocess import Resize
from trainer.recipes.suspects import Suspect
from trainer.settings import Folders, Hyperparameters


@dataclass(slots=True)
class Timings:
    """Wall time of steps in seconds, for training.json."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 2)


@dataclass(frozen=True, slots=True)
class Job:
    """A training job whose channels were checked.

    weights: the folder of the backbones converted at image build.
    dataset: SHA-256 of the record file of each channel, by the channel's name.
    """

    folders: Folders
    settings: Hyperparameters
    classes: list[str]
    training: Channel
    validation: Channel
    resize: Resize
    weights: Path
    dataset: dict[str, str]
    timings: Timings


@dataclass(frozen=True, slots=True)
class Outcome:
    """A trained model.

    accuracies: share of correct predictions by channel, 0 to 1.
    report: the recipe's own part of training.json.
    predictions: int64 [validation records], class numbers; None where there are no such records.
    suspects: training records whose label may be wrong, the most suspicious first; None where the
    recipe cannot tell.
    """

    model: onnx.ModelProto
    accuracies: dict[str, float]
    report: dict[str, Any]
    predictions: NDArray[np.int64] | None = None
    suspects: list[Suspect] | None = None
