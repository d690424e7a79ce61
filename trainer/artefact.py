"""The files of a trained model.

model.onnx: `image` uint8 [N, height, width, 3] to `probabilities` float32 [N, classes] and
`novelty` float32 [N], the greater the less like the training images; models of earlier versions
have no `novelty`;
model.int8.onnx: the same in 8-bit integers, where that was found as accurate and faster;
classes.json: the class names, in the order of the probabilities;
preprocessing.json: how an encoded image becomes `image`;
training.json: settings, data, accuracies, timings and versions of the training;
suspects.jsonl: training records whose label may be wrong, the most suspicious first;
weights.pt: of recipe `finetune`, for a later job to train further; serving does not read it.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from droplens.inference import graph

MODEL_FILE = "model.onnx"
INT8_FILE = "model.int8.onnx"
CLASSES_FILE = "classes.json"
PREPROCESSING_FILE = "preprocessing.json"
TRAINING_FILE = "training.json"
SUSPECTS_FILE = "suspects.jsonl"
WEIGHTS_FILE = "weights.pt"

# The outputs of a graph, which are fetched by these names.
PROBABILITIES, NOVELTY = graph.PROBABILITIES, graph.NOVELTY
# Which regions speak for the most probable class, where the input EXPLAIN is true.
FINE_MAP, COARSE_MAP = graph.FINE_MAP, graph.COARSE_MAP
EXPLAIN = graph.EXPLAIN


def served(folder: Path) -> Path:
    """The graph that serving takes: the int8 variant where training has kept one."""
    int8 = folder / INT8_FILE
    return int8 if int8.exists() else folder / MODEL_FILE


def read_classes(path: Path) -> list[str]:
    """The class names of a classes.json. Raises ValueError where it holds anything else."""
    classes = json.loads(path.read_text("utf-8"))
    if not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
        raise ValueError(f"{path} must hold a JSON list of class names")
    return classes


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON in UTF-8."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")


def write_json_lines(path: Path, values: Iterable[Any]) -> None:
    """Write each value as a line of JSON in UTF-8."""
    lines = (json.dumps(value, ensure_ascii=False) + "\n" for value in values)
    path.write_text("".join(lines), "utf-8")
