"""What bench-training makes of a training's report, and how its goals are judged."""

from typing import Any

import pytest

from benchmarks.training.__main__ import parse_shape, summary
from benchmarks.training.goals import IDLE, RATIO, SECONDS, TOP1, judged, seconds_to

PLAIN = [
    {"pictures_per_second": speed, "validation_accuracy": accuracy, "seconds": 2.0}
    for speed, accuracy in ((5.0, 0.2), (10.0, 0.4), (20.0, 0.3))
]


def report(classes: int, accuracies: list[float | None]) -> dict[str, Any]:
    """training.json of a training whose epochs have these accuracies where evaluated."""
    k = min(5, classes)
    return {
        "epochs": [
            {"train_seconds": 2.0, "seconds": 3.0}
            | (
                {}
                if accuracy is None
                else {"validation_accuracy": accuracy, f"validation_top_{k}_accuracy": 1.0}
            )
            for accuracy in accuracies
        ],
        "accuracy": {"validation": max(each for each in accuracies if each is not None)},
        "records_per_class": [{"name": str(number)} for number in range(classes)],
        "pictures_per_epoch": 60,
        "seconds": {"decode": 1.0, "network": 4.0, "epochs": 9.0},
        "seconds_in_all": 20.0,
        "environment": {"device": "cpu"},
        "peak_memory_mb": 100,
    }


@pytest.mark.parametrize("classes", [3, 5, 196])
def test_few_classes_and_epochs_without_an_evaluation_are_summed_up(classes: int) -> None:
    found = summary(report(classes, [None, 0.95, None, 0.9]), PLAIN, {})
    assert (found["top1"], found["top1_last"], found["top5_last"]) == (0.95, 0.9, 1.0)
    assert found["pictures_per_second"] == 30
    assert found["ratio_to_plain_loop"] == 2
    assert found["plain_loop"]["top1_last"] == 0.3
    assert found["plain_loop"]["epochs"] == 3
    assert found["seconds_to_goal"] == 5 + 2 * 3


def test_a_goal_that_no_evaluation_reached_has_no_time() -> None:
    epochs: list[Any] = [{"seconds": 1.0}, {"seconds": 1.0, "validation_accuracy": TOP1 - 0.01}]
    assert seconds_to(epochs, 0) is None


def test_each_goal_is_judged_in_its_direction() -> None:
    reached = judged(
        {
            "top1_last": TOP1,
            "train_seconds": SECONDS - 1,
            "ratio_to_plain_loop": RATIO - 0.1,
            "gpu_idle_share": IDLE + 0.01,
        }
    )
    assert [each["met"] for each in reached.values()] == [True, True, False, False]
    assert judged({"top1_last": 0.5})["gpu_idle_share"]["met"] is None


def test_a_shape_is_height_and_width() -> None:
    assert parse_shape("224x384") == (224, 384)
    with pytest.raises(ValueError, match="unpack"):
        parse_shape("224")
