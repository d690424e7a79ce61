"""What a measurement says of a model can be recomputed by hand."""

import json
import random
from dataclasses import replace
from typing import Any

import pytest

from droplens.evaluation.evaluation import (
    Prediction,
    accuracy_on_test,
    cross_validation,
    evaluate,
    input_size,
    latencies,
)
from droplens.statistics.calibration import IDENTITY, Calibration
from droplens.statistics.intervals import wilson
from droplens.statistics.left_out import LeftOut

CLASSES = ("audi", "bmw", "fiat")


def answer(
    record: int, truth: int, probabilities: list[float], seconds: float = 0.01
) -> Prediction:
    return Prediction(
        record=record,
        name=f"{CLASSES[truth]}/{record}.jpg",
        sha256=f"{record:064x}",
        truth=truth,
        seconds=seconds,
        probabilities=probabilities,
    )


def overconfident(pictures: int, seed: int = 1) -> list[Prediction]:
    """Answers that call themselves 99 % sure, and are right four times in five."""
    chance = random.Random(seed)
    answers = []
    for record in range(pictures):
        truth, said = record % 3, record % 3
        if chance.random() > 0.8:
            said = (truth + 1) % 3
        sure = chance.uniform(0.985, 0.999)
        row = [(1 - sure) / 2] * 3
        row[said] = sure
        answers.append(answer(record, truth, row))
    return answers


@pytest.fixture
def evaluation() -> dict[str, Any]:
    """Five answers: two Audis right, one taken for a BMW, a BMW right, a Fiat taken for an Audi."""
    said = [(0, 0), (0, 0), (0, 1), (1, 1), (2, 0)]
    answers = []
    for record, (truth, best) in enumerate(said):
        row = [0.1, 0.1, 0.1]
        row[best] = 0.8
        answers.append(answer(record, truth, row, seconds=record / 1000))
    return evaluate(answers, CLASSES, 7, 0.95)


def test_shares_come_with_their_intervals(evaluation: dict[str, Any]) -> None:
    assert (evaluation["pictures"], evaluation["available"]) == (5, 7)
    low, high = wilson(3, 5)
    assert evaluation["accuracy"] == {"value": 0.6, "low": round(low, 6), "high": round(high, 6)}
    assert evaluation["top5"]["value"] == 1.0


