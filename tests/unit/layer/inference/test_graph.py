"""Only networks as our trainer writes them are read by ONNX Runtime inside Lambda."""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from droplens.inference import graph
from droplens.inference.graph import Signature, UnknownNetwork, signature
from tests.support.networks import HEIGHT, WIDTH, colours
from trainer import artefact

WHOLE = colours().SerializeToString()
OUTPUTS = ("probabilities", "novelty")


def test_the_signature_of_a_network() -> None:
    assert signature(WHOLE) == Signature(HEIGHT, WIDTH, 2, OUTPUTS)


def test_trainer_and_functions_name_inputs_and_outputs_alike() -> None:
    for name in ("PROBABILITIES", "NOVELTY", "FINE_MAP", "COARSE_MAP", "EXPLAIN"):
        assert getattr(artefact, name) == getattr(graph, name)


def _operator(model: onnx.ModelProto, name: str = "Loop", domain: str = "") -> None:
    model.graph.node.append(helper.make_node(name, [], ["x"], domain=domain))


def _in_a_branch(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([helper.make_node("Scan", [], ["x"])], "inner", [], [])
    model.graph.node.append(helper.make_node("If", [], ["y"], then_branch=inner))


def _nested(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([], "inner", [], [])
    for _ in range(8):
        node = helper.make_node("If", [], ["y"], then_branch=inner)
        inner = helper.make_graph([node], "inner", [], [])
    model.graph.node.append(helper.make_node("If", [], ["y"], then_branch=inner))


def _elsewhere(model: onnx.ModelProto) -> None:
    weights = model.graph.initializer.add()
    weights.CopyFrom(numpy_helper.from_array(np.zeros(1, np.float32), "elsewhere"))
    weights.data_location = TensorProto.EXTERNAL
    entry = weights.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"


def _set_elsewhere(weights: onnx.TensorProto) -> None:
    weights.data_location = TensorProto.EXTERNAL


def _somewhere(model: onnx.ModelProto) -> None:
    _set_elsewhere(model.graph.initializer.add())


def _in_an_attribute(change: Callable[[onnx.AttributeProto], Any]) -> Any:
    """A known operator with an attribute that `change` fills."""

    def changed(model: onnx.ModelProto) -> None:
        node = helper.make_node("Identity", [], ["x"])
        change(node.attribute.add())
        model.graph.node.append(node)

    return changed


def _scan(into: onnx.GraphProto) -> None:
    into.node.append(helper.make_node("Scan", [], ["x"]))


def _sparse(model: onnx.ModelProto) -> None:
    node = helper.make_node("Constant", [], ["x"])
    attribute = node.attribute.add()
    attribute.name, attribute.type = "sparse_value", onnx.AttributeProto.SPARSE_TENSOR
    weights = attribute.sparse_tensor.values
    weights.data_location = TensorProto.EXTERNAL
    entry = weights.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    model.graph.node.append(node)


def _sparse_initializer(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add().values.name = "weights"


def _function(model: onnx.ModelProto) -> None:
    model.functions.add().name = "own"


def _training(model: onnx.ModelProto) -> None:
    model.training_info.add().algorithm.name = "step"


def _many(model: onnx.ModelProto) -> None:
    for letter in "fedcba":
        _operator(model, letter * 100)


def _input(name: str, kind: int, shape: list[Any]) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        del model.graph.input[:]
        model.graph.input.append(helper.make_tensor_value_info(name, kind, shape))

    return change


def _output(name: str, shape: list[Any]) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        output = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        model.graph.output[0].CopyFrom(output)

    return change


def _explain(kind: int, shape: list[Any]) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.input.append(helper.make_tensor_value_info("explain", kind, shape))

    return change


def _opset(version: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = version

    return change


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (_operator, "operators that no network of ours has: Loop"),
        (lambda model: _operator(model, "Own", "com.example"), "operators of com.example"),
        (_in_a_branch, "Scan"),
        (_nested, "nested too deeply"),
        (_in_an_attribute(lambda one: _scan(one.g)), "Scan"),
        (_in_an_attribute(lambda one: _scan(one.graphs.add())), "Scan"),
        (_elsewhere, "in other files"),
        (_somewhere, "in other files"),
        (_in_an_attribute(lambda one: _set_elsewhere(one.t)), "in other files"),
        (_in_an_attribute(lambda one: _set_elsewhere(one.tensors.add())), "in other files"),
        (_in_an_attribute(lambda one: one.sparse_tensors.add()), "sparse weights"),
        (_sparse, "sparse weights"),
        (_sparse_initializer, "sparse weights"),
        (_function, "functions"),
        (_training, "training steps"),
        (_many, ": " + ", ".join(letter * 60 for letter in "abcde") + "$"),
        (_input("picture", TensorProto.UINT8, ["N", 8, 8, 3]), "its inputs are picture"),
        (_input("image", TensorProto.FLOAT, ["N", 8, 8, 3]), "shape"),
        (_input("image", TensorProto.UINT8, ["N", 3, 8, 8]), "shape"),
        (_input("image", TensorProto.UINT8, ["N", 8, "w", 3]), "0 x 8 pixels"),
        (_input("image", TensorProto.UINT8, ["N", "h", 8, 3]), "8 x 0 pixels"),
        (_input("image", TensorProto.UINT8, ["N", 8, 1025, 3]), "1025 x 8 pixels"),
        (_input("image", TensorProto.UINT8, ["N", 1025, 8, 3]), "8 x 1025 pixels"),
        (_input("image", TensorProto.UINT8, ["N", 8, 8]), "shape"),
        (_explain(TensorProto.BOOL, [1]), "truth value"),
        (_explain(TensorProto.FLOAT, []), "truth value"),
        (_output("scores", ["N", 2]), "without probabilities"),
        (_output("probabilities", ["N", "n"]), "shape"),
        (_output("probabilities", ["N"]), "shape"),
        (_opset(16), "operator set 16, expected 17 to 21"),
        (_opset(22), "operator set 22"),
    ],
)
def test_any_other_network_is_refused_with_its_reason(change: Any, what: str) -> None:
    model = colours()
    change(model)
    with pytest.raises(UnknownNetwork, match=what):
        signature(model.SerializeToString())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_input("image", TensorProto.UINT8, ["N", 1, 1024, 3]), Signature(1, 1024, 2, OUTPUTS)),
        (_input("image", TensorProto.UINT8, ["N", 1024, 1, 3]), Signature(1024, 1, 2, OUTPUTS)),
        (_output("probabilities", ["N", 1]), Signature(HEIGHT, WIDTH, 1, OUTPUTS)),
        (_explain(TensorProto.BOOL, []), Signature(HEIGHT, WIDTH, 2, OUTPUTS)),
        (_opset(17), Signature(HEIGHT, WIDTH, 2, OUTPUTS)),
        (_opset(21), Signature(HEIGHT, WIDTH, 2, OUTPUTS)),
    ],
)
def test_the_least_and_the_most_that_a_network_may_have(change: Any, expected: Signature) -> None:
    model = colours()
    change(model)
    assert signature(model.SerializeToString()) == expected


