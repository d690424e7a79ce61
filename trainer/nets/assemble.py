"""Combine backbone and head in one ONNX graph from pixels to probabilities."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trainer.data.preprocess import Resize
from trainer.recipes.ridge_head import Head


def assemble(backbone: onnx.ModelProto, head: Head, resize: Resize) -> onnx.ModelProto:
    """Backbone, head, temperature and softmax, for any number of images of `resize`'s size."""
    model = onnx.ModelProto()
    model.CopyFrom(backbone)
    graph = model.graph
    height, width = graph.input[0].type.tensor_type.shape.dim[1:3]
    height.dim_value, width.dim_value = resize.height, resize.width
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
