"""What the figures say in words: the answer first, then what its reader can do about it."""

from collections.abc import Mapping
from typing import Any

from droplens.reportpage.confusion import pairs
from droplens.reportpage.markup import Child, Element, element, name
from droplens.reportpage.wording import names_of, percent, training_counts

# Half the width of the accuracy's 95 % interval above which the figure is called rough.
ROUGH = 0.04
# A pair of classes is worth a look once it makes this share of all mistakes, and this many.
PAIR_SHARE, PAIR_MISTAKES = 0.08, 3
WEAK_RECALL, WEAK_PICTURES, WEAK_SHOWN = 0.5, 3, 5
# Calibration error beyond the noise that is worth a sentence.
MISCALIBRATED = 0.03

Evaluation = Mapping[str, Any]


def standing(evaluation: Evaluation) -> tuple[str, str]:
    """How the candidate ended, as a word for the style sheet and as a sentence."""
    decision = evaluation["decision"]
    if decision["code"] is not None:
        return "refused", f"Refused: {decision['reason']}."
    return "passed", "Good enough to go live."


def advice(evaluation: Evaluation, dataset: Mapping[str, Any] | None) -> Element:
    """What to do, the most useful first."""
    return element(
        "ol",
        _who_looks(evaluation),
        _look_alike(evaluation),
        _weak(evaluation, dataset),
        _rough(evaluation),
        _miscalibrated(evaluation),
        _left_out(dataset),
        class_="advice",
    )


def _item(short: str, *explained: Child) -> Element:
    return element("li", element("strong", short), " ", *explained)


def _who_looks(evaluation: Evaluation) -> Element:
    confident = evaluation["confident"]
    asked = f"{confident['precision']:.0%}"
    if confident["threshold"] is None:
        return _item(
            "Let a person look at every answer.",
            f"No probability was found from which {asked} of the answers can be relied on to be "
            f"right; {evaluation['pictures']} pictures were measured.",
        )
    share = confident["share"]
    return _item(
        f"Let a person look at {percent(1 - share)} of the pictures.",
        f"From a probability of {percent(confident['threshold'])} up, at least {asked} of the "
        "answers can be relied on to be right, and results say “confident”. That holds for "
        f"{percent(share)} of the pictures.",
    )


def _look_alike(evaluation: Evaluation) -> Element | None:
    mistakes = sum(count for truth, answer, count in evaluation["confusion"] if truth != answer)
    confused = pairs(evaluation["confusion"])
    if not confused:
        return None
    one, other, count = confused[0]
    if count < PAIR_MISTAKES or count < PAIR_SHARE * mistakes:
        return None
    names = names_of(evaluation)
    return _item(
        "Look at one pair of classes first.",
        name(names[one]),
        " and ",
        name(names[other]),
        f" are taken for each other in {count} of the {mistakes} mistakes. Where people cannot "
        "tell them apart either, make them one class; else add pictures that show the difference.",
    )


def _weak(evaluation: Evaluation, dataset: Mapping[str, Any] | None) -> Element | None:
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
        listed += ["; " if listed else None, name(label), f" ({recall:.0%} found{learnt})"]
    more = f"; and {len(weak) - WEAK_SHOWN} more" if len(weak) > WEAK_SHOWN else ""
    return _item("Add pictures of the weakest classes.", *listed, f"{more}.")


def _rough(evaluation: Evaluation) -> Element | None:
    accuracy = evaluation["accuracy"]
    if (accuracy["high"] - accuracy["low"]) / 2 <= ROUGH:
        return None
    return _item(
        "Take these figures as rough.",
        f"They come from {evaluation['pictures']} pictures: the share of right answers may well "
        f"be anywhere from {percent(accuracy['low'])} to {percent(accuracy['high'])}. A larger "
        "dataset measures more sharply.",
    )


def _miscalibrated(evaluation: Evaluation) -> Element | None:
    calibration = evaluation["calibration"]
    error, noise = calibration["ece_after"], calibration["ece_noise_floor"]
    if error - noise <= MISCALIBRATED:
        return None
    return _item(
        "Do not take the probabilities literally.",
        f"They are off by {100 * error:.1f} points on average, where chance alone would show "
        f"{100 * noise:.1f}.",
    )


def _left_out(dataset: Mapping[str, Any] | None) -> Element | None:
    counts = dataset["counts"] if dataset else {}
    skipped, conflicts = counts.get("skipped", 0), counts.get("conflicts", 0)
    found = [f"{skipped} could not be used"] if skipped else []
    found += [f"{conflicts} had two labels"] if conflicts else []
    if not found:
        return None
    return _item(
        "Mend the dataset.",
        f"Of its pictures, {' and '.join(found)}: the section on the dataset lists them.",
    )
