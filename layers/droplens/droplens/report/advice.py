"""The report's section with recommendations, derived from the evaluation."""

from collections.abc import Mapping
from typing import Any

from droplens.report.confusion import pairs
from droplens.report.formatting import (
    FEWEST_TO_CHART,
    correct,
    counted,
    exact_percent,
    names_of,
    percent,
    training_counts,
)
from droplens.report.markup import Child, Element, element, name

# Half the width of the accuracy's 95 % interval above which the figure is called rough.
ROUGH = 0.04
# A pair of classes is mentioned from this share of all errors, and this many errors.
PAIR_SHARE, PAIR_MISTAKES = 0.08, 3
WEAK_RECALL, WEAK_PICTURES, WEAK_SHOWN = 0.5, 3, 5
# Calibration error above the noise floor from which it is mentioned.
MISCALIBRATED = 0.03

Evaluation = Mapping[str, Any]


def standing(evaluation: Evaluation) -> tuple[str, str]:
    """The outcome for the candidate: a class name of the style sheet, and a sentence."""
    decision = evaluation["decision"]
    if decision["code"] is not None:
        return "refused", f"Refused: {decision['reason']}."
    return "passed", f"Passed the gate{_compared(evaluation['gate'])}."


def _compared(gate: Evaluation) -> str:
    minimum = f"MinimumAccuracy asks for {exact_percent(gate['minimum_accuracy'])}"
    if gate["accuracy_confidence"] == 0:
        return f": {minimum}"
    return (
        f": {minimum}, and the lower end of the {exact_percent(gate['accuracy_confidence'])} "
        f"interval is {percent(gate['lower_end'])}"
    )


def advice(evaluation: Evaluation, dataset: Mapping[str, Any] | None) -> Element:
    """The list of recommendations, the most useful first."""
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
    if confident["threshold"] is None:
        return _item(
            "Review every prediction.",
            "There is no auto-accept threshold, so results say “confident: false” at any "
            f"probability, also at {percent(1, 0)}. The reason: {confident['reason']}.",
        )
    share = confident["share"]
    return _item(
        f"Review {percent(1 - share)} of the predictions.",
        f"From a probability of {percent(confident['threshold'])} up, at least "
        f"{exact_percent(confident['precision'])} of the predictions are correct, and results say "
        f"“confident: true”. That holds for {percent(share)} of the validation pictures.",
    )


def _look_alike(evaluation: Evaluation) -> Element | None:
    mistakes = sum(
        count for truth, predicted, count in evaluation["confusion"] if truth != predicted
    )
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
        f" are confused with each other in {count} of the {mistakes} errors. Where people cannot "
        "tell them apart either, make them one class; else add pictures that show the difference.",
    )


def _weak(evaluation: Evaluation, dataset: Mapping[str, Any] | None) -> Element | None:
    weak = sorted(
        (each["recall"], number, each["name"], each["right"], each["pictures"])
        for number, each in enumerate(evaluation["classes"])
        if each["pictures"] >= WEAK_PICTURES and each["recall"] < WEAK_RECALL
    )
    if not weak:
        return None
    trained = training_counts(dataset)
    listed: list[Child] = []
    for recall, _, label, right, pictures in weak[:WEAK_SHOWN]:
        learnt = f", {trained[label]} training pictures" if label in trained else ""
        listed += [
            "; " if listed else None,
            name(label),
            f" (recall {percent(recall, 0)}: {right} of {pictures}{learnt})",
        ]
    more = f"; and {len(weak) - WEAK_SHOWN} more" if len(weak) > WEAK_SHOWN else ""
    return _item("Add pictures to the classes with the lowest recall.", *listed, f"{more}.")


def _rough(evaluation: Evaluation) -> Element | None:
    accuracy = evaluation["accuracy"]
    if (accuracy["high"] - accuracy["low"]) / 2 <= ROUGH:
        return None
    return _item(
        "Take these figures as rough.",
        f"Validation accuracy is {counted(correct(evaluation), evaluation['pictures'])}: on "
        f"{evaluation['pictures']:,} pictures it may be anywhere in that interval. More validation "
        "pictures make it narrower.",
    )


def _miscalibrated(evaluation: Evaluation) -> Element | None:
    calibration = evaluation["calibration"]
    error, noise = calibration["ece_after"], calibration["ece_noise_floor"]
    if (
        calibration["judged_on"] < FEWEST_TO_CHART
        or error <= calibration["ece_noise_limit"]
        or error - noise <= MISCALIBRATED
    ):
        return None
    return _item(
        "Do not take the probabilities literally.",
        f"Their calibration error (ECE) is {percent(error)}, where chance alone would show "
        f"{percent(noise)}.",
    )


def _left_out(dataset: Mapping[str, Any] | None) -> Element | None:
    counts = dataset["counts"] if dataset else {}
    skipped, conflicts = counts.get("skipped", 0), counts.get("conflicts", 0)
    found = [f"{skipped:,} could not be used"] if skipped else []
    found += [f"{conflicts:,} had two labels"] if conflicts else []
    if not found:
        return None
    return _item(
        "Correct the dataset.",
        f"Of its pictures, {' and '.join(found)}; the section on the dataset lists them.",
    )
