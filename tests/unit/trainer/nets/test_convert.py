"""The converted backbone computes what the pretrained network computes, and reads nothing else."""

import dataclasses
import pickle
import struct
import sys
from collections import OrderedDict
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from trainer.nets.convert import (
    Weights,
    build_backbone,
    choose_pairs,
    read_state_dict,
    read_weights,
)
from trainer.nets.pretrained import WeightsError
from trainer.nets.specification import LITE0, LITE2, PACKAGED, WHOLE_PRODUCTS, Specification

# Of the blocks, by the paper's table 1 and its repeats times 1 and 1.2; only the first one does not
# expand.
STRIDES = {
    "efficientnet-lite0": (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1),
    "efficientnet-lite2": (1, 2, 1, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1),
}
# The last block before the one that halves the image the last time, and its channels.
PARTS = {"efficientnet-lite0": (10, 112), "efficientnet-lite2": (14, 120)}
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
Array = NDArray[Any]


@pytest.fixture(scope="module", params=PACKAGED.values(), ids=list(PACKAGED))
def net(request: pytest.FixtureRequest) -> Specification:
    return request.param


@pytest.fixture(scope="module")
def weights(net: Specification) -> Weights:
    return read_weights(net)


@pytest.fixture(scope="module")
def session(net: Specification, weights: Weights) -> onnxruntime.InferenceSession:
    model = build_backbone(net, weights).SerializeToString()
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def convolve(x: Array, weight: Array, stride: int = 1, groups: int = 1) -> Array:
    """A plain convolution of x [C, H, W] under TensorFlow's SAME padding."""
    kernel = weight.shape[2]
    pads = []
    for side in x.shape[1:]:
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        pads.append((total // 2, total - total // 2))
    padded = np.pad(x, [(0, 0), *pads])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (1, kernel, kernel))[:, :, :, 0]
    windows = windows[:, ::stride, ::stride]
    if groups == 1:
        return np.einsum("chwij,ocij->ohw", windows, weight, optimize=True)
    return np.einsum("chwij,cij->chw", windows, weight[:, 0])


def forward(name: str, weights: Weights, image: Array) -> Array:
    """The features of one picture, straight from the papers: nothing folded, all in float64."""

    def norm(x: Array, name: str) -> Array:
        mean, var = (weights[f"{name}.running_{part}"] for part in ("mean", "var"))
        gain, shift = weights[f"{name}.weight"], weights[f"{name}.bias"]
        scaled = (x - mean[:, None, None]) / np.sqrt(var[:, None, None] + 1e-3)
        return scaled * gain[:, None, None] + shift[:, None, None]

    def relu6(x: Array) -> Array:
        return np.minimum(np.maximum(x, 0), 6)

    def products(x: Array, wanted: int) -> Array:
        flat = x.reshape(len(x), -1)
        square = (flat @ flat.T / flat.shape[1]).ravel()[choose_pairs(len(x), wanted)]
        return np.sign(square) * np.sqrt(np.abs(square))

    x = ((image.astype(np.float64) - 127) / 128).transpose(2, 0, 1)
    x = relu6(norm(convolve(x, weights["_conv_stem.weight"], 2), "_bn0"))
    parts: Array = np.empty(0)
    for index, stride in enumerate(STRIDES[name]):
        block = f"_blocks.{index}"
        y = x
        if index > 0:
            y = relu6(norm(convolve(y, weights[f"{block}._expand_conv.weight"]), f"{block}._bn0"))
        depthwise = weights[f"{block}._depthwise_conv.weight"]
        y = relu6(norm(convolve(y, depthwise, stride, len(y)), f"{block}._bn1"))
        y = norm(convolve(y, weights[f"{block}._project_conv.weight"]), f"{block}._bn2")
        x = x + y if x.shape == y.shape else y
        if index == PARTS[name][0]:
            parts = products(x, len(x) * (len(x) + 1) // 2)
    whole = products(x, WHOLE_PRODUCTS)
    means = relu6(norm(convolve(x, weights["_conv_head.weight"]), "_bn1")).mean(axis=(1, 2))
    return np.concatenate([parts, whole, np.sqrt(means)])


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 47), (96, 70)])
def test_the_backbone_computes_what_a_plain_reading_of_the_network_does(
    net: Specification,
    weights: Weights,
    session: onnxruntime.InferenceSession,
    height: int,
    width: int,
) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    image = np.kron(coarse, np.ones((12, 12, 1), np.uint8))[:height, :width]
    features = session.run(["features"], {"image": image[None]})[0][0]
    expected = forward(net.name, weights, image)
    assert features.shape == expected.shape == (net.features,)
    assert expected.std() > 0.1
    np.testing.assert_allclose(features**2, expected**2, atol=2e-4, rtol=2e-3)


def test_pictures_in_one_batch_do_not_change_each_other(
    session: onnxruntime.InferenceSession,
) -> None:
    images = np.random.default_rng(3).integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)
    together = session.run(["features"], {"image": images})[0]
    apart = np.concatenate([session.run(["features"], {"image": each[None]})[0] for each in images])
    np.testing.assert_allclose(together, apart, atol=1e-3)


