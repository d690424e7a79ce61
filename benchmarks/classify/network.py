"""A small ONNX network, in the form that our trainer writes, for models that need no training."""

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto, helper, numpy_helper

SIDE = 96
_CELL = 12  # pixels of a side of the squares whose means it weighs
_DEVIATION = 0.006  # of the weights: probabilities are then neither all equal nor all 0 and 1


def network(names: Sequence[str], seed: int) -> bytes:
    """An ONNX file of class scores by fixed random weights; another `seed` gives other weights."""
    cells = 3 * (SIDE // _CELL) ** 2
    weights = np.random.default_rng(seed).normal(0, _DEVIATION, (cells, len(names)))
    constants = {
        "weights": weights.astype(np.float32),
        "middle": np.array(127.5, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["float", "middle"], ["centred"]),
        helper.make_node("Transpose", ["centred"], ["channels"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "AveragePool", ["channels"], ["pooled"], kernel_shape=[_CELL] * 2, strides=[_CELL] * 2
        ),
        helper.make_node("Flatten", ["pooled"], ["cells"]),
        helper.make_node("MatMul", ["cells", "weights"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", len(names)])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()
