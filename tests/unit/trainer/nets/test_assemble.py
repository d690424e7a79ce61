"""The assembled graph computes what head and novelty compute in NumPy, none of it in integers."""

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from trainer.data.preprocess import Resize
from trainer.nets.assemble import assemble
from trainer.nets.convert import IR_VERSION, OPSET
from trainer.nets.int8 import OPERATORS
from trainer.recipes.novelty import Novelty, fit_novelty
from trainer.recipes.ridge_head import Head
from trainer.recipes.temperature import Temperature

RESIZE = Resize(width=2, height=4)
FEATURES, CHANNELS, CLASSES = 24, 10, 5


def backbone() -> onnx.ModelProto:
    """The pixels are the features."""
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 3])
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", FEATURES])
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["pixels"], ["features"]),
    ]
    return helper.make_model(
        helper.make_graph(nodes, "pixels", [image], [features]),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )


def drawn_images() -> NDArray[np.uint8]:
    images = np.random.default_rng(1).integers(0, 256, (40, 4, 2, 3)).astype(np.uint8)
    images[0] = 0  # a norm of 0
    images[1] = 255
    return images


def features(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return images.reshape(len(images), -1).astype(np.float32)


@pytest.fixture
def head() -> Head:
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 0.001, (FEATURES, CLASSES)).astype(np.float32)
    bias = rng.normal(0, 0.1, CLASSES).astype(np.float32)
    return Head(weight, bias, Temperature(at_low=0.05, at_high=0.8, low=0.8, high=1.3))


@pytest.fixture
def novelty() -> Novelty:
    return fit_novelty(features(drawn_images())[::2, -CHANNELS:]).novelty


def test_both_outputs_are_those_of_head_and_novelty(head: Head, novelty: Novelty) -> None:
    model = assemble(backbone(), head, novelty, RESIZE)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    images = drawn_images()
    probabilities, novelties = session.run(["probabilities", "novelty"], {"image": images})
    x = features(images)
    highest = (x @ head.weight + head.bias).max(axis=1)
    # Below, between and above the scores that the temperature depends on.
    assert highest.min() < 0.8 < np.median(highest) < 1.3 < highest.max()
    assert probabilities.shape == (40, CLASSES)
    assert novelties.shape == (40,)
    np.testing.assert_allclose(probabilities, head.probabilities(x), atol=1e-5)
    np.testing.assert_allclose(novelties, novelty.of(x[:, -CHANNELS:]), rtol=1e-4)


def test_the_size_of_the_images_is_fixed_and_their_number_is_not(
    head: Head, novelty: Novelty
) -> None:
    model = assemble(backbone(), head, novelty, RESIZE)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    [image] = session.get_inputs()
    assert image.shape == ["N", 4, 2, 3]
    assert {each.name: each.shape for each in session.get_outputs()} == {
        "probabilities": ["N", CLASSES],
        "novelty": ["N"],
    }


def test_no_node_of_head_and_novelty_would_be_computed_in_integers(
    head: Head, novelty: Novelty
) -> None:
    before = backbone()
    after = assemble(before, head, novelty, RESIZE)
    added = {node.op_type for node in after.graph.node[len(before.graph.node) :]}
    assert {"Gemm", "MatMul"} <= added
    assert not added & set(OPERATORS)