def test_the_pretrained_network_is_whole(net: Specification, weights: Weights) -> None:
    blocks = {name.split(".")[1] for name in weights if name.startswith("_blocks.")}
    assert len(blocks) == len(net.blocks) == len(STRIDES[net.name])
    assert weights["_fc.weight"].shape == (1000, 1280)
    assert all(np.isfinite(tensor).all() for tensor in weights.values())


def test_pairs_are_different_and_always_the_same() -> None:
    for net in PACKAGED.values():
        assert (net.part_block, net.part_channels) == PARTS[net.name]
        assert len(choose_pairs(net.part_channels, net.part_products)) == net.part_products
    assert LITE0.features == 112 * 113 // 2 + WHOLE_PRODUCTS + 1280
    assert LITE2.features == 120 * 121 // 2 + WHOLE_PRODUCTS + 1280
    pairs = choose_pairs(320, WHOLE_PRODUCTS)
    assert len(set(pairs.tolist())) == WHOLE_PRODUCTS
    assert (pairs // 320 <= pairs % 320).all()
    np.testing.assert_array_equal(pairs, choose_pairs(320, WHOLE_PRODUCTS))


def test_another_file_is_refused_by_its_digest() -> None:
    with pytest.raises(WeightsError, match=f"SHA-256 is {LITE0.sha256}, expected 00"):
        read_weights(dataclasses.replace(LITE0, sha256="00"))


def test_a_package_that_is_missing_is_named() -> None:
    with pytest.raises(WeightsError, match="package no-such-weights is not installed"):
        read_weights(dataclasses.replace(LITE0, package="no_such_weights"))


class _Storage:
    """Pickled as PyTorch pickles a storage: by a persistent id."""

    def __init__(self, kind: type, values: Array) -> None:
        self.kind, self.values = kind, values


class _View:
    """Pickled as PyTorch pickles a tensor: a call over a storage."""

    def __init__(self, rebuild: Any, storage: _Storage, offset: int, shape: Any, strides: Any):
        self.call: Any = (rebuild, (storage, offset, shape, strides, False, OrderedDict()))

    def __reduce__(self) -> Any:
        return self.call


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, _Storage):
            return ("storage", obj.kind, "7", "cpu", len(obj.values), None)
        return None


def _rebuild_tensor_v2(*_: Any) -> None:
    raise AssertionError("never called: the reader has its own")


@pytest.fixture
def torch_names(monkeypatch: pytest.MonkeyPatch) -> tuple[type, Any]:
    """A module `torch` with no more than the names that a state dict's pickle needs."""
    torch, utils = ModuleType("torch"), ModuleType("torch._utils")
    storage = type("FloatStorage", (), {"__module__": "torch"})
    monkeypatch.setattr(_rebuild_tensor_v2, "__module__", "torch._utils")
    torch.FloatStorage = storage  # type: ignore[attr-defined]
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return storage, _rebuild_tensor_v2


def test_a_state_dict_in_the_legacy_format_is_read_strides_and_all(
    torch_names: tuple[type, Any],
) -> None:
    kind, rebuild = torch_names
    values = np.arange(12, dtype="<f4")
    storage = _Storage(kind, values)
    file = BytesIO()
    for plain in (LEGACY_MAGIC, 1001, {"little_endian": True}):
        pickle.dump(plain, file, protocol=2)
    views = {
        "rows": _View(rebuild, storage, 0, (3, 4), (4, 1)),
        "columns": _View(rebuild, storage, 0, (4, 3), (1, 4)),
        "tail": _View(rebuild, storage, 8, (4,), (1,)),
        "scalar": _View(rebuild, storage, 5, (), ()),
    }
    _Pickler(file, protocol=2).dump(OrderedDict(views))
    pickle.dump(["7"], file, protocol=2)
    file.write(struct.pack("<q", 12) + values.tobytes())
    file.seek(0)
    read = read_state_dict(file)
    np.testing.assert_array_equal(read["rows"], values.reshape(3, 4))
    np.testing.assert_array_equal(read["columns"], values.reshape(3, 4).T)
    np.testing.assert_array_equal(read["tail"], values[8:])
    assert read["scalar"] == 5


class _Attack:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize("attacked", range(4))
def test_a_pickle_that_calls_anything_else_is_refused_unrun(tmp_path: Path, attacked: int) -> None:
    marker = tmp_path / "called"
    plain: list[Any] = [LEGACY_MAGIC, 1001, {}, OrderedDict()]
    plain[attacked] = _Attack(marker)
    file = BytesIO(b"".join(pickle.dumps(value, protocol=2) for value in plain))
    with pytest.raises(WeightsError, match="not allowed"):
        read_state_dict(file)
    assert not marker.exists()


def test_another_format_is_refused() -> None:
    with pytest.raises(WeightsError, match="legacy format"):
        read_state_dict(BytesIO(pickle.dumps({"weight": 1})))
