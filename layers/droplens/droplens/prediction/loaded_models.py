"""Models in memory: each read once from its object in the bucket, by the digest of its bytes."""

import hashlib
import time
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from droplens.aws.s3 import Bucket
from droplens.domain.card import ModelObject
from droplens.domain.errors import ObjectMissing, RetryLater
from droplens.imaging.prepare import Preprocessing
from droplens.imaging.weighted_semaphore import WeightedSemaphore
from droplens.inference.cores import cores
from droplens.prediction.predictor import InProcessPredictor
from droplens.runtime.telemetry import logger

if TYPE_CHECKING:
    from droplens.inference.network import Network

# Of the models' objects together. A loaded model takes about four times as much (measured: 79 and
# 115 MB, of 19 and 28 MB at 384 x 384 pixels), of the 350 MB that classify_image has left beside
# the largest images within the limits.
MOST_BYTES = 80 * 1024 * 1024


class ModelUnusable(RetryLater):
    """The model's object is missing, is not the one that the card names, or cannot be loaded."""

    def __init__(self, model: ModelObject, why: str) -> None:
        super().__init__("model.unusable", f"model {model.key}: {why}")


@dataclass(slots=True)
class _Loaded:
    """used: when it was last used, in monotonic seconds."""

    model: ModelObject
    network: "Network"
    used: float


class LoadedModels:
    """The models that this process has loaded; thread-safe.

    most_bytes: of their objects together. A model that no classifier uses any more is evicted
    first, then the least recently used one; memory is freed once no image needs it.
    """

    def __init__(self, bucket: Bucket, most_bytes: int = MOST_BYTES) -> None:
        self.bucket = bucket
        self.most_bytes = most_bytes
        self._loaded: dict[str, _Loaded] = {}
        self._of_classifiers: dict[str, str] = {}
        self._lock = Lock()
        # As in the container of an endpoint: as many runs at once as cores, each by all cores, so
        # that an image that is alone takes half as long.
        self._runs = WeightedSemaphore(cores())

    def predictor(
        self, classifier: str, model: ModelObject, preprocessing: Preprocessing, classes: int
    ) -> InProcessPredictor:
        """The model's predictor. It is loaded by the first prediction, which raises ModelUnusable
        where that fails."""
        return InProcessPredictor(
            preprocessing, model, classes, lambda: self._network(classifier, model), self._runs
        )

    def _network(self, classifier: str, model: ModelObject) -> "Network":
        # One at a time: images of a batch that need the same model wait for its one load.
        with self._lock:
            self._of_classifiers[classifier] = model.sha256
            found = self._loaded.get(model.sha256)
            if found is None:
                self._evict_for(model.bytes)
                found = _Loaded(model, self._load(model), 0.0)
                self._loaded[model.sha256] = found
            found.used = time.monotonic()
            return found.network

    def _evict_for(self, needed: int) -> None:
        in_use = set(self._of_classifiers.values())
        by_use = sorted(
            self._loaded, key=lambda digest: (digest in in_use, self._loaded[digest].used)
        )
        for digest in by_use:
            total = needed + sum(one.model.bytes for one in self._loaded.values())
            if digest in in_use and total <= self.most_bytes:
                return
            logger.info("model is evicted", key=self._loaded.pop(digest).model.key)

    def _load(self, model: ModelObject) -> "Network":
        began = time.monotonic()
        try:
            body, _ = self.bucket.read(model.key)
        except ObjectMissing as error:
            raise ModelUnusable(model, "its object is not in the bucket") from error
        if hashlib.sha256(body).hexdigest() != model.sha256:
            raise ModelUnusable(model, "its object is not the one that the model card names")
        read = time.monotonic()
        try:
            from droplens.inference.network import Network

            network = Network.load(body, cores(), (model.height, model.width))
        except Exception as error:
            raise ModelUnusable(model, f"it cannot be loaded: {error}") from error
        logger.info(
            "model is loaded",
            key=model.key,
            bytes=model.bytes,
            seconds_to_read=round(read - began, 3),
            seconds_to_load=round(time.monotonic() - read, 3),
        )
        return network
