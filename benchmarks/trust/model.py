"""One model of the benchmark: trained, evaluated and asked by the product's own code.

In place of a running system only the calls between its parts are missing: the trainer's fit is what
the graph computes, the evaluation makes the model card, and an answer is what a result says.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from droplens.domain import result
from droplens.domain.card import ModelCard
from droplens.domain.choices import DROPLENS
from droplens.domain.stored_object import ObjectInfo
from droplens.evaluation.evaluation import Prediction, evaluate
from droplens.imaging.prepare import ImageInfo, Preprocessing
from droplens.journey.promote import card_candidates, card_novelty, measurement
from droplens.statistics.calibration import Calibration
from trainer.nets.specification import HEAD_CHANNELS
from trainer.recipes.left_out import left_out_confidence
from trainer.recipes.novelty import Novelty, fit_novelty
from trainer.recipes.ridge_head import Fit, fit_head

PRECISION = 0.95
UNFAMILIAR = 0.01
_IMAGE = ObjectInfo("input/bench/a.jpg", "", None, 0, datetime(2026, 1, 1, tzinfo=UTC), {})
_INFO = ImageInfo(width=1, height=1, format="JPEG")

Matrix = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Answers:
    """What results say of pictures, each an array [pictures] except `candidates`.

    label: the most probable class; probability: calibrated, of it; raw: as the endpoint returned
    it; probable: whether the probability alone makes it confident; candidates: the numbers of the
    classes that it may be.
    """

    label: Labels
    probability: NDArray[np.float64]
    raw: NDArray[np.float64]
    novelty: NDArray[np.float64]
    probable: NDArray[np.bool_]
    confident: NDArray[np.bool_]
    familiar: NDArray[np.bool_]
    candidates: list[set[int]]


@dataclass(frozen=True, slots=True)
class Model:
    """fit, novelty: of the trainer; evaluation, card: of the promotion."""

    fit: Fit
    novelty: Novelty
    evaluation: dict[str, Any]
    card: ModelCard

    @classmethod
    def train(
        cls,
        pictures: tuple[Matrix, Labels],
        validation: tuple[Matrix, Labels],
        classes: Sequence[str],
        seed: int,
    ) -> Self:
        """What a run would put live. pictures, validation: features, and labels by number."""
        features, labels = pictures
        novelty = fit_novelty(features[:, -HEAD_CHANNELS:])
        fit = fit_head(features.copy(), labels, len(classes), seed)
        left_out = fit.left_out
        probabilities = fit.head.of_scores(left_out.scores)
        training = {
            "novelty": novelty.report(),
            "left_out_confidence": left_out_confidence(probabilities, labels[left_out.records]),
        }
        predictions = [
            Prediction(
                record=number,
                name=str(number),
                sha256=hashlib.sha256(b"%d %d" % (seed, number)).hexdigest(),
                truth=truth,
                seconds=0.0,
                probabilities=response.probabilities,
                novelty=response.novelty,
            )
            for number, (truth, response) in enumerate(
                zip(
                    validation[1].tolist(),
                    _responses(fit, novelty.novelty, validation[0]),
                    strict=True,
                )
            )
        ]
        found = evaluate(
            predictions,
            classes,
            len(predictions),
            PRECISION,
            candidate_precision=PRECISION,
            unfamiliar_share=UNFAMILIAR,
            training=training,
        )
        return cls(fit, novelty.novelty, found, _card(found, classes))

    @property
    def limit(self) -> float:
        """The novelty above which a picture is unfamiliar."""
        assert self.card.novelty is not None, "too few pictures to tell what is unfamiliar"
        return self.card.novelty.limit

    def responses(self, features: Matrix) -> list[result.Response]:
        """The endpoint's, for pictures of these features."""
        return _responses(self.fit, self.novelty, features)

    def answers(self, features: Matrix) -> Answers:
        """What the results of these pictures say."""
        responses = self.responses(features)
        found = [result.classified("", _IMAGE, _INFO, each, self.card) for each in responses]
        predictions = [each["prediction"] for each in found]
        number = {label: index for index, label in enumerate(self.card.classes)}
        return Answers(
            label=np.array([number[each["label"]] for each in predictions], np.int64),
            probability=np.array([each["probability"] for each in predictions]),
            raw=np.array([max(each.probabilities) for each in responses]),
            novelty=np.array([each.novelty for each in responses]),
            probable=np.array(
                [self.card.is_confident(each["label"], each["probability"]) for each in predictions]
            ),
            confident=np.array([each["confident"] for each in predictions]),
            # A model that cannot tell keeps nothing back.
            familiar=np.array([each["familiar"] is not False for each in predictions]),
            candidates=[{number[label] for label in each["candidates"] or ()} for each in found],
        )


def _responses(fit: Fit, novelty: Novelty, features: Matrix) -> list[result.Response]:
    probabilities = fit.head.probabilities(features).astype(np.float64).tolist()
    novelties = novelty.of(features[:, -HEAD_CHANNELS:]).astype(np.float64).tolist()
    return [result.Response(*each) for each in zip(probabilities, novelties, strict=True)]


def _card(found: dict[str, Any], classes: Sequence[str]) -> ModelCard:
    """As the promotion makes it, of a model without a name."""
    return ModelCard(
        classifier="bench",
        run_id="",
        endpoint="",
        trainer=DROPLENS,
        classes=tuple(classes),
        preprocessing=Preprocessing(1),
        measured=measurement(found),
        calibration=Calibration.from_dict(found["calibration"]),
        confident_from=found["confident"]["threshold"],
        confident_by_class=found["confident"]["by_class"],
        novelty=card_novelty(found["familiarity"]),
        candidates=card_candidates(found["candidates"]),
        promoted_at="",
    )
