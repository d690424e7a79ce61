"""Graph outputs that say which regions of an image speak for its most probable class.

A class's score is a weighted sum of features, and a feature is a mean over the P positions of a
feature map, or a root of one. So a score splits into one share a position (class activation
mapping; Zhou et al., 2016, arXiv:1512.04150). With the class's weight w of the feature:

    mean m of a channel h:                             w h / P
    its root:                                          w h / (P sqrt(m))
    signed root of the mean product q of a and b:      w a b / (P sqrt(|q|))

The shares of all positions sum to the score less its bias. Those of means are exact; those of roots
are proportional to what each position adds to the mean under the root.

They are computed in a branch that runs only where the graph's input EXPLAIN is fed as true. (ONNX
Runtime runs all nodes, whichever outputs are fetched; RunOptions.only_execute_path_to_fetches has
no effect in its packages.)
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from trainer.artefact import COARSE_MAP, EXPLAIN, FINE_MAP, PROBABILITIES

# In place of smaller roots. A mean product may be nearly 0 although its parts are not, and shares
# divided by its root would be large numbers that cancel out.
LEAST = 1e-4
LOWEST = np.finfo(np.float32).min


def add_class_maps(graph: onnx.GraphProto) -> None:
    """Add EXPLAIN, false unless fed, and outputs float32 [N, h, w]; without EXPLAIN [0, 0, 0].

    COARSE_MAP for features that are pooled by GlobalAveragePool; FINE_MAP too for the products of
    channels of `convert`; nothing for others. graph: with the head's weights and PROBABILITIES.
    """
    made = {output: node for node in graph.node for output in node.output}
    features = made["features"]
    has_products = features.op_type == "Concat" and features.input[0].endswith(".products")
    if not has_products and not _are_pooled(features, made):
        return
    maps = _Maps(graph, made)
    outputs = {}
    if has_products:
        fine, coarse = (name.removesuffix(".products") for name in features.input[:2])
        products = maps.count(fine)
        outputs[FINE_MAP] = maps.of_products(fine, first=0)
        of_products = maps.of_products(coarse, first=products)
        first, roots = products + maps.count(coarse), features.input[2]
        of_means = maps.of_means("channel_means", first=first, roots=roots)
        outputs[COARSE_MAP] = maps.node("Add", [of_products, of_means], "coarse")
    else:
        outputs[COARSE_MAP] = maps.of_means("features", first=0)
    _add_branch(graph, maps, outputs)


def _are_pooled(features: onnx.NodeProto, made: dict[str, onnx.NodeProto]) -> bool:
    pooled = made.get(features.input[0])
    return features.op_type == "Flatten" and bool(pooled and pooled.op_type == "GlobalAveragePool")


def _add_branch(graph: onnx.GraphProto, maps: "_Maps", outputs: dict[str, str]) -> None:
    """The nodes of `maps` in a branch on EXPLAIN. outputs: their tensors by names of outputs."""

    def declared(name: str) -> onnx.ValueInfoProto:
        shape = [f"{name}.{axis}" for axis in ("n", "h", "w")]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    then = helper.make_graph(
        maps.nodes, "class_maps", [], [declared(name) for name in outputs.values()], maps.constants
    )
    none = numpy_helper.from_array(np.zeros((0, 0, 0), np.float32))
    names = [f"{name}.none" for name in outputs]
    absent = helper.make_graph(
        [helper.make_node("Constant", [], [name], value=none) for name in names],
        "no_class_maps",
        [],
        [declared(name) for name in names],
    )
    # An input with an initializer may be left out, and is then the initializer.
    graph.input.append(helper.make_tensor_value_info(EXPLAIN, TensorProto.BOOL, []))
    graph.initializer.append(numpy_helper.from_array(np.array(False), EXPLAIN))
    branch = helper.make_node("If", [EXPLAIN], list(outputs), then_branch=then, else_branch=absent)
    graph.node.append(branch)
    graph.output.extend(declared(name) for name in outputs)


class _Maps:
    """Collects nodes and constants; names of their tensors begin with "class_map"."""

    def __init__(self, graph: onnx.GraphProto, made: dict[str, onnx.NodeProto]) -> None:
        self.graph = graph
        self.made = made
        self.sizes = {each.name: list(each.dims) for each in graph.initializer}
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        graph.initializer.append(numpy_helper.from_array(np.array(LOWEST), "class_map.lowest"))
        self.channels = self.constant("channels", np.array([1]))
        best = self.node("ArgMax", [PROBABILITIES], "best", axis=1, keepdims=0)
        columns = self.node("Gather", ["head.weight", best], "columns", axis=1)
        self.weight = self.node("Transpose", [columns], "weight", perm=[1, 0])

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """A constant, float32 or int64."""
        name = f"class_map.{name}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def node(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """A node with one output."""
        name = name if name.startswith("class_map.") else f"class_map.{name}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def copy(self, x: str) -> str:
        """`x`, computed anew outside of the branch.

        In quantised graphs ONNX Runtime (1.32) moves DequantizeLinear past nodes that change no
        value, and aborts where a branch reads its output. It does not see that this Max is one.
        """
        name = f"class_map.copy.{x}"
        if name not in self.made:
            self.made[name] = helper.make_node("Max", [x, "class_map.lowest"], [name], name=name)
            self.graph.node.append(self.made[name])
        return name

    def count(self, x: str) -> int:
        """The number of products of channels of `x`."""
        return int(self.sizes[f"{x}.pairs"][0])

    def of_products(self, x: str, first: int) -> str:
        """[N, h, w] of the products of channels of `x` [N, C, h, w].

        first: place of the first product in the features.
        """
        weights = self._weights(x, first, self.count(x), f"{x}.roots")
        square = self.node("Shape", [f"{x}.square"], f"{x}.square_shape")
        zeros = self.node("ConstantOfShape", [square], f"{x}.zeros")
        pairs_shape = self.node("Shape", [weights], f"{x}.pairs_shape")
        pairs = self.node("Expand", [f"{x}.pairs", pairs_shape], f"{x}.pairs")
        scattered = self.node("ScatterElements", [zeros, pairs, weights], f"{x}.flat", axis=1)
        means = self.node("Shape", [f"{x}.means"], f"{x}.means_shape")
        matrix = self.node("Reshape", [scattered, means], f"{x}.matrix")
        positions = self._positions(x)
        weighted = self.node("MatMul", [matrix, positions], f"{x}.weighted")
        shares = self.node("Mul", [weighted, positions], f"{x}.shares")
        return self._map(x, self.node("ReduceSum", [shares, self.channels], f"{x}.sum", keepdims=0))

    def of_means(self, means: str, first: int, roots: str | None = None) -> str:
        """[N, h, w] of the tensor `means` [N, C], of a pooled feature map.

        first: place of its first channel in the features, the last of which they are; roots: the
        tensor of the roots that are features in place of the means.
        """
        x = self.made[self.made[means].input[0]].input[0]
        weights = self._weights(x, first, self.sizes["head.weight"][0] - first, roots)
        row = self.node("Unsqueeze", [weights, self.channels], f"{x}.row")
        positions = self._positions(x)
        return self._map(x, self.node("MatMul", [row, positions], f"{x}.sum"))

    def _weights(self, x: str, first: int, count: int, roots: str | None) -> str:
        """[N, count]: the class's weights of these features, divided by their roots and P."""
        bounds = [
            self.constant(f"{x}.{name}.{first}", np.array([place]))
            for name, place in (("first", first), ("stop", first + count))
        ]
        name = f"{x}.weights.{first}"
        weights = self.node("Slice", [self.weight, *bounds, self.channels], name)
        if roots is not None:
            least = self.constant(f"{name}.least", np.array(LEAST, np.float32))
            divisors = self.node("Max", [roots, least], f"{name}.divisors")
            weights = self.node("Div", [weights, divisors], f"{name}.divided")
        sides = self.node("Shape", [self.copy(x)], f"{name}.sides", start=2)
        area = self.node("ReduceProd", [sides], f"{name}.area", keepdims=0)
        positions = self.node("Cast", [area], f"{name}.count", to=TensorProto.FLOAT)
        return self.node("Div", [weights, positions], f"{name}.shares")

    def _positions(self, x: str) -> str:
        """`x` as [N, C, P]."""
        rows = self.constant(f"{x}.rows", np.array([0, 0, -1]))
        return self.node("Reshape", [self.copy(x), rows], f"{x}.positions")

    def _map(self, x: str, flat: str) -> str:
        """`flat`, [N, ..., P] with one row each, as [N, h, w]."""
        batch = self.node("Shape", [self.copy(x)], f"{flat}.batch", start=0, end=1)
        sides = self.node("Shape", [self.copy(x)], f"{flat}.sides", start=2)
        shape = self.node("Concat", [batch, sides], f"{flat}.shape", axis=0)
        return self.node("Reshape", [flat, shape], f"{flat}.map")
