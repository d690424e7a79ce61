"""What the figures say in words: the answer first, then what its reader can do about it."""

from collections.abc import Mapping, Sequence
from typing import Any

from droplens.reportpage.confusion import pairs
from droplens.reportpage.markup import Child, name

# Half the width of the accuracy's 95 % interval above which the figure is called rough.
ROUGH = 0.04
# A pair of classes is worth a look once it makes this share of all mistakes, and this many.
PAIR_SHARE, PAIR_MISTAKES = 0.08, 3
WEAK_RECALL, WEAK_PICTURES, WEAK_SHOWN = 0.5, 3, 5
# Calibration error beyond the noise that is worth a sentence.
MISCALIBRATED = 0.03

Evaluation = Mapping[str, Any]
Advice = tuple[str, list[Child]]


def percent(share: float) -> str:
    """A share as it is read: 91.4%."""
    return f"{share:.1%}"


def standing(evaluation: Evaluation) -> tuple[str, str]:
    """How the candidate ended, as a word for the style sheet and as a sentence."""
    decision = evaluation["decision"]
    match decision["status"] or ("refused" if decision["code"] else None):
        case "refused":
            return "refused", f"Refused: {decision['reason']}."
        case "awaiting_approval":
            return "waiting", "Good enough to go live; it waits for a person's approval."
        case "superseded":
            return "waiting", "A newer model went live before this one."
        case _:
            return "passed", "Good enough to go live."


def advice(evaluation: Evaluation, dataset: Mapping[str, Any] | None) -> list[Advice]:
    """What to do, the most useful first: pairs of a few words and their explanation."""
    found = [
        _who_looks(evaluation),
        _look_alike(evaluation),
        _weak(evaluation, dataset),
        _rough(evaluation),
        _miscalibrated(evaluation),
        _left_out(dataset),
    ]
    return [each for each in found if each is not None]


def _who_looks(evaluation: Evaluation) -> Advice:
    confident = evaluation["confident"]
    asked = f"{confident['precision']:.0%}"
    if confident["threshold"] is None:
        return (
            "Let a person look at every answer.",
            [
                (
                    f"No probability was found from which {asked} of the answers can be relied on to "
                    f"be right; {evaluation['pictures']} pictures were measured."
                )
            ],
        )
    share = confident["share"]
    return (
        f"Let a person look at {percent(1 - share)} of the pictures.",
        [
            (
                f"From a probability of {percent(confident['threshold'])} up, at least {asked} of the "
                f"answers can be relied on to be right, and results say “confident”. That holds for "
                f"{percent(share)} of the pictures."
            )
        ],
    )


def _look_alike(evaluation: Evaluation) -> Advice | None:
    mistakes = sum(count for truth, answer, count in evaluation["confusion"] if truth != answer)
    confused = pairs(evaluation["confusion"])
    if not confused:
        return None
    one, other, count = confused[0]
    if count < PAIR_MISTAKES or count < PAIR_SHARE * mistakes:
        return None
    names = [each["name"] for each in evaluation["classes"]]
    return (
        "Look at one pair of classes first.",
        [
            name(names[one]),
            " and ",
            name(names[other]),
            (
                f" are taken for each other in {count} of the {mistakes} mistakes. Where people cannot "
                "tell them apart either, make them one class; else add pictures that show the difference."
            ),
        ],
    )


def _weak(evaluation: Evaluation, dataset: Mapping[str, Any] | None) -> Advice | None:
    weak = sorted(
        (each["recall"], number, each["name"])
        for number, each in enumerate(evaluation["classes"])
        if each["pictures"] >= WEAK_PICTURES and each["recall"] < WEAK_RECALL
    )
    if not weak:
        return None
    trained = training_counts(dataset)
    listed: list[Child] = []
    for recall, _, label in weak[:WEAK_SHOWN]:
        learnt = f", learnt from {trained[label]} pictures" if label in trained else ""
        listed += ["; " if listed else "", name(label), f" ({recall:.0%} found{learnt})"]
    more = f"; and {len(weak) - WEAK_SHOWN} more" if len(weak) > WEAK_SHOWN else ""
    return ("Add pictures of the weakest classes.", [*listed, more, "."])


def _rough(evaluation: Evaluation) -> Advice | None:
    accuracy = evaluation["accuracy"]
    if (accuracy["high"] - accuracy["low"]) / 2 <= ROUGH:
        return None
    return (
        "Take these figures as rough.",
        [
            (
                f"They come from {evaluation['pictures']} pictures: the share of right answers may "
                f"well be anywhere from {percent(accuracy['low'])} to {percent(accuracy['high'])}. "
                "A larger dataset measures more sharply."
            )
        ],
    )


def _miscalibrated(evaluation: Evaluation) -> Advice | None:
    calibration = evaluation["calibration"]
    noise = calibration["ece_noise_floor"] or 0.0
    if calibration["ece_after"] - noise <= MISCALIBRATED:
        return None
    return (
        "Do not take the probabilities literally.",
        [
            (
                f"They are off by {percent(calibration['ece_after'])} on average, more than chance "
                f"alone would show ({percent(noise)})."
            )
        ],
    )


def _left_out(dataset: Mapping[str, Any] | None) -> Advice | None:
    if dataset is None:
        return None
    counts = dataset["counts"]
    left = {what: counts.get(what, 0) for what in ("skipped", "conflicts")}
    if not any(left.values()):
        return None
    said = {
        "skipped": f"{left['skipped']} could not be used",
        "conflicts": f"{left['conflicts']} had two labels",
    }
    parts = " and ".join(said[what] for what, count in left.items() if count)
    return (
        "Mend the dataset.",
        [f"Of its pictures, {parts}: the section on the dataset lists them."],
    )


def training_counts(dataset: Mapping[str, Any] | None) -> dict[str, int]:
    """Training pictures by class name, as far as the dataset tells."""
    return {each["name"]: each["train"] for each in (dataset or {}).get("per_class", [])}


def names_of(evaluation: Evaluation) -> Sequence[str]:
    """The class names, index = label."""
    return [each["name"] for each in evaluation["classes"]]
