"""The bench's own arithmetic, on answers of models whose faults are known."""

import random
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.harness import stored
from benchmarks.trust import curves
from benchmarks.trust.goals import Goal, goals, headline
from benchmarks.trust.maps import PEERS
from benchmarks.trust.pictures import Pictures
from benchmarks.trust.repeat import repeat
from benchmarks.trust.splits import half_of_classes, split_by_class
from benchmarks.trust.summary import auroc, debiased, summary
from benchmarks.trust.wrong_labels import (
    CHANGED,
    Search,
    change_at_random,
    change_to_look_alikes,
    most_confused,
)
from droplens.statistics.calibration import expected_error, reliability
from trainer.recipes.ridge_head import softmax


def overconfident(pictures: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Answers whose logits are three times too large, and the truths."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (pictures, 6)).astype(np.float32)
    truths = np.array([rng.choice(6, p=row / row.sum()) for row in softmax(logits).astype(float)])
    return softmax(3 * logits).astype(np.float64), truths


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_undoes_most_of_a_plain_overconfidence(name: str) -> None:
    fitted, (asked, truths) = overconfident(600, 1), overconfident(600, 2)
    right = (asked.argmax(axis=1) == truths).tolist()

    def error(best: NDArray[np.float64]) -> float:
        return expected_error(reliability(list(zip(best.tolist(), right, strict=True))))

    assert error(asked.max(axis=1)) > 0.2
    assert error(PEERS[name](*fitted)(asked)) < 0.07


@pytest.mark.parametrize("seed", [0, 1])
def test_exam_validation_and_training_share_no_picture(seed: int) -> None:
    labels = np.repeat([0, 1, 2], [50, 20, 5])
    split = split_by_class(labels, seed)
    parts = [split.train, split.validation, split.exam]
    assert sorted(np.concatenate(parts).tolist()) == list(range(75))
    counts = [np.bincount(labels[part], minlength=3).tolist() for part in parts]
    assert counts == [[32, 13, 3], [8, 3, 1], [10, 4, 1]]


def test_a_model_of_half_of_the_classes_sees_nothing_of_the_others() -> None:
    labels = np.repeat(np.arange(7), 10)
    learnt, others = half_of_classes(7, 0)
    assert sorted([*learnt, *others]) == list(range(7))
    assert len(learnt) == 3
    split = split_by_class(labels, 0)
    known, unknown = split.of_classes(labels, learnt), split.of_classes(labels, others)
    assert set(labels[known.train]) == set(learnt)
    assert set(labels[unknown.exam]) == set(others)
    assert len(known.exam) + len(unknown.exam) == len(split.exam)


@pytest.fixture(scope="module")
def noise() -> Pictures:
    """Labels that are chance: whoever has seen a picture knows its label, and nobody else can."""
    rng = np.random.default_rng(3)
    of_own, of_others = 9 * rng.random((2, 900))
    features = (of_own + rng.standard_normal((600, 900))).astype(np.float32)
    foreign = {"far": (of_others + rng.standard_normal((40, 900))).astype(np.float32)}
    labels = rng.permutation(np.arange(600) % 4)
    return Pictures("noise", 8, ("a", "b", "c", "d"), features, labels, foreign)


def test_a_repeat_learns_nothing_of_its_exam_and_tells_what_is_foreign(noise: Pictures) -> None:
    found = repeat(noise, 0, lambda cases: [{} for _ in cases])
    # One in four of 120 is correct, with a standard deviation of 4 points.
    assert 0.25 - 0.12 < found.right.mean() < 0.25 + 0.12
    assert len(found.maps["ours"]) == 120
    figures = summary(noise, [found])
    assert figures["foreign"]["far"]["auroc"]["mean"] == 1.0
    assert figures["foreign"]["far"]["confident"]["mean"] == 0.0
    assert figures["own_unfamiliar_share"]["mean"] < 0.06
    # Nothing tells classes apart, neither those that were learnt nor others.
    assert 0.35 < figures["unseen_classes"]["auroc"]["mean"] < 0.65
    assert figures["candidates"]["coverage"]["mean"] > 0.85
    assert set(figures["suspects"]["random"]["rankings"]) == {"ours"}


def test_the_debiased_error_forgives_chance_and_nothing_else() -> None:
    chance = random.Random(1)
    probabilities = [chance.uniform(0.3, 1) for _ in range(3000)]
    honest = [(p, chance.random() < p) for p in probabilities]
    shifted = [(p, chance.random() < p - 0.1) for p in probabilities]
    assert debiased(honest) < 0.02
    assert debiased(shifted) == pytest.approx(0.1, abs=0.02)


def test_auroc_counts_pairs_and_half_of_the_ties() -> None:
    high, low = np.array([3.0, 2.0, 5.0]), np.array([1.0, 2.0])
    # Of six pairs five are won, and one is a tie.
    assert auroc(high, low) == pytest.approx(5.5 / 6)
    assert auroc(low, high) == pytest.approx(0.5 / 6)


def test_labels_are_changed_in_the_stated_share_and_never_to_themselves() -> None:
    labels = np.arange(1000) % 10
    rng = np.random.default_rng(0)
    changed = change_at_random(labels, 10, rng)
    assert (changed != labels).sum() == CHANGED * 1000
    assert set(changed) == set(range(10))
    # Class 0 is confused with 7, every other one with 0.
    probabilities = np.full((1000, 10), 0.01, np.float32)
    probabilities[:, 0], probabilities[labels == 0, 7] = 0.5, 0.3
    look_alikes = most_confused(labels, probabilities)
    assert look_alikes.tolist() == [7] + 9 * [0]
    changed = change_to_look_alikes(labels, look_alikes, rng)
    assert (changed != labels).sum() == CHANGED * 1000
    assert (changed == np.where(changed == labels, labels, look_alikes[labels])).all()


def test_a_ranking_is_judged_by_the_changed_labels_alone() -> None:
    wrong = np.zeros(100, bool)
    wrong[:20] = True
    found = Search(wrong, {"perfect": list(range(100)), "half": [0, 50, 1, 51], "none": []})
    assert found.precision("perfect", 20) == 1.0
    assert found.precision("half", 4) == 0.5
    # It finds no more than its two, however many are checked.
    assert found.precision("half", 20) == 0.1
    assert found.precision("none", 20) == 0.0
    assert found.curve("perfect") == pytest.approx([min(1.0, step / 10) for step in range(1, 21)])
    assert found.curve("half")[-1] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("least", "value", "reached"),
    [(True, 0.95, True), (True, 0.94, False), (False, 0.95, True), (False, 0.96, False)],
)
def test_a_goal_is_reached_at_its_limit(least: bool, value: float, reached: bool) -> None:
    assert Goal("a", 0.95, least, value).reached == reached
    assert Goal("a", 0.95, least, None).reached is None


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    return stored("trust")


def test_the_kept_goals_are_those_of_the_kept_figures(kept: dict[str, Any]) -> None:
    found = [(goal.figure, goal.value, goal.reached) for goal in goals(kept["sets"])]
    assert found == [(each["figure"], each["value"], each["reached"]) for each in kept["goals"]]


def test_what_stands_in_front_is_what_stands_below(kept: dict[str, Any]) -> None:
    front = headline(kept["sets"])
    assert {name: kept[name] for name in front} == front


def test_the_kept_curves_are_drawn_from_the_kept_figures(kept: dict[str, Any]) -> None:
    assert curves.FILE.read_text("utf-8") == curves.svg(kept)
    assert len(curves.FILE.read_bytes()) < 60_000
    root = ET.fromstring(curves.FILE.read_text("utf-8"))  # noqa: S314  our own file
    charts = [each for each in root if each.tag.endswith("svg")]
    assert len(charts) == 4
    assert all(len(list(chart.iter())) > 20 for chart in charts)