def test_each_class_has_its_precision_recall_and_f1(evaluation: dict[str, Any]) -> None:
    audi, bmw, fiat = evaluation["classes"]
    assert (audi["name"], audi["pictures"], audi["answered"], audi["right"]) == ("audi", 3, 3, 2)
    assert audi["precision"] == audi["recall"] == audi["f1"] == 0.666667
    assert (bmw["precision"], bmw["recall"], bmw["f1"]) == (0.5, 1.0, 0.666667)
    assert (fiat["precision"], fiat["recall"], fiat["f1"]) == (None, 0.0, 0.0)
    assert evaluation["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3, abs=1e-6)


def test_the_confusion_matrix_names_only_what_happened(evaluation: dict[str, Any]) -> None:
    assert evaluation["confusion"] == [[0, 0, 2], [0, 1, 1], [1, 1, 1], [2, 0, 1]]


def test_every_answer_is_told_with_its_picture(evaluation: dict[str, Any]) -> None:
    last = evaluation["answers"][4]
    assert (last["record"], last["name"], last["truth"]) == (4, "fiat/4.jpg", 2)
    assert last["top"][0] == [0, 0.8]
    assert (last["raw"], last["ms"], len(last["sha256"])) == (0.8, 4.0, 64)
    assert sorted(entry["fold"] for entry in evaluation["answers"]) == [0, 1, 2, 3, 4]
    assert (last["novelty"], last["candidates"]) == (None, None)
    json.dumps(evaluation)


def test_a_class_without_validation_pictures_has_no_share(evaluation: dict[str, Any]) -> None:
    found = evaluate([answer(0, 0, [0.8, 0.1, 0.1])], CLASSES, 1, 0.95)
    assert [entry["f1"] for entry in found["classes"]] == [1.0, None, None]
    assert found["macro_f1"] == 1.0
    assert found["calibration"]["judged_on"] == 1


def test_the_sixth_class_is_not_among_the_first_five() -> None:
    row = [0.3, 0.2, 0.15, 0.13, 0.12, 0.1]
    names = [f"class {n}" for n in range(6)]
    answers = [
        Prediction(record=n, name="", sha256=str(n), truth=n, seconds=0, probabilities=row)
        for n in (4, 5)
    ]
    assert evaluate(answers, names, 2, 0.95)["top5"]["value"] == 0.5


def test_a_tie_is_judged_in_class_order_as_results_are() -> None:
    tied = [answer(0, 0, [0.4, 0.4, 0.2]), answer(1, 1, [0.4, 0.4, 0.2])]
    assert evaluate(tied, CLASSES, 2, 0.95)["accuracy"]["value"] == 0.5


def test_latencies_are_in_milliseconds() -> None:
    assert latencies([n / 1000 for n in range(5)]) == {"p50": 2.0, "p95": 3.8, "p99": 3.96}
    assert latencies([0.012]) == {"p50": 12.0, "p95": 12.0, "p99": 12.0}
    assert latencies([0.01, 0.02]) == {"p50": 15.0, "p95": 19.5, "p99": 19.9}
    assert latencies([0.0123456])["p50"] == 12.35


def test_figures_have_six_decimals_and_milliseconds_two() -> None:
    row = [0.6789123, 0.2, 0.1210877]
    found = evaluate([answer(n, 0, row, 1.2345678) for n in range(3)], CLASSES, 3, 0.95)
    [shown, *_] = found["answers"]
    assert (shown["raw"], shown["ms"]) == (0.678912, 1234.57)
    # In the eleventh of 15 bins.
    assert found["calibration"]["bins_before"] == [
        {"low": 0.666667, "high": 0.733333, "count": 3, "probability": 0.678912, "accuracy": 1.0}
    ]


def test_what_is_shown_is_calibrated() -> None:
    answers = overconfident(400)
    found = evaluate(answers, CLASSES, 400, 0.95)
    calibration = Calibration.from_dict(found["calibration"])
    for said, shown in zip(answers, found["answers"], strict=True):
        best = max(said.probabilities)
        assert shown["raw"] == round(best, 6)
        assert shown["top"][0][1] == round(max(calibration.apply(said.probabilities)), 6) < best


# --- what the trainer counted


def test_left_out_records_give_a_share_with_its_interval() -> None:
    found = cross_validation({"cross_validation": {"left_out": 148, "accuracy": 15 / 148}})
    # Newcombe 1998, method 3: 15 of 148.
    assert found == {
        "method": "leave-one-out",
        "pictures": 148,
        "right": 15,
        "accuracy": {
            "value": 15 / 148,
            "low": pytest.approx(0.0624, abs=5e-5),
            "high": pytest.approx(0.1605, abs=5e-5),
        },
    }


@pytest.mark.parametrize(
    ("left_out", "accuracy", "right"), [(1, 1.0, 1), (1, 0.0, 0), (3, 0.333333, 1)]
)
def test_one_record_that_was_left_out_is_enough_whatever_became_of_it(
    left_out: int, accuracy: float, right: int
) -> None:
    found = cross_validation({"cross_validation": {"left_out": left_out, "accuracy": accuracy}})
    assert found is not None
    assert (found["pictures"], found["right"]) == (left_out, right)


@pytest.mark.parametrize(
    "training",
    [
        None,
        {},
        {"cross_validation": None},
        {"cross_validation": []},
        {"cross_validation": {"left_out": 0, "accuracy": None}},
        {"cross_validation": {"left_out": 0, "accuracy": 0.5}},
        {"cross_validation": {"left_out": 5, "accuracy": 1.5}},
        {"cross_validation": {"left_out": 5, "accuracy": -0.5}},
        {"cross_validation": {"left_out": 5, "accuracy": "NaN"}},
        {"cross_validation": {"accuracy": 0.5}},
    ],
)
def test_a_trainer_that_left_nothing_out_gives_no_second_figure(training: Any) -> None:
    assert cross_validation(training) is None


def test_the_test_accuracy_has_its_counts_and_its_interval() -> None:
    """By hand: Wilson's interval of 7 of 8 is (0.875 + 0.2401 -+ 0.3319) / 1.4802."""
    answers = [
        Prediction(
            record=record,
            name=f"{record}.jpg",
            sha256=f"{record:064x}",
            truth=record % 2,
            seconds=0.01,
            probabilities=[0.9, 0.1] if record % 2 == 0 or record == 7 else [0.1, 0.9],
        )
        for record in range(8)
    ]
    found = accuracy_on_test(answers, IDENTITY, available=20)
    assert found is not None
    accuracy = found.pop("accuracy")
    assert found == {"pictures": 8, "available": 20, "right": 7}
    assert accuracy["value"] == 0.875
    assert accuracy["low"] == pytest.approx(0.5291, abs=1e-4)
    assert accuracy["high"] == pytest.approx(0.9776, abs=1e-4)


def test_without_test_pictures_there_is_no_test_accuracy() -> None:
    assert accuracy_on_test([], IDENTITY, available=0) is None


def familiar_and_not(novelty: float | None = 0.0) -> list[Prediction]:
    """150 correct predictions of probability 0.9; those of the last 20 images are all wrong."""
    right = [answer(n, 0, [0.9, 0.05, 0.05]) for n in range(150)]
    wrong = [answer(150 + n, 1, [0.9, 0.05, 0.05]) for n in range(20)]
    return [replace(each, novelty=each.record / 1000) for each in right] + [
        replace(each, novelty=novelty) for each in wrong
    ]


def test_unfamiliar_images_are_never_confident() -> None:
    likewise = evaluate(familiar_and_not(0.1), CLASSES, 170, 0.95, unfamiliar_share=0.2)
    assert likewise["confident"]["threshold"] is None
    found = evaluate(familiar_and_not(9.0), CLASSES, 170, 0.95, unfamiliar_share=0.2)
    # Of 171, the 136.8 least novel, so 137.
    assert found["familiarity"]["limit"] == 0.136
    assert found["confident"]["threshold"] is not None
    assert found["confident"]["share"] == round(137 / 170, 6)
    assert found["confident"]["precision_measured"] == 1.0


def test_every_answer_has_its_novelty_and_the_number_of_its_candidates() -> None:
    found = evaluate(familiar_and_not(), CLASSES, 170, 0.95, candidate_precision=0.8)
    last = found["answers"][-1]
    assert (last["novelty"], last["candidates"]) == (0.0, 1)
    assert found["candidates"]["coverage"]["value"] == pytest.approx(150 / 170)
    json.dumps(found)


def test_an_evaluation_does_not_depend_on_the_order_of_pictures() -> None:
    answers = overconfident(200)
    first, second = (evaluate(each, CLASSES, 200, 0.9) for each in (answers, answers[::-1]))
    assert second["answers"][::-1] == first["answers"]
    assert second["confident"] == first["confident"]
    assert second["calibration"]["parameters"] == first["calibration"]["parameters"]


def test_what_training_counted_is_evidence_unless_the_scale_has_changed() -> None:
    probabilities = [0.6 + n / 1000 for n in range(300)]
    predicted, right = [n % 3 for n in range(300)], [n % 50 > 0 for n in range(300)]
    training = {
        "left_out_confidence": LeftOut.of(probabilities, predicted, right, len(CLASSES)).to_dict()
    }
    few = [answer(n, 0, [0.8, 0.1, 0.1]) for n in range(30)]
    assert evaluate(few, CLASSES, 30, 0.95)["confident"]["threshold"] is None
    found = evaluate(few, CLASSES, 30, 0.95, training=training)["confident"]
    assert (found["left_out"], found["share"], found["reason"]) == (300, 1.0, None)
    corrected = evaluate(overconfident(400), CLASSES, 400, 0.95, training=training)
    assert corrected["calibration"]["method"] != "none"
    assert corrected["confident"]["left_out"] == 0


def test_the_input_s_size_is_the_one_that_training_reports() -> None:
    report = {"height": 288, "width": 496, "records": 1500, "tried": []}
    assert input_size({"input_size": report}) == {"height": 288, "width": 496}


@pytest.mark.parametrize(
    "training",
    [
        None,
        {},
        {"input_size": None},
        {"input_size": [288, 496]},
        {"input_size": {"height": 288}},
        {"input_size": {"height": 0, "width": 496}},
        {"input_size": {"height": "tall", "width": 496}},
    ],
)
def test_without_a_report_the_input_s_size_is_unknown(training: Any) -> None:
    assert input_size(training) is None
