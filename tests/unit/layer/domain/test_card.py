"""A model card is read as it was written, or refused."""

import dataclasses
import json
from typing import Any

import pytest

from droplens.domain.card import CardError, ModelCard, Novelty
from droplens.statistics.calibration import IDENTITY, Calibration
from droplens.statistics.conformal import THRESHOLD, LabelSets
from tests.support.builders import card


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"confident_from": None, "replaces": "20261101-000000-a"},
        {"confident_from": None, "unconfident_because": "too few validation pictures: 9"},
        {"calibration": Calibration(1.7), "ece_before": 0.2, "ece_after": 0.03, "coverage": 0.8},
        {"comparison": {"worse": False}, "generation": 3, "newest": "20261130-000000-b"},
        {"way_back": ("20261102-000000-b", "20261101-000000-a")},
        {"way_back": ()},
        {"confident_by_class": {"Škoda": 0.75}},
        {"input_size": {"height": 288, "width": 496}},
        {"novelty": Novelty(limit=2.5, share=0.01, quantiles=tuple(n / 40 for n in range(101)))},
        {"candidates": LabelSets(0.95, THRESHOLD, {"probability": 0.125})},
    ],
)
def test_a_card_is_read_as_it_was_written(changes: dict[str, Any]) -> None:
    model = card(classes=("Škoda", "Citroën C4", "比亚迪"), **changes)
    assert ModelCard.from_json(model.to_json()) == model


def test_a_card_can_be_read_by_people() -> None:
    lines = card(classes=("Škoda", "比亚迪")).to_json().decode().splitlines()
    assert ' "classifier": "cars",' in lines
    assert '  "Škoda",' in lines


def test_a_card_tells_how_many_pictures_were_correct() -> None:
    measured = dataclasses.replace(card().measured, pictures=12, accuracy=0.75)
    assert measured.right == 9
    # A share that no float holds.
    assert dataclasses.replace(measured, pictures=29, accuracy=28 / 29).right == 28


def test_a_card_of_another_schema_is_refused_by_its_name() -> None:
    document = {**json.loads(card().to_json()), "schema": "droplens.model-card.v9"}
    with pytest.raises(CardError, match=r"droplens\.model-card\.v9"):
        ModelCard.from_json(json.dumps(document).encode())


SINCE_CALIBRATION = {
    "model",
    "droplens_version",
    "input_size",
    "calibration",
    "coverage",
    "unconfident_because",
    "confident_by_class",
    "novelty",
    "candidates",
    "comparison",
    "generation",
    "newest",
    "way_back",
}


def test_a_card_from_before_calibration_is_read_as_one_without() -> None:
    document = json.loads(card().to_json())
    for name in SINCE_CALIBRATION:
        del document[name]
    old = ModelCard.from_json(json.dumps(document).encode())
    assert old == card()
    assert old.calibration == IDENTITY


@pytest.mark.parametrize("missing", sorted(json.loads(card().to_json()).keys() - SINCE_CALIBRATION))
def test_a_card_that_lacks_anything_is_refused(missing: str) -> None:
    document = json.loads(card().to_json())
    del document[missing]
    with pytest.raises(CardError):
        ModelCard.from_json(json.dumps(document).encode())


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"{", b"\xff"])
def test_a_card_that_is_none_is_refused(text: bytes) -> None:
    with pytest.raises(CardError):
        ModelCard.from_json(text)


@pytest.mark.parametrize(
    ("changes", "label", "probability", "confident"),
    [
        ({}, "red", 0.8, True),
        ({}, "red", 0.799999, False),
        ({"confident_from": None}, "red", 1.0, False),
        ({"confident_by_class": {"red": 0.6}}, "red", 0.6, True),
        ({"confident_by_class": {"red": 0.9}}, "red", 0.8, False),
        ({"confident_by_class": {"red": 0.6}}, "blue", 0.6, False),
        ({"confident_by_class": {"red": 0.6}}, "blue", 0.8, True),
        ({"confident_from": None, "confident_by_class": {"red": 0.6}}, "red", 0.6, True),
        ({"confident_from": None, "confident_by_class": {"red": 0.6}}, "blue", 1.0, False),
    ],
)
def test_a_prediction_needs_the_threshold_of_its_class(
    changes: dict[str, Any], label: str, probability: float, confident: bool
) -> None:
    assert card(**changes).is_confident(label, probability) is confident


def test_an_image_is_unfamiliar_above_the_limit() -> None:
    model = card(novelty=Novelty(limit=2.5, share=0.01, quantiles=(0.0,) * 101))
    assert model.is_familiar(2.5) is True
    assert model.is_familiar(2.500001) is False
    assert model.is_familiar(None) is None
    assert card().is_familiar(2.5) is None