@pytest.mark.parametrize("depth", [3, 4])
def test_branches_are_read_up_to_their_deepest(depth: int) -> None:
    model, inner = colours(), helper.make_graph([helper.make_node("Scan", [], ["x"])], "g", [], [])
    for _ in range(depth):
        node = helper.make_node("If", [], ["y"], then_branch=inner)
        inner = helper.make_graph([node], "g", [], [])
    model.graph.node.extend(inner.node)
    with pytest.raises(UnknownNetwork, match="Scan"):
        signature(model.SerializeToString())


@pytest.mark.parametrize(
    "unknown",
    [
        b"\xa0\x06\x01",  # field 100: a number,
        b"\xa0\x06" + b"\xff" * 9 + b"\x01",  # the largest one,
        b"\xa1\x06" + bytes(8),  # eight bytes,
        b"\xa2\x06\x80\x01" + bytes(128),  # 128 bytes, whose length takes two
        b"\xa5\x06" + bytes(4),  # four bytes
    ],
)
def test_fields_that_are_not_known_are_skipped(unknown: bytes) -> None:
    assert signature(unknown + WHOLE) == Signature(HEIGHT, WIDTH, 2, OUTPUTS)


def test_a_graph_that_another_one_is_merged_with_is_checked_too() -> None:
    """Protocol Buffers reads two messages in one file as one: "Last One Wins", but for messages."""
    bad = onnx.ModelProto()
    _operator(bad)
    data = bad.SerializeToString() + colours().SerializeToString()
    merged = onnx.ModelProto.FromString(data)
    assert "Loop" in [node.op_type for node in merged.graph.node]
    with pytest.raises(UnknownNetwork, match="Loop"):
        signature(data)


def test_another_output_is_refused() -> None:
    model = colours()
    model.graph.output[1].name = "secret"
    with pytest.raises(UnknownNetwork, match="secret"):
        signature(model.SerializeToString())


@pytest.mark.parametrize("data", [b"", b"no network", b"\x08", b"\xff" * 40, b"PK\x03\x04" * 9])
def test_what_is_no_network_is_refused(data: bytes) -> None:
    with pytest.raises(UnknownNetwork, match="it is no"):
        signature(data)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255), st.integers(0, len(WHOLE)))
def test_a_damaged_network_has_a_signature_or_is_refused(
    where: int, value: int, length: int
) -> None:
    damaged = bytearray(WHOLE)
    damaged[where] = value
    for data in (bytes(damaged), WHOLE[:length]):
        with contextlib.suppress(UnknownNetwork):
            signature(data)
