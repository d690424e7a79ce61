"""The two ways in which a model predicts: its SageMaker endpoint, or the process of the caller.

A model card says which: by `ModelCard.model`. Both modes may be in use at once, by models of
different classifiers or by the live model and the one that a rollback returns to.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from droplens.domain.card import ModelObject
from droplens.domain.result import Response, checked
from droplens.imaging.prepare import (
    Admission,
    ImageInfo,
    Limits,
    Preprocessing,
    prepare,
    prepare_pixels,
)
from droplens.imaging.weighted_semaphore import WeightedSemaphore
from droplens.prediction.request_body import fitting

if TYPE_CHECKING:
    from droplens.inference.network import Explanation, Network, Pixels

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Decoding:
    """How an untrusted image is decoded; the fields are arguments of `prepare`."""

    limits: Limits = field(default_factory=Limits)
    admit: Admission = nullcontext
    isolated: bool = False


class Predictor(Protocol[T]):
    """A model; T is an image as it takes it."""

    def prepare(self, data: bytes, decoding: Decoding) -> tuple[T, ImageInfo]:
        """An encoded image as `predict` takes it. Raises ImageError."""

    def predict(self, prepared: T) -> Response:
        """Raises RetryLater, ImageError and UnexpectedResponse."""


@dataclass(frozen=True, slots=True)
class EndpointPredictor:
    """A model behind an endpoint. call: returns the endpoint's response for one prepared JPEG."""

    preprocessing: Preprocessing
    call: Callable[[bytes], Response]

    def prepare(self, data: bytes, decoding: Decoding) -> tuple[bytes, ImageInfo]:
        """The image as the JPEG that the endpoint receives."""
        return prepare(
            data,
            self.preprocessing,
            decoding.limits,
            decoding.admit,
            isolated=decoding.isolated,
        )

    def predict(self, prepared: bytes) -> Response:
        """The endpoint's response."""
        return self.call(fitting(prepared))


@dataclass(frozen=True, slots=True)
class InProcessPredictor:
    """A model of so many classes in this process.

    network: loads it, if it is not loaded yet; runs: of networks at the same time. Pixels go from
    the decoder to the network without a JPEG in between. NumPy and the network's packages are
    imported by the first image: a function whose models have endpoints starts without them.
    """

    preprocessing: Preprocessing
    model: ModelObject
    classes: int
    network: "Callable[[], Network]"
    runs: WeightedSemaphore

    def prepare(self, data: bytes, decoding: Decoding) -> "tuple[Pixels, ImageInfo]":
        """The image as the network's input, uint8 [height, width, 3].

        The pixels of a record are those that training had of it (trainer/data/preprocess.py).
        """
        import numpy as np
        from cykooz_resizer import FilterType

        from droplens.imaging.vector_resize import resized

        size = (self.model.width, self.model.height)
        image, info = prepare_pixels(
            data,
            self.preprocessing,
            max(size),
            decoding.limits,
            partial(resized, kind=FilterType.lanczos3),
            decoding.admit,
            isolated=decoding.isolated,
        )
        return np.asarray(resized(image, size, FilterType.bilinear), np.uint8), info

    def predict(self, prepared: "Pixels") -> Response:
        """The network's response."""
        network = self.network()
        with self.runs.held(1):
            found = network.predict(prepared)
        return checked(found.probabilities, found.novelty, self.classes)

    def explain(self, data: bytes) -> "Explanation":
        """The response for an encoded image, with a class map where the network has one."""
        pixels, _ = self.prepare(data, Decoding())
        network = self.network()
        with self.runs.held(1):
            return network.explain(pixels)
