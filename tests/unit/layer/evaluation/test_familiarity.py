"""The limit of novelty rests on images that the model was not fitted to."""

import random
from typing import Any

import pytest

from droplens.evaluation.familiarity import familiarity


def quantiles(values: list[float], count: int = 1001) -> list[float]:
    ordered = sorted(values)
    return [ordered[round(n / (count - 1) * (len(ordered) - 1))] for n in range(count)]


def normal(count: int, seed: int, shift: float = 0.0) -> list[float]:
    chance = random.Random(seed)
    return [chance.gauss(100 + shift, 10) for _ in range(count)]


def training(values: list[float]) -> dict[str, Any]:
    return {"novelty": {"method": "any", "left_out": len(values), "quantiles": quantiles(values)}}


def test_training_and_validation_give_the_limit_together() -> None:
    found = familiarity(normal(300, 1), training(normal(4000, 2)), 0.01)
    section = found.to_dict()
    # 2.326 standard deviations above the mean.
    assert section["limit"] == pytest.approx(123.3, abs=1.5)
    assert (section["pictures"], section["left_out"], section["requested"]) == (300, 4000, 0.01)
    assert section["share"]["low"] <= 0.01 <= section["share"]["high"]
    assert section["share"]["value"] == section["unfamiliar"] / 300
    assert (section["reason"], section["note"]) == (None, None)
    assert len(section["quantiles"]) == 101
    assert section["quantiles"] == sorted(section["quantiles"])
    assert section["quantiles"][50] == pytest.approx(100, abs=1)
    assert found.novelty is not None
    assert found.novelty.limit == section["limit"]
    assert found.novelty.share == pytest.approx(section["share"]["value"], abs=1e-6)


def test_an_endpoint_whose_novelties_differ_is_judged_by_its_own() -> None:
    found = familiarity(normal(300, 1, shift=8), training(normal(4000, 2)), 0.01).to_dict()
    assert found["left_out"] == 0
    assert found["limit"] == pytest.approx(131.3, abs=4)
    assert found["note"] == "its novelties of validation pictures differ from those of training"


@pytest.mark.parametrize(("pictures", "known"), [(98, False), (99, True)])
def test_without_training_s_it_takes_a_hundred_pictures(pictures: int, known: bool) -> None:
    found = familiarity(normal(pictures, 1), None, 0.01)
    assert (found.novelty is not None) is known
    if known:
        # Of 99, all are within it: ceil(100 * 0.99).
        assert found.novelty is not None
        assert found.novelty.limit == max(normal(99, 1))
        assert found.novelty.share == 0.0
    else:
        assert found.to_dict()["reason"] == (
            "too few validation pictures: 98, and it takes 99 to find the novelty that 1 % of them "
            "exceed"
        )


def test_few_pictures_that_differ_from_training_tell_why_there_is_no_limit() -> None:
    found = familiarity(normal(60, 1, shift=30), training(normal(4000, 2)), 0.01).to_dict()
    assert found["limit"] is None
    assert found["reason"].endswith(
        "exceed (its novelties of validation pictures differ from those of training)"
    )


def test_a_model_without_the_output_says_that_it_cannot_tell() -> None:
    found = familiarity([None] * 200, training(normal(4000, 2)), 0.01)
    assert found.is_familiar(None)
    assert found.to_dict() == {
        "limit": None,
        "requested": 0.01,
        "share": None,
        "unfamiliar": 0,
        "pictures": 0,
        "left_out": 0,
        "quantiles": None,
        "reason": "the model does not compute how novel a picture is",
        "note": None,
    }


@pytest.mark.parametrize(
    "found",
    [
        None,
        {},
        {"novelty": None},
        {"novelty": {"left_out": 0, "quantiles": None}},
        {"novelty": {"left_out": 100, "quantiles": None}},
        {"novelty": {"left_out": 100, "quantiles": [1.0]}},
        {"novelty": {"left_out": 100, "quantiles": [2.0, 1.0]}},
        {"novelty": {"left_out": 100, "quantiles": [1.0, float("nan")]}},
        {"novelty": {"left_out": 100, "quantiles": ["a", "b"]}},
        {"novelty": {"left_out": "many", "quantiles": [1.0, 2.0]}},
        {"novelty": [1.0, 2.0]},
    ],
)
def test_quantiles_that_are_none_are_not_used(found: Any) -> None:
    section = familiarity(normal(300, 1), found, 0.01).to_dict()
    assert section["left_out"] == 0
    assert section["limit"] is not None


def test_an_image_is_unfamiliar_above_the_limit() -> None:
    found = familiarity([float(n) for n in range(1, 200)], None, 0.01)
    assert found.novelty is not None
    assert found.novelty.limit == 198
    assert found.is_familiar(198)
    assert not found.is_familiar(198.001)
    assert (found.unfamiliar, found.novelty.share) == (1, round(1 / 199, 6))
