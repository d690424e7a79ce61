"""The review bench's own arithmetic, and its protocol on images that a model can learn."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.review import orders, protocol
from benchmarks.review.pictures import half_without, of_classes, turned
from benchmarks.review.protocol import Curve, Split, Waiting, Way, review, split_of
from benchmarks.review.summary import labels_needed, on_grid, summary
from benchmarks.review.table import worst
from benchmarks.trust.pictures import Pictures
from trainer.nets.specification import HEAD_CHANNELS
from trainer.recipes.ridge_head import fit_head

# Few, so that a training takes some milliseconds.
FEATURES = 60

GRID = np.array([0.0, 10.0, 20.0, 30.0])


def learnable(classes: int = 4, of_each: int = 24) -> Pictures:
    """Features of overlapping classes."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), of_each)
    centres = rng.random((classes, FEATURES))
    features = centres[labels] + 3 * rng.random((len(labels), FEATURES))
    names = tuple(f"class {number}" for number in range(classes))
    return Pictures("learnable", 8, names, features.astype(np.float32), labels, {})


def waiting(**changes: list[float]) -> Waiting:
    values = {
        "best": [0.5, 0.9, 0.4],
        "second": [0.45, 0.05, 0.1],
        "entropy": [0.8, 2.0, 1.0],
        "chance": [0.3, 0.2, 0.1],
    }
    numbers = {name: np.array(value) for name, value in (values | changes).items()}
    nothing = np.zeros(3, bool)
    return Waiting(image=np.arange(3), confident=nothing, familiar=~nothing, **numbers)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (orders.by_chance, [2, 1, 0]),
        (orders.confidence, [2, 0, 1]),
        (orders.margin, [0, 2, 1]),
        (orders.entropy, [1, 2, 0]),
    ],
)
def test_an_order_shows_first_what_it_says(order: protocol.Order, expected: list[int]) -> None:
    assert np.argsort(order(waiting())).tolist() == expected


def test_a_split_divides_every_class_and_nothing_is_in_two_parts() -> None:
    labels = np.repeat([0, 1], [40, 20])
    split = split_of(labels, 3)
    parts = [split.train, split.validation, split.stream, split.exam]
    assert sorted(np.concatenate(parts).tolist()) == list(range(60))
    counts = [np.bincount(labels[part]).tolist() for part in parts]
    assert counts == [[6, 3], [2, 1], [22, 11], [10, 5]]
    assert not np.array_equal(split_of(labels, 4).exam, split.exam)


def test_labels_needed_are_those_at_which_a_curve_first_reaches_the_accuracy() -> None:
    accuracies = np.array([0.5, 0.7, 0.6, 0.9])
    assert labels_needed(accuracies, GRID, 0.6) == pytest.approx(5)
    # Between the second and the last model: the third fell short of the second.
    assert labels_needed(accuracies, GRID, 0.8) == pytest.approx(25)
    assert labels_needed(accuracies, GRID, 0.5) == 0
    assert labels_needed(accuracies, GRID, 0.91) is None


def test_a_curve_that_ends_early_stays_where_it_was() -> None:
    assert on_grid(Curve([0, 10, 12], [0.5, 0.7, 0.8]), GRID).tolist() == [0.5, 0.7, 0.8, 0.8]


def test_the_ratio_is_of_labels_to_the_same_accuracy() -> None:
    labels = list(range(0, 70, 10))
    base = [Curve(labels, [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])] * 3
    twice = [Curve(labels, [0.4, 0.6, 0.8, 1.0, 1.0, 1.0, 1.0])] * 3
    never = [Curve([0, 10], [0.4, 0.5])] * 3
    found = summary({"base": base, "twice": twice, "never": never}, "base")
    for level in found["levels"]:
        assert level["accuracy"] == pytest.approx(0.4 + 0.6 * level["share"])
        assert level["ways"]["base"]["ratio"] == 1
        one = level["ways"]["twice"]
        assert (one["ratio"], one["low"], one["high"]) == pytest.approx((0.5, 0.5, 0.5))
        assert level["ways"]["never"] == {"labels": None, "ratio": None, "low": None, "high": None}


def test_classes_to_choose_on_are_none_of_the_others() -> None:
    classes = tuple("abcdefgh")
    chosen = half_without(classes, ("a", "b"))
    assert len(chosen) == 4
    assert not {0, 1} & set(chosen.tolist())
    pictures = learnable(classes=8, of_each=3)
    part = of_classes(pictures, chosen, "part")
    assert part.classes == tuple(pictures.classes[number] for number in chosen)
    assert part.labels.tolist() == np.repeat(np.arange(4), 3).tolist()
    assert np.array_equal(part.features[:3], pictures.features[pictures.labels == chosen[0]])


def test_turned_features_predict_the_same() -> None:
    """More features than images, so that there is something to leave out."""
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(3), 12)
    noise = rng.random((36, HEAD_CHANNELS + 200), np.float32)
    features = noise + labels[:, None].astype(np.float32)
    whole = Pictures("whole", 8, ("a", "b", "c"), features, labels, {})
    less = turned(whole)
    assert less.features.shape[1] <= HEAD_CHANNELS + 36
    assert np.array_equal(less.features[:, -HEAD_CHANNELS:], features[:, -HEAD_CHANNELS:])
    expected, found = (
        fit_head(each.features.copy(), labels, 3, 0).left_out.scores for each in (whole, less)
    )
    assert found == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("renewed", [False, True])
def test_every_label_is_given_once_and_the_model_learns(
    renewed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "BATCHES", 3)
    pictures = learnable()
    split = split_of(pictures.labels, 0)
    curve = review(pictures, split, Way(orders.margin, queue=False, renewed=renewed), 0)
    assert curve.labels == [0, 18, 36, 52]
    assert curve.accuracies[-1] > curve.accuracies[0] + 0.1
    # Whatever the order, the last model has learnt from the same images.
    by_chance = review(pictures, split, Way(orders.by_chance, queue=False), 0)
    assert by_chance.accuracies[-1] == curve.accuracies[-1]


def test_only_what_waits_for_a_person_is_labelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sure and familiar images enter by a spot check alone."""
    monkeypatch.setattr(protocol, "BATCHES", 3)
    pictures = learnable()
    split: Split = replace(split_of(pictures.labels, 0))

    def sure(*arguments: object) -> Waiting:
        images = arguments[2]
        assert isinstance(images, np.ndarray)
        ones = np.ones(len(images))
        return Waiting(images, ones, 0 * ones, 0 * ones, ones, ones > 0, ones > 0)

    monkeypatch.setattr(protocol, "_results", sure)
    monkeypatch.setattr(protocol, "SPOT_CHECKS", 0.25)
    curve = review(pictures, split, Way(orders.margin, queue=True), 0)
    assert 0 < curve.labels[-1] < len(split.stream) / 2


def test_the_worst_ratios_are_told_by_the_share_of_the_gain() -> None:
    text = worst({"0.5": 0.764, "0.9": None})
    assert text.endswith("by margin: 0.76 to 50%, not reached to 90% of the gain.")
