"""Statistical comparison of a candidate with the live model.

Each was evaluated on the validation images of its own dataset. The images in both, identified by
their bytes and their label, are compared as pairs: the live model's predictions are in its own
evaluation. Where the class list has changed, images of the common classes are compared.
"""

import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from typing import Any

from droplens.domain.card import ModelCard
from droplens.statistics.intervals import Z95_ONE_SIDED, Z95_TWO_SIDED, mcnemar, wilson

# A candidate is refused where the p-value of the hypothesis that it is not worse is below this.
SIGNIFICANCE = 0.05
# The comparison is paired where pairs are at least this share of the candidate's images.
ENOUGH_SHARED = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The comparison of a candidate with the live model, on the classes that both know.

    method: "paired", "unpaired", or "none" where there is nothing to compare: no common class, or
    class lists that differ without an evaluation of the live model.
    pictures: those compared in pairs; only_before, only_after: those that just one of the two
    predicted correctly. pictures_before, pictures_after: the images of these classes on which each
    model was evaluated, or the pairs; right_before, right_after: those predicted correctly.
    difference: the candidate's accuracy less the live one's, with its 95 % interval.
    p_value: one-sided, of the hypothesis that the candidate is not worse.
    same_task: whether both know the same classes; classes: how many both know; classes_added,
    classes_removed: how many only the candidate, or only the live model, knows.
    worse: whether the candidate is significantly worse, and must not go live.
    """

    run_id: str
    method: str
    pictures: int = 0
    pictures_before: int | None = None
    pictures_after: int | None = None
    right_before: int | None = None
    right_after: int | None = None
    only_before: int | None = None
    only_after: int | None = None
    p_value: float | None = None
    difference: Mapping[str, float] | None = None
    same_task: bool
    classes: int
    classes_added: int
    classes_removed: int
    worse: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of model cards and evaluations."""
        difference = self.difference
        return {**asdict(self), "difference": None if difference is None else dict(difference)}


def compare(
    candidate: Mapping[str, Any], live: ModelCard, live_evaluation: Mapping[str, Any] | None
) -> Comparison:
    """Compare two evaluations, or the candidate's with the accuracy in the live model's card.

    For an image of a class that both know, a prediction of a class that only one of the models
    knows is incorrect.
    """
    names = {entry["name"] for entry in candidate["classes"]}
    known = names & set(live.classes)
    about: dict[str, Any] = {
        "run_id": live.run_id,
        "same_task": names == set(live.classes),
        "classes": len(known),
        "classes_added": len(names - known),
        "classes_removed": len(live.classes) - len(known),
    }
    after = _answers(candidate, known)
    before = _answers(live_evaluation, known) if live_evaluation else []
    right_after, right_before = dict(after), dict(before)
    shared = right_after.keys() & right_before.keys()
    if shared and len(shared) >= ENOUGH_SHARED * len(right_after):
        return _paired([(right_before[key], right_after[key]) for key in shared], about)
    counts_before = (sum(right for _, right in before), len(before))
    counts_after = (sum(right for _, right in after), len(after))
    if about["same_task"]:
        if not before:
            counts_before = (live.measured.right, live.measured.pictures)
        pictures = candidate["pictures"]
        counts_after = (round(candidate["accuracy"]["value"] * pictures), pictures)
    return _unpaired(counts_before, counts_after, about)


def _answers(
    evaluation: Mapping[str, Any], known: AbstractSet[str]
) -> list[tuple[tuple[str, str], bool]]:
    """Each image of the known classes, as (SHA-256, class), and whether it was predicted
    correctly."""
    names = [entry["name"] for entry in evaluation["classes"]]
    return [
        ((answer["sha256"], names[answer["truth"]]), answer["top"][0][0] == answer["truth"])
        for answer in evaluation["answers"]
        if names[answer["truth"]] in known
    ]


def _paired(pairs: list[tuple[bool, bool]], about: Mapping[str, Any]) -> Comparison:
    only_before = sum(before and not after for before, after in pairs)
    only_after = sum(after and not before for before, after in pairs)
    p_value = mcnemar(only_before, only_after)
    value = (only_after - only_before) / len(pairs)
    return Comparison(
        **about,
        method="paired",
        pictures=len(pairs),
        pictures_before=len(pairs),
        pictures_after=len(pairs),
        right_before=sum(before for before, _ in pairs),
        right_after=sum(after for _, after in pairs),
        only_before=only_before,
        only_after=only_after,
        p_value=round(p_value, 6),
        difference=_difference(value, agresti_min(only_before, only_after, len(pairs))),
        worse=p_value < SIGNIFICANCE,
    )


def _unpaired(
    before: tuple[int, int], after: tuple[int, int], about: Mapping[str, Any]
) -> Comparison:
    """before, after: correct predictions, and images."""
    if not before[1] or not after[1]:
        return Comparison(**about, method="none")
    shares = (after[0] / after[1], after[1], before[0] / before[1], before[1])
    return Comparison(
        **about,
        method="unpaired",
        pictures_before=before[1],
        pictures_after=after[1],
        right_before=before[0],
        right_after=after[0],
        difference=_difference(shares[0] - shares[2], newcombe(*shares, Z95_TWO_SIDED)),
        worse=newcombe(*shares, Z95_ONE_SIDED)[1] < 0,
    )


def agresti_min(lost: int, won: int, pairs: int) -> tuple[float, float]:
    """The 95 % interval of the difference of two proportions on matched pairs.

    A. Agresti, Y. Min, "Simple improved confidence intervals for comparing matched proportions"
    (2005): 0.5 is added to each cell of the 2x2 table.
    """
    lost_, won_, all_ = lost + 0.5, won + 0.5, pairs + 2
    value = (won_ - lost_) / all_
    reach = Z95_TWO_SIDED * math.sqrt(lost_ + won_ - (won_ - lost_) ** 2 / all_) / all_
    return max(-1.0, value - reach), min(1.0, value + reach)


def newcombe(
    share: float, total: int, other: float, other_total: int, z: float
) -> tuple[float, float]:
    """The interval of `share` minus `other`, proportions of independent samples.

    R. G. Newcombe, "Interval estimation for the difference between independent proportions"
    (1998), method 10. z: as in `intervals.wilson`.
    """
    low, high = wilson(round(share * total), total, z)
    other_low, other_high = wilson(round(other * other_total), other_total, z)
    value = share - other
    return (
        value - math.hypot(share - low, other_high - other),
        value + math.hypot(high - share, other - other_low),
    )


def _difference(value: float, interval: tuple[float, float]) -> dict[str, float]:
    return {"value": round(value, 6), "low": round(interval[0], 6), "high": round(interval[1], 6)}
