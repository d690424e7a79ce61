"""Whether a candidate is worse than the live model, or only unluckier.

Both were measured on validation pictures of their own datasets. Those that both have seen for the
first time then, known by their bytes and their label, are compared pair by pair: what the live
model said of them is in its own report, and the same endpoint would say it again.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from droplens.card import ModelCard
from droplens.confidence import Z95_ONE_SIDED, Z95_TWO_SIDED, mcnemar, wilson

# A candidate is refused where a model that is as good would look as bad this rarely.
SIGNIFICANCE = 0.05
# Pairs decide where they are at least this share of the candidate's pictures.
ENOUGH_SHARED = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A candidate beside the live model.

    pictures: those compared in pairs; only_before, only_after: those that just one of the two
    answered rightly. difference: the candidate's accuracy less the live one's, with its 95 %
    interval. p_value: one-sided, of the hypothesis that the candidate is not worse.
    same_task: whether both tell the same classes apart; only then does the comparison decide.
    """

    run_id: str
    method: str
    pictures: int
    right_before: int | None
    right_after: int | None
    only_before: int | None
    only_after: int | None
    p_value: float | None
    difference: Mapping[str, float]
    same_task: bool
    worse: bool

    def to_dict(self) -> dict[str, Any]:
        """The comparison as cards and reports hold it."""
        return {**asdict(self), "difference": dict(self.difference)}


def compare(
    candidate: Mapping[str, Any], live: ModelCard, live_evaluation: Mapping[str, Any] | None
) -> Comparison:
    """Compare two evaluations; without the live model's own, its card's accuracy stands for it."""
    after = _right_by_picture(candidate)
    before = _right_by_picture(live_evaluation) if live_evaluation else {}
    shared = after.keys() & before.keys()
    same_task = [entry["name"] for entry in candidate["classes"]] == list(live.classes)
    if shared and len(shared) >= ENOUGH_SHARED * len(after):
        return _paired(live.run_id, [(before[key], after[key]) for key in shared], same_task)
    accuracy, pictures = live.measured.accuracy, live.measured.pictures
    value = candidate["accuracy"]["value"]
    asked = candidate["pictures"]
    interval = newcombe(value, asked, accuracy, pictures, Z95_TWO_SIDED)
    return Comparison(
        run_id=live.run_id,
        method="unpaired",
        pictures=0,
        right_before=None,
        right_after=None,
        only_before=None,
        only_after=None,
        p_value=None,
        difference=_difference(value - accuracy, interval),
        same_task=same_task,
        worse=newcombe(value, asked, accuracy, pictures, Z95_ONE_SIDED)[1] < 0,
    )


def _right_by_picture(evaluation: Mapping[str, Any]) -> dict[tuple[str, str], bool]:
    names = [entry["name"] for entry in evaluation["classes"]]
    return {
        (answer["sha256"], names[answer["truth"]]): answer["top"][0][0] == answer["truth"]
        for answer in evaluation["answers"]
    }


def _paired(run_id: str, pairs: list[tuple[bool, bool]], same_task: bool) -> Comparison:
    only_before = sum(before and not after for before, after in pairs)
    only_after = sum(after and not before for before, after in pairs)
    p_value = mcnemar(only_before, only_after)
    value = (only_after - only_before) / len(pairs)
    return Comparison(
        run_id=run_id,
        method="paired",
        pictures=len(pairs),
        right_before=sum(before for before, _ in pairs),
        right_after=sum(after for _, after in pairs),
        only_before=only_before,
        only_after=only_after,
        p_value=round(p_value, 6),
        difference=_difference(value, agresti_min(only_before, only_after, len(pairs))),
        same_task=same_task,
        worse=p_value < SIGNIFICANCE,
    )


def agresti_min(lost: int, won: int, pairs: int) -> tuple[float, float]:
    """The 95 % interval of the difference of two shares that were counted on the same pictures.

    A. Agresti, Y. Min, "Simple improved confidence intervals for comparing matched proportions"
    (2005): half a picture is added to each of the four kinds of pairs.
    """
    lost_, won_, all_ = lost + 0.5, won + 0.5, pairs + 2
    value = (won_ - lost_) / all_
    reach = Z95_TWO_SIDED * math.sqrt(lost_ + won_ - (won_ - lost_) ** 2 / all_) / all_
    return max(-1.0, value - reach), min(1.0, value + reach)


def newcombe(
    share: float, asked: int, other: float, other_asked: int, z: float
) -> tuple[float, float]:
    """The interval of `share` less `other`, each counted on pictures of its own.

    R. G. Newcombe, "Interval estimation for the difference between independent proportions"
    (1998), method 10. z: as in `confidence.wilson`.
    """
    low, high = wilson(round(share * asked), asked, z)
    other_low, other_high = wilson(round(other * other_asked), other_asked, z)
    value = share - other
    return (
        value - math.hypot(share - low, other_high - other),
        value + math.hypot(high - share, other - other_low),
    )


def _difference(value: float, interval: tuple[float, float]) -> dict[str, float]:
    return {"value": round(value, 6), "low": round(interval[0], 6), "high": round(interval[1], 6)}
