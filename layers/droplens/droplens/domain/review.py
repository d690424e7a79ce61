"""The review of one prediction by a person: which predictions need one, and in what order.

Three kinds of images enter the queue: those that a model is unsure of, those unlike its dataset,
and spot checks, which are a random share of all. Whether an image is one is decided by a digest of
its key and version and by nothing else, so that the images so drawn are a random sample of all
images of a model: what people decide about them gives its accuracy without bias. An image of the
sample that also enters for another reason stays in the sample, and has the random place in the
queue that all of the sample have: how far people get through the queue then says nothing about
which images of the sample they have seen.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from droplens.domain import layout
from droplens.domain.stored_object import NO_VERSION
from droplens.statistics import live_accuracy as statistics
from droplens.statistics.intervals import Z95_TWO_SIDED
from droplens.statistics.live_accuracy import LiveAccuracy

# What a person says of an image that is in none of the classes.
NONE = layout.NONE_CLASS


class Reason(StrEnum):
    """Why a prediction is to be reviewed. Only a spot check's was confident."""

    UNSURE = "unsure"
    UNFAMILIAR = "unfamiliar"
    SPOT_CHECK = "spot_check"


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """The review of one model's prediction for one version of an image.

    key, version: of the image, below input/; model: the run that trained it; sampled: the share of
    all images that was drawn at random when this one was drawn too, None where it was not;
    predicted, probability: the best class; result: the result's key; order: the least is shown
    first, in [0, 1]; entered: when it was classified.

    reviewer, label, decided: of the decision, None before it; label: a class, or NONE.
    """

    classifier: str
    key: str
    version: str
    model: str
    reason: Reason
    sampled: float | None
    predicted: str
    probability: float
    result: str
    order: float
    entered: datetime
    reviewer: str | None = None
    label: str | None = None
    decided: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledReview:
    """What the live accuracy needs of a review that was drawn; all as `Review` has it."""

    reason: Reason
    sampled: float
    predicted: str
    label: str | None = None


def review_of(result: Mapping[str, Any], key: str, share: float) -> Review | None:
    """The review that a classified image's result calls for, or None.

    result: of either version; key: its own; share: of all images that are drawn as spot checks.
    """
    image, prediction = result["image"], result["prediction"]
    version = image["version_id"] or NO_VERSION
    chance = draw(image["key"], version)
    sampled = share if chance < share else None
    if prediction["confident"] and sampled is None:
        return None
    return Review(
        classifier=result["classifier"],
        key=image["key"],
        version=version,
        model=result["model"]["run_id"],
        reason=_reason(prediction),
        sampled=sampled,
        predicted=prediction["label"],
        probability=prediction["probability"],
        result=key,
        order=round(_margin(result["top"]) if sampled is None else chance / share, 6),
        entered=datetime.fromisoformat(result["classified_at"]),
    )


def _margin(top: Sequence[Mapping[str, Any]]) -> float:
    """How much more probable the best class is than the second: labels of the least teach most
    (T. Scheffer, C. Decomain, S. Wrobel, "Active hidden Markov models for information extraction"
    (2001)). 1 where there is one class only."""
    probabilities = [float(one["probability"]) for one in top[:2]]
    return probabilities[0] - probabilities[1] if len(probabilities) == 2 else 1.0


def draw(key: str, version: str) -> float:
    """A number in [0, 1) for a version of an image, uniformly distributed over all of them.

    The same for every model, so that two models are checked on the same images.
    """
    digest = hashlib.sha256(f"{key}\n{version}".encode()).digest()
    # 53 bits: more would be rounded, and to 1.0 at the upper end.
    return (int.from_bytes(digest[:8]) >> 11) / 2**53


def live_accuracy(sample: Iterable[SampledReview], z: float = Z95_TWO_SIDED) -> LiveAccuracy | None:
    """The accuracy of a model on the images that it classifies; None where it is not known.

    sample: the model's random sample, all of it, decided or not; z: of the interval.

    An image of none of the classes counts as wrong where the prediction was confident. Where it was
    not, there is no right answer that the model could have given, and the image does not count.
    """
    images = (
        statistics.Sampled(
            share=review.sampled,
            stratum="confident" if _is_confident(review) else "for a person",
            correct=None if review.label is None else review.label == review.predicted,
            counted=review.label != NONE or _is_confident(review),
        )
        for review in sample
    )
    return statistics.live_accuracy(images, z)


def _is_confident(review: SampledReview) -> bool:
    return review.reason is Reason.SPOT_CHECK


def _reason(prediction: Mapping[str, Any]) -> Reason:
    if prediction["confident"]:
        return Reason.SPOT_CHECK
    # Results of v1 do not say which images are unfamiliar.
    return Reason.UNFAMILIAR if prediction.get("familiar") is False else Reason.UNSURE
