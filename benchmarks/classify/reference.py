"""What a model gives for a picture by itself: the same code, with nothing else at the same time."""

import hashlib
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks.classify.cloud import Cloud
from benchmarks.classify.flood import Top
from benchmarks.classify.pictures import bare
from droplens.aws.s3 import Bucket
from droplens.aws.sagemaker_runtime import predict_with_retries
from droplens.domain.card import ModelCard
from droplens.domain.result import rank
from droplens.prediction.loaded_models import LoadedModels
from droplens.prediction.predictor import Decoding, EndpointPredictor, Predictor


@dataclass(frozen=True)
class Reference:
    """The predictions of live models and others, each picture once: their bytes apart from the
    number in each are those of a few."""

    cloud: Cloud
    _found: dict[tuple[str, str], Top] = field(default_factory=dict)
    _predictors: dict[str, Predictor[Any]] = field(default_factory=dict)

    def __call__(self, card: ModelCard, picture: bytes) -> Top:
        """The most probable classes, as a result has them."""
        drawn = bare(picture)
        known = card.run_id, hashlib.sha256(drawn).hexdigest()
        if known not in self._found:
            predictor = self._predictor(card)
            prepared, _ = predictor.prepare(drawn, Decoding())
            found = rank(predictor.predict(prepared).probabilities, card)
            self._found[known] = [(one.label, one.probability) for one in found]
        return self._found[known]

    def _predictor(self, card: ModelCard) -> Predictor[Any]:
        if card.run_id not in self._predictors:
            self._predictors[card.run_id] = self._new_predictor(card)
        return self._predictors[card.run_id]

    def _new_predictor(self, card: ModelCard) -> Predictor[Any]:
        if card.model is None:
            runtime = self.cloud.client("sagemaker-runtime")
            call = partial(
                predict_with_retries,
                runtime,
                card.endpoint,
                classes=len(card.classes),
                trainer=card.trainer,
            )
            return EndpointPredictor(card.preprocessing, call)
        models = LoadedModels(Bucket(self.cloud.client("s3"), self.cloud.bucket))
        return models.predictor(card.classifier, card.model, card.preprocessing, len(card.classes))
