"""Metrics that show whether images differ from those that a model was evaluated on."""

from collections.abc import Mapping
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit

from droplens.domain.card import ModelCard
from droplens.runtime.telemetry import count, count_of_classifier
from droplens.statistics.intervals import Z95_ONE_SIDED, wilson


def count_prediction(prediction: Mapping[str, Any], card: ModelCard) -> None:
    """Count one prediction of a result of v2.

    The probability is counted by classifier. Whether the image is unfamiliar, and how many
    unfamiliar ones the evaluation lets expect, is counted for all classifiers together, where the
    model can tell: the alarm PicturesUnfamiliar compares the sums.
    """
    probability = 100 * prediction["probability"]
    count_of_classifier(card.classifier, "PredictionProbability", probability, MetricUnit.Percent)
    if prediction["familiar"] is not None and card.novelty is not None:
        count("PictureUnfamiliar", int(not prediction["familiar"]))
        expected = expected_share(card.novelty.share, card.measured.pictures)
        count("UnfamiliarExpected", expected)


def expected_share(share: float, pictures: int) -> float:
    """The share of unfamiliar images that is still to be expected of images like the dataset's.

    The upper end of the one-sided 95 % interval of the measured share. pictures: validation images
    (> 0); the share may be of more images, with which the interval would be narrower.
    """
    return wilson(round(share * pictures), pictures, Z95_ONE_SIDED)[1]
