"""The calibration section of an evaluation: fitted on all images, and cross-fitted to be judged."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from droplens.evaluation.figures import six_decimals
from droplens.statistics.calibration import (
    IDENTITY,
    Bin,
    Calibration,
    cross_fit,
    expected_error,
    log_loss,
    noise_floor,
    noise_limit,
    reliability,
)

# On fewer images the calibration would fit their noise.
FEWEST_TO_FIT = 50
FOLDS = 5
# The probabilities of the endpoint are kept unless a map lowers the cross-fitted loss by so many
# standard errors: noise alone does so once in a hundred times.
_BEYOND_NOISE = 2.326

Rows = Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """A calibration with its errors, each image judged by a map that it was not fitted on.

    rows: the images' probabilities by these maps; after: their bins; before: those of the
    endpoint's probabilities.
    """

    calibration: Calibration
    fitted_on: int
    rows: Rows
    before: list[Bin]
    after: list[Bin]
    log_loss_before: float
    log_loss_after: float

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of evaluation.json."""
        return {
            **self.calibration.to_dict(),
            "fitted_on": self.fitted_on,
            "judged_on": len(self.rows),
            "folds": FOLDS if self.fitted_on else 0,
            "ece_before": six_decimals(expected_error(self.before)),
            "ece_after": six_decimals(expected_error(self.after)),
            "ece_noise_floor": six_decimals(noise_floor(self.after)),
            "ece_noise_limit": six_decimals(noise_limit(self.after)),
            "nll_before": six_decimals(self.log_loss_before),
            "nll_after": six_decimals(self.log_loss_after),
            "bins_before": [_bin(entry) for entry in self.before],
            "bins_after": [_bin(entry) for entry in self.after],
        }


def calibrated(rows: Rows, truths: Sequence[int], fold_of: Sequence[int]) -> Calibrated:
    """Fit to the endpoint's probabilities `rows`, and judge by cross-fitting.

    fold_of: the image's fold of FOLDS. Both errors are over all images.
    """
    calibration, judged = IDENTITY, rows
    if len(rows) >= FEWEST_TO_FIT:
        found = cross_fit(rows, truths, fold_of)
        if found.gain > _BEYOND_NOISE:
            calibration = found.calibration
            judged = [
                found.of_fold[fold].apply(row) for row, fold in zip(rows, fold_of, strict=True)
            ]
    return Calibrated(
        calibration=calibration,
        fitted_on=len(rows) if calibration != IDENTITY else 0,
        rows=judged,
        before=_bins(rows, truths),
        after=_bins(judged, truths),
        log_loss_before=log_loss(rows, truths),
        log_loss_after=log_loss(judged, truths),
    )


def _bins(rows: Rows, truths: Sequence[int]) -> list[Bin]:
    return reliability(
        [
            # As results have it: rounded, and the first class of those that are tied.
            (min(1.0, round(max(row), 6)), row.index(max(row)) == truth)
            for row, truth in zip(rows, truths, strict=True)
        ]
    )


def _bin(entry: Bin) -> dict[str, Any]:
    return {
        name: six_decimals(value) if isinstance(value, float) else value
        for name, value in asdict(entry).items()
    }
