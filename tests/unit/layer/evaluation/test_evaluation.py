"""What a measurement says of a model can be recomputed by hand."""

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droplens.evaluation.evaluation import (
    Prediction,
    TopPrediction,
    accuracy_on_test,
    calibrated,
    confident,
    confident_from,
    coverage,
    cross_validation,
    evaluate,
    latencies,
)
from droplens.statistics.calibration import IDENTITY, Calibration
from droplens.statistics.intervals import Z95_ONE_SIDED, wilson

CLASSES = ("audi", "bmw", "fiat")
JUDGED = st.lists(
    st.builds(TopPrediction, st.booleans(), st.sampled_from([0.1 * n for n in range(11)])),
    min_size=1,
    max_size=60,
)


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
    assert [entry["half"] for entry in evaluation["answers"]].count("fit") == 3
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
    # One of the three is judged, in the eleventh of 15 bins.
    assert found["calibration"]["bins_before"] == [
        {"low": 0.666667, "high": 0.733333, "count": 1, "probability": 0.678912, "accuracy": 1.0}
    ]
    assert coverage([TopPrediction(True, 0.12345678)]) == [[0.123457, 1.0, 1.0]]


# --- calibration


def test_a_model_that_is_too_sure_of_itself_is_cooled_down() -> None:
    found = evaluate(overconfident(400), CLASSES, 400, 0.95)["calibration"]
    assert found["method"] == "temperature and uniform"
    assert found["parameters"]["temperature"] > 1
    assert (found["fitted_on"], found["judged_on"]) == (200, 200)
    assert found["ece_before"] > 0.1
    assert found["ece_after"] < 0.06
    assert found["nll_after"] < found["nll_before"]
    assert sum(entry["count"] for entry in found["bins_after"]) == 200


def test_what_is_judged_does_not_move_the_map() -> None:
    answers = overconfident(200)
    to_fit = [number < 100 for number in range(200)]
    first = calibrated(answers, to_fit)
    others = overconfident(200, seed=2)[100:]
    assert calibrated([*answers[:100], *others], to_fit).calibration == first.calibration


def test_the_judgement_shows_only_pictures_that_nothing_was_fitted_on() -> None:
    seen = [answer(n, 0, [0.9, 0.05, 0.05]) for n in range(60)]
    unseen = [answer(60 + n, n % 2, [0.6, 0.2, 0.2]) for n in range(4)]
    found = calibrated([*seen, *unseen], [True] * 60 + [False] * 4)
    assert (found.fitted_on, found.judged_on) == (60, 4)
    # Of the four, each 60 % sure, two are correct: an error of 0.1, in the bin [0.6, 0.667).
    (bin_before,) = found.before
    assert (bin_before.low, bin_before.count, bin_before.accuracy) == (0.6, 4, 0.5)
    assert found.to_dict()["ece_before"] == 0.1
    # The true classes had 0.6, 0.2, 0.6 and 0.2: minus the mean of ln 0.6 and ln 0.2.
    assert found.log_loss_before == pytest.approx(1.060132, abs=1e-6)


def test_few_is_fewer_than_fifty() -> None:
    fitted = {
        count: calibrated(overconfident(60), [n < count for n in range(60)]).fitted_on
        for count in (49, 50)
    }
    assert fitted == {49: 0, 50: 50}


def test_on_few_pictures_nothing_is_fitted() -> None:
    few = overconfident(98)
    found = evaluate(few, CLASSES, len(few), 0.95)["calibration"]
    assert (found["method"], found["parameters"], found["fitted_on"]) == ("none", {}, 0)
    assert found["ece_after"] == found["ece_before"]


def test_what_is_shown_is_calibrated() -> None:
    answers = overconfident(400)
    found = evaluate(answers, CLASSES, 400, 0.95)
    calibration = Calibration.from_dict(found["calibration"])
    for said, shown in zip(answers, found["answers"], strict=True):
        best = max(said.probabilities)
        assert shown["raw"] == round(best, 6)
        assert shown["top"][0][1] == round(max(calibration.apply(said.probabilities)), 6) < best


# --- from where answers are confident


def test_the_best_probability_decides_what_is_confident() -> None:
    # 60 of 60 correct have a one-sided lower bound of 60 / (60 + 1.644854^2) = 95.7 %.
    sure = [answer(n, 0, [0.8, 0.15, 0.05]) for n in range(60)]
    unsure = [answer(60 + n, 1, [0.5, 0.3, 0.2]) for n in range(20)]
    found = evaluate([*sure, *unsure], CLASSES, 80, 0.95)
    assert found["calibration"]["method"] == "none"
    assert found["confident"] == {
        "precision": 0.95,
        "threshold": 0.8,
        "share": 0.75,
        "precision_measured": 1.0,
        "low": 0.956853,
        "reason": None,
    }
    assert found["coverage"] == [[0.8, 0.75, 1.0], [0.5, 1.0, 0.75]]


