"""What threads share and tables are keyed by cannot be changed, and holds its fields only."""

from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from droplens.classify.classify import Classification
from droplens.classify.sweep import Progress as SweepProgress
from droplens.classify.sweep import Sweep
from droplens.domain.card import Measurement, ModelCard
from droplens.domain.layout import DatasetSource, NearMiss
from droplens.domain.review import Review, SampledReview
from droplens.domain.run import Progress, Run, RunKey
from droplens.evaluation.calibrated import Calibrated
from droplens.evaluation.comparison import Comparison
from droplens.evaluation.confident import TopPrediction
from droplens.evaluation.evaluation import Prediction
from droplens.journey.deploy import Deployment
from droplens.journey.failure_reasons import FailureReporter
from droplens.journey.idle import IdleEndpoints
from droplens.journey.invocation import Invocation
from droplens.journey.live_accuracy import LiveAccuracies
from droplens.journey.pack import Packing
from droplens.journey.promote import Promotion
from droplens.journey.resume import ResumeRequest, Resumption
from droplens.journey.retire import Retirement
from droplens.journey.rollback import Restoration, Rollback, RollbackRequest
from droplens.journey.train import Training
from droplens.state.cards import _Known
from droplens.state.reviews import Page
from droplens.statistics.calibration import Bin, Calibration
from droplens.statistics.live_accuracy import LiveAccuracy, Sampled

BY_NAME = [
    Prediction,
    Calibrated,
    Classification,
    Comparison,
    Deployment,
    FailureReporter,
    IdleEndpoints,
    Invocation,
    LiveAccuracies,
    Measurement,
    ModelCard,
    Packing,
    Promotion,
    Restoration,
    ResumeRequest,
    Resumption,
    Retirement,
    Review,
    Rollback,
    RollbackRequest,
    SampledReview,
    Sweep,
    Training,
]
BY_PLACE = [
    Bin,
    Calibration,
    DatasetSource,
    LiveAccuracy,
    Page,
    Sampled,
    TopPrediction,
    NearMiss,
    Progress,
    Run,
    RunKey,
    SweepProgress,
    _Known,
]


@pytest.mark.parametrize("kind", [*BY_NAME, *BY_PLACE])
def test_a_value_cannot_be_changed_and_holds_nothing_else(kind: Any) -> None:
    value = object.__new__(kind)
    with pytest.raises(FrozenInstanceError):
        setattr(value, fields(kind)[0].name, None)
    assert not hasattr(value, "__dict__")


@pytest.mark.parametrize("kind", BY_NAME)
def test_what_has_many_fields_is_made_by_their_names(kind: Any) -> None:
    with pytest.raises(TypeError, match="positional"):
        kind(*fields(kind))
