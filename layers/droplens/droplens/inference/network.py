"""A network of an artefact, loaded into ONNX Runtime: from pixels to probabilities and novelty."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from droplens.inference.class_map import combined
from droplens.inference.graph import (
    COARSE_MAP,
    EXPLAIN,
    FINE_MAP,
    IMAGE,
    NOVELTY,
    PROBABILITIES,
)

_ERRORS = 3  # ONNX Runtime's number for logging no warnings

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Prediction:
    """Of one image: a probability per class, and the novelty where the network has that output."""

    probabilities: list[float]
    novelty: float | None


@dataclass(frozen=True, slots=True)
class Explanation(Prediction):
    """class_map: which regions speak for the most probable class, float32 [h, w] from the top left;
    None where the network has no such output."""

    class_map: NDArray[np.float32] | None


def open_session(model: bytes | Path, threads: int) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU whose idle threads do not spin."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A graph's input EXPLAIN has a default, of which it warns at every start.
    options.log_severity_level = _ERRORS
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        model if isinstance(model, bytes) else os.fspath(model),
        options,
        providers=["CPUExecutionProvider"],
    )


@dataclass(frozen=True, slots=True)
class Network:
    """A loaded network; several threads may use it at once.

    height, width: of its input in pixels; classes: of its probabilities; outputs: names of those
    that are fetched; maps: of those that are fetched besides for an explanation.
    """

    session: onnxruntime.InferenceSession
    height: int
    width: int
    classes: int
    outputs: tuple[str, ...]
    maps: tuple[str, ...]

    @classmethod
    def load(cls, model: bytes | Path, threads: int, size: tuple[int, int]) -> Self:
        """Load and run once, so that the first image is not slower.

        threads: that one image may use; size: height and width of the input. Raises ValueError
        where the graph lacks PROBABILITIES, and ONNX Runtime's errors.
        """
        session = open_session(model, threads)
        found = [output.name for output in session.get_outputs()]
        if PROBABILITIES not in found:
            raise ValueError(f"has no output {PROBABILITIES}, only {', '.join(found)}")
        outputs = tuple(name for name in (PROBABILITIES, NOVELTY) if name in found)
        maps = tuple(name for name in (FINE_MAP, COARSE_MAP) if name in found)
        blank = np.zeros((*size, 3), np.uint8)
        classes = len(_run(session, outputs, blank)[PROBABILITIES])
        return cls(session, *size, classes, outputs, maps)

    def predict(self, pixels: Pixels) -> Prediction:
        """The prediction for uint8 [height, width, 3]."""
        found = _run(self.session, self.outputs, pixels)
        return Prediction(found[PROBABILITIES].tolist(), _novelty(found))

    def explain(self, pixels: Pixels) -> Explanation:
        """As `predict`, with a class map."""
        found = _run(self.session, (*self.outputs, *self.maps), pixels)
        return Explanation(
            found[PROBABILITIES].tolist(),
            _novelty(found),
            combined([found[name] for name in self.maps]) if self.maps else None,
        )


def _run(
    session: onnxruntime.InferenceSession, outputs: tuple[str, ...], pixels: Pixels
) -> dict[str, NDArray[np.float32]]:
    """The outputs for one image, uint8 [height, width, 3]."""
    explains = np.array(any(name in (FINE_MAP, COARSE_MAP) for name in outputs))
    inputs = {IMAGE: pixels[None]} | ({EXPLAIN: explains} if explains else {})
    found = session.run(outputs, inputs)
    return {name: values[0] for name, values in zip(outputs, found, strict=True)}


def _novelty(found: Mapping[str, NDArray[np.float32]]) -> float | None:
    return found[NOVELTY].item() if NOVELTY in found else None
