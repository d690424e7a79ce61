"""The artefact: backbone, head, temperature and softmax as one ONNX graph, and what goes beside it.

model.onnx           `image` uint8 [N, H, W, 3] to `probabilities` float32 [N, classes]
classes.json         the class names; position is the number in the records
preprocessing.json   how a picture becomes `image`
training.json        how the model came to be and how good it is
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trainer.head import Head
from trainer.preprocess import Squash

MODEL_FILE = "model.onnx"
CLASSES_FILE = "classes.json"
TRAINING_FILE = "training.json"


def assemble(backbone: onnx.ModelProto, head: Head, squash: Squash) -> onnx.ModelProto:
    """Put `head` on `backbone`: any number of pictures, of exactly the shape trained on."""
    model = onnx.ModelProto()
    model.CopyFrom(backbone)
    graph = model.graph
    height, width = graph.input[0].type.tensor_type.shape.dim[1:3]
    height.dim_value, width.dim_value = squash.height, squash.width
    graph.initializer.extend(
        [
            numpy_helper.from_array(head.weight, "head.weight"),
            numpy_helper.from_array(head.bias, "head.bias"),
            numpy_helper.from_array(np.array(head.temperature, np.float32), "head.temperature"),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("Gemm", ["features", "head.weight", "head.bias"], ["scores"]),
            helper.make_node("Div", ["scores", "head.temperature"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ]
    )
    del graph.output[:]
    shape: list[str | int | None] = ["N", len(head.bias)]
    graph.output.append(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, shape))
    onnx.checker.check_model(model, full_check=True)
    return model


def write_artefact(
    folder: Path,
    model: onnx.ModelProto,
    classes: list[str],
    squash: Squash,
    training: dict[str, Any],
) -> None:
    """Write the four files, the model last: where it is, the others are whole."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / CLASSES_FILE, classes)
    squash.write(folder)
    _write_json(folder / TRAINING_FILE, training)
    onnx.save(model, os.fspath(folder / MODEL_FILE))


def read_classes(path: Path) -> list[str]:
    """The class names of a classes.json. Raises ValueError where it holds anything else."""
    classes = json.loads(path.read_text("utf-8"))
    if not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
        raise ValueError(f"{path} must hold a JSON list of class names")
    return classes


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")
