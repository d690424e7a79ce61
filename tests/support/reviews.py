"""Reviews of images that are, or are not, in the bucket."""

from datetime import UTC, datetime
from typing import Any

from droplens.domain.review import Reason, Review, SampledReview
from tests.support.builders import RUN


def review(number: int = 0, **changes: Any) -> Review:
    """A review of the image `number`, which the model of `builders.RUN` predicted as red."""
    key = f"input/cars/{number}.jpg"
    values: dict[str, Any] = {
        "classifier": "cars",
        "key": key,
        "version": "v1",
        "model": RUN.run_id,
        "reason": Reason.SPOT_CHECK,
        "sampled": None,
        "predicted": "red",
        "probability": 0.75,
        "result": f"results/cars/{number}.jpg.json",
        "order": 0.75,
        "entered": datetime(2026, 11, 22, 12, tzinfo=UTC),
    }
    return Review(**{**values, **changes})


def sampled_review(**changes: Any) -> SampledReview:
    """A spot check of the prediction red, which was drawn with a probability of 1 %."""
    values: dict[str, Any] = {"reason": Reason.SPOT_CHECK, "sampled": 0.01, "predicted": "red"}
    return SampledReview(**{**values, **changes})
