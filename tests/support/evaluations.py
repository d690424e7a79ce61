"""Evaluations as promotion writes them, of models that do not exist."""

import hashlib
import random
from collections.abc import Sequence
from typing import Any

from droplens.evaluation.evaluation import Prediction, evaluate

SCRIPT = "<script>document.title='taken over'</script>"
HOSTILE = (
    f"</script>{SCRIPT}",
    "\" onmouseover=\"document.title='taken over'",
    "<!-- & -->",
    "\u202egpj.elif",
    "a\x00b\x1b[31m",
    "\ud800 half a character",
    "a" * 300,
    "Škoda 晴れ 🚗",
)


def class_names(count: int) -> list[str]:
    """The hostile ones first."""
    return [*HOSTILE, *(f"Car {number:03} Sedan 2012" for number in range(count))][:count]


def evaluation(
    classes: Sequence[str], per_class: int = 6, seed: int = 0, **changes: Any
) -> dict[str, Any]:
    """Of a model that is right three times in four, and confuses a class with its neighbour."""
    draw = random.Random(seed)
    answers = []
    for record in range(len(classes) * per_class):
        truth = record % len(classes)
        sure = draw.uniform(0.3, 1)
        said = truth if draw.random() < 0.5 + sure / 2 else (truth ^ 1) % len(classes)
        rest = (1 - sure) / (len(classes) - 1)
        answers.append(
            Prediction(
                record=record,
                name=f"{truth}/{record}.jpg",
                sha256=hashlib.sha256(b"%d" % record).hexdigest(),
                truth=truth,
                seconds=draw.uniform(0.01, 0.05),
                probabilities=[sure if label == said else rest for label in range(len(classes))],
            )
        )
    return {
        **evaluate(answers, classes, len(answers), 0.95),
        "classifier": "cars",
        "run_id": "20261122-120000-1a2b3c",
        "endpoint": "droplens--cars-20261122-120000-1a2b3c",
        "trainer": "droplens",
        "measured_at": "2026-11-22T12:30:00+00:00",
        "gate": {"minimum_accuracy": 0.5, "accuracy_confidence": 0.95, "lower_end": 0.653},
        "cross_validation": None,
        "test": None,
        "decision": {"status": None, "code": None, "reason": None},
        "comparison": {
            "run_id": "20261101-080000-9f8e7d",
            "method": "paired",
            "pictures": 100,
            "pictures_before": 100,
            "pictures_after": 100,
            "right_before": 70,
            "right_after": 80,
            "only_before": 5,
            "only_after": 15,
            "p_value": 0.98,
            "difference": {"value": 0.1, "low": 0.01, "high": 0.18},
            "same_task": True,
            "classes": len(classes),
            "classes_added": 0,
            "classes_removed": 0,
            "worse": False,
        },
        **changes,
    }


def familiarity(**changes: Any) -> dict[str, Any]:
    """The section of a model whose own pictures have a novelty of 0.5 to 1, but 1 % of them."""
    quantiles = [0.5 + 0.5 * level / 99 for level in range(100)]
    return {
        "limit": 1.0,
        "requested": 0.01,
        "share": {"value": 0.0125, "low": 0.0049, "high": 0.0317},
        "unfamiliar": 5,
        "pictures": 400,
        "left_out": 1600,
        "quantiles": [*quantiles, 1.4],
        "reason": None,
        "note": None,
        **changes,
    }


def candidates(**changes: Any) -> dict[str, Any]:
    """The section of label sets, of which one in four has more than one class."""
    return {
        "precision": 0.95,
        "method": "threshold",
        "parameters": {"probability": 0.05},
        "coverage": {"value": 0.9525, "low": 0.9271, "high": 0.9694},
        "mean_size": 1.6,
        "sizes": [[1, 300], [2, 60], [3, 30], [14, 10]],
        "reason": None,
        **changes,
    }


def dataset(classes: Sequence[str]) -> dict[str, Any]:
    """The manifest of what the model learnt from."""
    return {
        "counts": {
            "train": 24 * len(classes),
            "validation": 6 * len(classes),
            "skipped": 1,
            "duplicates": 1,
            "conflicts": 1,
            "upscaled": 3,
        },
        "per_class": [
            {"name": label, "train": 20 + number % 9, "validation": 6, "skipped": 0}
            for number, label in enumerate(classes)
        ],
        "warnings": [f"The class '{classes[0]}' is rather small."],
        "skipped": [{"name": f"{SCRIPT}.jpg", "code": "image.unreadable", "reason": SCRIPT}],
        "duplicates": [{"name": "a.jpg", "same_as": f"{SCRIPT}.jpg"}],
        "conflicts": [{"name": "a.jpg", "same_as": "b.jpg", "labels": [SCRIPT, "Audi"]}],
    }


def suspects(classes: Sequence[str], count: int = 60) -> list[dict[str, Any]]:
    """Lines of suspects.jsonl, the most suspicious first."""
    return [
        {
            "channel": "train",
            "record": record,
            "name": f"{classes[record % len(classes)]}/{record}.jpg",
            "label": classes[record % len(classes)],
            "likely": classes[(record + 1) % len(classes)],
            "probability": 0.001 * (record + 1),
            "likely_probability": 0.99 - 0.001 * record,
        }
        for record in range(count)
    ]


PROBE: dict[str, Any] = {
    "recipe": "probe",
    "accuracy": {"train": 1.0, "validation": 0.8},
    "seconds": {"features": 8.0, "head": 2.5},
    "cross_validation": {
        "l2": 1e-4,
        "path": [
            {"l2": 10.0**-step, "loss": 2.0 - 0.3 * step, "accuracy": 0.4 + 0.1 * step}
            for step in range(6)
        ],
    },
}
