"""Combine backbone, head and novelty in one ONNX graph from pixels to its two outputs."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trainer.artefact import NOVELTY, PROBABILITIES
from trainer.data.preprocess import Resize
from trainer.nets.class_map import add_class_maps
from trainer.recipes.novelty import LEAST, Novelty
from trainer.recipes.ridge_head import Head


def assemble(
    backbone: onnx.ModelProto, head: Head, novelty: Novelty, resize: Resize
) -> onnx.ModelProto:
    """From any number of images of `resize`'s size to PROBABILITIES and NOVELTY.

    The novelty is that of the backbone's last features, as many as it has channels.
    """
    model = onnx.ModelProto()
    model.CopyFrom(backbone)
    graph = model.graph
    height, width = graph.input[0].type.tensor_type.shape.dim[1:3]
    height.dim_value, width.dim_value = resize.height, resize.width
    del graph.output[:]
    _add_head(graph, head)
    _add_novelty(graph, novelty)
    add_class_maps(graph)
    onnx.checker.check_model(model, full_check=True)
    return model


def _add_head(graph: onnx.GraphProto, head: Head) -> None:
    """Scores, their temperature, and probabilities.

    Quantisation to int8 must not touch these nodes: none of them is of its operators.
    """
    temperature = head.temperature
    constants = {
        "weight": head.weight,
        "bias": head.bias,
        "low": temperature.low,
        "high": temperature.high,
        "slope": temperature.slope,
        "offset": temperature.offset,
    }
    node = _nodes(graph, "head", constants)
    scores = node("Gemm", ["features", "head.weight", "head.bias"], "scores")
    x = node("ReduceMax", [scores], "head.highest", axes=[1], keepdims=1)
    x = node("Max", [x, "head.low"], "head.from_low")
    x = node("Min", [x, "head.high"], "head.clipped")
    x = node("Mul", [x, "head.slope"], "head.product")
    x = node("Sub", [x, "head.offset"], "head.exponent")
    x = node("Exp", [x], "head.temperature")
    x = node("Div", [scores, x], "logits")
    node("Softmax", [x], PROBABILITIES, axis=1)
    shape: list[str | int | None] = ["N", len(head.bias)]
    graph.output.append(helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, shape))


def _add_novelty(graph: onnx.GraphProto, novelty: Novelty) -> None:
    node = _nodes(graph, "novelty", {"least": LEAST, **asdict(novelty)})
    slices = {"first": -len(novelty.mean), "end": np.iinfo(np.int64).max, "axis": 1}
    graph.initializer.extend(
        numpy_helper.from_array(np.array([value], np.int64), f"novelty.{name}")
        for name, value in slices.items()
    )
    x = node(
        "Slice", ["features", "novelty.first", "novelty.end", "novelty.axis"], "novelty.channels"
    )
    norm = node("ReduceL2", [x], "novelty.norm", axes=[1], keepdims=1)
    divisor = node("Max", [norm, "novelty.least"], "novelty.divisor")
    x = node("Div", [x, divisor], "novelty.normalised")
    x = node("Sub", [x, "novelty.mean"], "novelty.difference")
    x = node("MatMul", [x, "novelty.whitening"], "novelty.whitened")
    node("ReduceSumSquare", [x], NOVELTY, axes=[1], keepdims=0)
    graph.output.append(helper.make_tensor_value_info(NOVELTY, TensorProto.FLOAT, ["N"]))


def _nodes(graph: onnx.GraphProto, prefix: str, constants: Mapping[str, Any]) -> Callable[..., str]:
    """Add float32 constants; returns a function that adds a node and returns its output's name."""
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value, np.float32), f"{prefix}.{name}")
        for name, value in constants.items()
    )

    def node(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        graph.node.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    return node
