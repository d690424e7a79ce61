"""Combine backbone, head and novelty in one ONNX graph from pixels to its two outputs."""

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
            helper.make_node("Softmax", ["logits"], [PROBABILITIES], axis=1),
        ]
    )
    shape: list[str | int | None] = ["N", len(head.bias)]
    graph.output.append(helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, shape))


def _add_novelty(graph: onnx.GraphProto, novelty: Novelty) -> None:
    constants = {
        "first": np.array([-len(novelty.mean)]),
        "end": np.array([np.iinfo(np.int64).max]),
        "axis": np.array([1]),
        "least": np.array(LEAST, np.float32),
        "mean": novelty.mean,
        "whitening": novelty.whitening,
    }
    graph.initializer.extend(
        numpy_helper.from_array(value, f"novelty.{name}") for name, value in constants.items()
    )

    def node(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        graph.node.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

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
