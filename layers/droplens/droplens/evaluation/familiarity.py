"""The familiarity section of an evaluation: the novelty above which an image is unfamiliar."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from droplens.domain.card import Novelty
from droplens.domain.figures import exact_percent
from droplens.evaluation.figures import share, six_decimals, six_digits
from droplens.statistics.novelty import Novelties, differ, limit, quantiles

QUANTILES = 101


@dataclass(frozen=True, slots=True)
class Familiarity:
    """The limit of a model, or the reason why it cannot tell.

    novelty: for the model card; requested: the share of own images that may be unfamiliar;
    pictures: validation images with a novelty; unfamiliar: those of them above the limit; left_out:
    the training records that the limit rests on, too; note: why it rests on none of them.
    """

    novelty: Novelty | None
    requested: float
    pictures: int = 0
    unfamiliar: int = 0
    left_out: int = 0
    reason: str | None = None
    note: str | None = None

    def is_familiar(self, novelty: float | None) -> bool:
        """Whether the image is not known to be unfamiliar."""
        return self.novelty is None or novelty is None or novelty <= self.novelty.limit

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of evaluation.json."""
        return {
            "limit": self.novelty and self.novelty.limit,
            "requested": self.requested,
            "share": share(self.unfamiliar, self.pictures) if self.novelty else None,
            "unfamiliar": self.unfamiliar,
            "pictures": self.pictures,
            "left_out": self.left_out,
            "quantiles": self.novelty and list(self.novelty.quantiles),
            "reason": self.reason,
            "note": self.note,
        }


def familiarity(
    novelties: Sequence[float | None], training: Mapping[str, Any] | None, requested: float
) -> Familiarity:
    """The limit from the validation images' novelties, and from those of training if they agree.

    training: the artefact's training.json, in which `novelty` has the leave-one-out quantiles.
    """
    own = [value for value in novelties if value is not None]
    if len(own) < max(1, len(novelties)):
        return Familiarity(
            None, requested, reason="the model does not compute how novel a picture is"
        )
    measured = Novelties.of(own)
    samples, records, note = [measured], 0, None
    if (found := _left_out(training)) is not None:
        left_out, count = found
        if differ(measured, left_out):
            note = "its novelties of validation pictures differ from those of training"
        else:
            samples, records = [left_out, measured], count
    most = limit(requested, samples)
    if most is None:
        return Familiarity(None, requested, len(own), reason=_too_few(len(own), requested, note))
    unfamiliar = sum(value > most for value in own)
    novelty = Novelty(
        limit=most,
        share=six_decimals(unfamiliar / len(own)),
        quantiles=tuple(map(six_digits, quantiles(QUANTILES, samples))),
    )
    return Familiarity(novelty, requested, len(own), unfamiliar, records, note=note)


def _too_few(pictures: int, requested: float, note: str | None) -> str:
    needed = math.ceil(1 / requested) - 1
    return (
        f"too few validation pictures: {pictures}, and it takes {needed} to find the novelty that "
        f"{exact_percent(requested)} of them exceed" + (f" ({note})" if note else "")
    )


def _left_out(training: Mapping[str, Any] | None) -> tuple[Novelties, int] | None:
    """The leave-one-out novelties in training.json, and their number; None without any."""
    try:
        found = (training or {})["novelty"]
        records = int(found["left_out"])
        levels = [float(value) for value in found["quantiles"]]
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    if records < 1 or len(levels) < 2 or not all(map(math.isfinite, levels)):
        return None
    if levels != sorted(levels):
        return None
    return Novelties.of_quantiles(levels, records), records
