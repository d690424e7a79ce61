"""The live accuracy of each live model, as a metric beside what its evaluation promised.

It is published on a schedule, not when a decision is made: an alarm needs the metric for as long as
its cause lasts, and nobody who reviews needs permission to publish metrics.
"""

from dataclasses import dataclass

from aws_lambda_powertools.metrics import MetricUnit

from droplens.domain.card import ModelCard
from droplens.domain.review import SampledReview, live_accuracy
from droplens.runtime.telemetry import count, count_of_classifier, logger
from droplens.state.cards import Cards
from droplens.state.reviews import Reviews
from droplens.statistics.intervals import wilson

# The alarm's interval is of three standard deviations: it is looked at again after each review, so
# that one of two would be below the promise by chance for a tenth of all models.
ALARM_Z = 3.0
# Below this an interval says nothing.
FEWEST_REVIEWS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveAccuracies:
    """Publishes the live accuracy of every live model of which enough images are reviewed."""

    cards: Cards
    reviews: Reviews

    def publish(self) -> None:
        """Add the metrics LiveAccuracy, by classifier, and LiveAccuracyShortfall, of all."""
        for card in self.cards.all_live():
            sample = self.reviews.sample(card.classifier, card.run_id)
            found = live_accuracy(sample)
            if found is None or found.count < FEWEST_REVIEWS:
                continue
            missing = shortfall(sample, card)
            count_of_classifier(
                card.classifier, "LiveAccuracy", 100 * found.value, MetricUnit.Percent
            )
            count("LiveAccuracyShortfall", 100 * missing, MetricUnit.Percent)
            logger.info(
                "live accuracy",
                classifier=card.classifier,
                run_id=card.run_id,
                accuracy=round(found.value, 4),
                lower=round(found.lower, 4),
                upper=round(found.upper, 4),
                reviews=found.count,
                shortfall=round(missing, 4),
            )


def shortfall(sample: list[SampledReview], card: ModelCard) -> float:
    """How far the live accuracy is below what the model's evaluation promised, in [0, 1].

    From the lower end of the measured accuracy's 95 % interval to the upper end of the live one's
    interval with ALARM_Z; 0 where they overlap.
    """
    found = live_accuracy(sample, ALARM_Z)
    promised, _ = wilson(card.measured.right, card.measured.pictures)
    return 0.0 if found is None else max(0.0, promised - found.upper)
