"""Small ONNX networks in the form that our trainer writes."""

import json
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.support.builders import artefact

HEIGHT, WIDTH = 12, 20


def colours(
    height: int = HEIGHT, width: int = WIDTH, *, swapped: bool = False, opset: int = 17
) -> onnx.ModelProto:
    """Tells "blue" from "red", in this order unless swapped; the novelty is the mean green."""
    columns = np.array([[-1, 1], [0, 0], [1, -1]], np.float32) / 32
    constants = {
        "weight": columns[:, ::-1] if swapped else columns,
        "green": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["means"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["means", "weight"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        helper.make_node("Gather", ["means", "green"], ["column"], axis=1),
        helper.make_node("ReduceSum", ["column", "green"], ["novelty"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", height, width, 3])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2]),
            helper.make_tensor_value_info("novelty", TensorProto.FLOAT, ["N"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def preprocessing(height: int = HEIGHT, width: int = WIDTH, **changes: Any) -> bytes:
    """The trainer's preprocessing.json."""
    document = {
        "width": width,
        "height": height,
        "resize": "squash",
        "filter": "bilinear",
        "input": "uint8 NHWC RGB",
    }
    return json.dumps({**document, **changes}).encode()


def archive(network: onnx.ModelProto | None = None, **more: bytes) -> bytes:
    """A model archive with the network; more: further files, `_` for the dot."""
    files = {"model.onnx": (network or colours()).SerializeToString()}
    files["preprocessing.json"] = preprocessing()
    files |= {name.replace("_", "."): content for name, content in more.items()}
    return artefact(*files.items())