def test_the_precision_of_confident_answers_is_the_share_of_them_that_is_correct() -> None:
    judged = [TopPrediction(n < 98, 0.9) for n in range(100)] + [TopPrediction(False, 0.5)] * 25
    found = confident(judged, 0.9)
    assert (found["threshold"], found["share"], found["precision_measured"]) == (0.9, 0.8, 0.98)
    # Wilson by hand: centre 0.9935, reach 0.0267, both divided by 1.0271.
    assert found["low"] == pytest.approx(0.941, abs=5e-4)


def test_answers_are_confident_from_where_they_can_be_relied_on() -> None:
    right = [TopPrediction(True, 0.9)] * 60 + [TopPrediction(True, 0.8)] * 40
    assert confident_from([*right, *[TopPrediction(False, 0.7)] * 9], 0.95) == 0.8
    assert confident_from([*right, TopPrediction(False, 0.7)], 0.95) == 0.7


@pytest.mark.parametrize(("pictures", "threshold"), [(51, None), (52, 0.9)])
def test_on_too_few_pictures_no_answer_is_called_confident(
    pictures: int, threshold: float | None
) -> None:
    assert confident_from([TopPrediction(True, 0.9)] * pictures, 0.95) == threshold


@pytest.mark.parametrize(
    ("pictures", "precision", "reason"),
    [
        # The fewest by hand, 2.7055 * p / (1 - p): 51.4 for 95 %, 24.3 for 90 %, 4.06 for 60 %.
        (9, 0.95, "too few validation pictures: 9, and it takes 52 to show that 95 % of the"),
        (24, 0.9, "too few validation pictures: 24, and it takes 25 to show that 90 % of the"),
        (4, 0.6, "too few validation pictures: 4, and it takes 5 to show that 60 % of the"),
        (51, 0.95, "too few validation pictures: 51, "),
    ],
)
def test_certain_predictions_that_are_not_confident_have_their_reason(
    pictures: int, precision: float, reason: str
) -> None:
    found = confident([TopPrediction(True, 1.0)] * pictures, precision)
    assert found["threshold"] is None
    assert found["reason"].startswith(reason)


def test_with_the_fewest_pictures_that_would_do_an_error_is_the_reason() -> None:
    # All of 52 correct show 95 %, as above; of 51 of 52 correct the lower bound is 91.5 %.
    found = confident([TopPrediction(n > 0, 1.0) for n in range(52)], 0.95)
    assert found["reason"] == "at no probability are 95 % of the predictions shown to be correct"


def test_a_precision_that_is_just_reached_is_reached() -> None:
    # Of none correct, the lower bound is 0.
    assert confident_from([TopPrediction(False, 0.5)], 0.0) == 0.5


def test_enough_pictures_and_too_many_errors_are_another_reason() -> None:
    found = confident([TopPrediction(n % 2 == 0, 1.0) for n in range(60)], 0.95)
    assert found["threshold"] is None
    assert found["reason"] == ("at no probability are 95 % of the predictions shown to be correct")
    assert confident([TopPrediction(True, 1.0)] * 25, 0.9)["reason"] is None


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


def test_a_lower_precision_is_reached_by_more_answers() -> None:
    answers = [TopPrediction(n % 10 > 0 or n < 60, 0.99 - n / 1000) for n in range(200)]
    strict, lax = confident(answers, 0.95), confident(answers, 0.8)
    assert strict["threshold"] > lax["threshold"]
    assert strict["share"] < lax["share"] == 1.0
    assert strict["low"] >= 0.95
    assert strict["precision_measured"] > strict["low"]


def test_where_the_surest_answers_are_wrong_none_is_confident() -> None:
    found = confident([TopPrediction(False, 0.99), TopPrediction(True, 0.9)], 0.95)
    assert (found["threshold"], found["share"], found["low"]) == (None, 0, None)


def test_equal_probabilities_are_confident_together_or_not_at_all() -> None:
    assert confident_from([TopPrediction(True, 0.9), TopPrediction(False, 0.9)], 0.95) is None


@given(JUDGED)
def test_the_threshold_is_the_lowest_that_keeps_its_promise(answers: list[TopPrediction]) -> None:
    def precise(threshold: float) -> bool:
        above = [a.right for a in answers if a.probability >= threshold]
        return wilson(sum(above), len(above), Z95_ONE_SIDED)[0] >= 0.6

    good = [a.probability for a in answers if precise(a.probability)]
    assert confident_from(answers, 0.6) == (min(good) if good else None)


@given(JUDGED)
def test_coverage_grows_to_all_answers(answers: list[TopPrediction]) -> None:
    steps = coverage(answers)
    shares = [share for _, share, _ in steps]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert steps[-1][2] == pytest.approx(sum(a.right for a in answers) / len(answers), abs=1e-6)


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
