"""The class maps of a graph: shares of a class's score by position."""

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from trainer.artefact import COARSE_MAP, EXPLAIN, FINE_MAP, PROBABILITIES
from trainer.data.preprocess import Resize
from trainer.nets.assemble import assemble
from trainer.nets.class_map import add_class_maps
from trainer.nets.convert import (
    Weights,
    build_backbone,
    build_features,
    choose_pairs,
    read_weights,
)
from trainer.nets.int8 import quantize
from trainer.nets.specification import HEAD_CHANNELS, LITE0, PACKAGED, WHOLE_PRODUCTS, Specification
from trainer.recipes.novelty import fit_novelty
from trainer.recipes.ridge_head import Head
from trainer.recipes.temperature import Temperature

RESIZE = Resize(width=128, height=80)
CLASSES = 5

Array = NDArray[np.float32]


def model_of(backbone: onnx.ModelProto) -> onnx.ModelProto:
    """The backbone with a random head."""
    chance = np.random.default_rng(3)
    features = backbone.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    head = Head(
        chance.normal(0, 0.1, (features, CLASSES)).astype(np.float32),
        chance.normal(0, 1, CLASSES).astype(np.float32),
        Temperature.constant(0.5),
    )
    novelty = fit_novelty(chance.random((5, HEAD_CHANNELS), np.float32)).novelty
    return assemble(backbone, head, novelty, RESIZE)


def run(model: onnx.ModelProto, images: NDArray[np.uint8], *names: str) -> dict[str, Array]:
    """The tensors of these names, whether or not they are outputs."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    outputs = {output.name for output in watched.graph.output}
    for name in set(names) - outputs:
        watched.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(
        watched.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    inputs = {"image": images, EXPLAIN: np.array(True)}
    return dict(zip(names, session.run(list(names), inputs), strict=True))


def initializer(model: onnx.ModelProto, name: str) -> Array:
    [found] = [each for each in model.graph.initializer if each.name == name]
    array: Array = onnx.numpy_helper.to_array(found)
    return array


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    """Noise, a plain grey image, and one whose lower half is black."""
    chance = np.random.default_rng(7)
    made = chance.integers(0, 256, (3, RESIZE.height, RESIZE.width, 3)).astype(np.uint8)
    made[1] = 128
    made[2, RESIZE.height // 2 :] = 0
    return made


@pytest.mark.parametrize("net", PACKAGED.values(), ids=PACKAGED)
def test_the_shares_of_all_positions_sum_to_the_score_without_its_bias(
    net: Specification, images: NDArray[np.uint8]
) -> None:
    model = model_of(build_backbone(net, read_weights(net)))
    found = run(model, images, PROBABILITIES, "scores", FINE_MAP, COARSE_MAP)
    best = found[PROBABILITIES].argmax(1)
    scores = found["scores"][np.arange(len(images)), best]
    bias = initializer(model, "head.bias")[best]
    shares = found[FINE_MAP].sum((1, 2)) + found[COARSE_MAP].sum((1, 2))
    assert found[FINE_MAP].shape == (3, 5, 8)
    assert found[COARSE_MAP].shape == (3, 3, 4)
    assert shares == pytest.approx(scores - bias, rel=1e-3, abs=1e-3)


def test_each_share_is_what_the_position_adds_to_each_feature(images: NDArray[np.uint8]) -> None:
    """The maps computed from the feature maps by loops over products, in float64."""
    model = model_of(build_backbone(LITE0, read_weights(LITE0)))
    maps = [node.input[0] for node in model.graph.node if node.name.endswith(".positions")]
    maps = [name for name in maps if not name.startswith("class_map")][:2]
    pooled = next(node.input[0] for node in model.graph.node if node.op_type == "GlobalAveragePool")
    found = run(model, images[:1], PROBABILITIES, FINE_MAP, COARSE_MAP, *maps, pooled)
    weight = initializer(model, "head.weight")[:, found[PROBABILITIES][0].argmax()]
    expected, first = [], 0
    for name, count in zip(maps, (LITE0.part_products, WHOLE_PRODUCTS), strict=True):
        x = found[name][0].astype(np.float64)
        share = np.zeros(x.shape[1:])
        for place, pair in enumerate(choose_pairs(len(x), count)):
            product = x[pair // len(x)] * x[pair % len(x)]
            if product.any():
                root = np.sqrt(abs(product.mean()))
                share += weight[first + place] * product / (product.size * root)
        first += count
        expected.append(share)
    x = found[pooled][0].astype(np.float64)
    for place, channel in enumerate(x):
        if channel.any():
            root = np.sqrt(channel.mean())
            expected[1] += weight[first + place] * channel / (channel.size * root)
    assert found[FINE_MAP][0] == pytest.approx(expected[0], rel=1e-3, abs=1e-4)
    assert found[COARSE_MAP][0] == pytest.approx(expected[1], rel=1e-3, abs=1e-4)


def test_the_map_of_channel_means_is_exact(images: NDArray[np.uint8]) -> None:
    model = model_of(build_features(LITE0, read_weights(LITE0)))
    pooled = next(node.input[0] for node in model.graph.node if node.op_type == "GlobalAveragePool")
    found = run(model, images, PROBABILITIES, "scores", COARSE_MAP, pooled)
    best = found[PROBABILITIES].argmax(1)
    weight = initializer(model, "head.weight")[:, best]
    expected = np.einsum("cn,nchw->nhw", weight, found[pooled]) / (3 * 4)
    assert found[COARSE_MAP] == pytest.approx(expected, rel=1e-3, abs=1e-5)
    scores = found["scores"][np.arange(3), best] - initializer(model, "head.bias")[best]
    assert found[COARSE_MAP].sum((1, 2)) == pytest.approx(scores, rel=1e-3, abs=1e-4)
    assert FINE_MAP not in {output.name for output in model.graph.output}


@pytest.mark.parametrize("operator", ["Relu", "Flatten"])
def test_features_that_are_not_pooled_have_no_map(operator: str) -> None:
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"], ["features"])],
        "other",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])],
        [],
    )
    add_class_maps(graph)
    assert len(graph.node) == 1
    assert not graph.output


@pytest.mark.parametrize("build", [build_backbone, build_features])
def test_a_map_is_computed_only_where_an_explanation_is_asked_for(
    build: Callable[[Specification, Weights], onnx.ModelProto], images: NDArray[np.uint8]
) -> None:
    """A weight out of range in the map's branch fails the run only if that branch runs."""
    model = model_of(build(LITE0, read_weights(LITE0)))
    [branch] = [node for node in model.graph.node if node.op_type == "If"]
    then = next(each.g for each in branch.attribute if each.name == "then_branch")
    [columns] = [node for node in then.node if node.name == "class_map.columns"]
    columns.input[1] = "beyond"
    then.initializer.append(onnx.numpy_helper.from_array(np.array([CLASSES]), "beyond"))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(names, {"image": images[:1]}), strict=True))
    assert found[PROBABILITIES].shape == (1, CLASSES)
    assert {name: found[name].size for name in names if "map" in name} == dict.fromkeys(
        [name for name in (FINE_MAP, COARSE_MAP) if name in names], 0
    )
    with pytest.raises(InvalidArgument, match="out of data bounds"):
        session.run(names, {"image": images[:1], EXPLAIN: np.array(True)})


def test_the_int8_variant_explains_its_own_scores(images: NDArray[np.uint8]) -> None:
    model = quantize(
        model_of(build_backbone(LITE0, read_weights(LITE0))), [image[None] for image in images]
    )
    found = run(model, images, PROBABILITIES, "scores", FINE_MAP, COARSE_MAP)
    best = found[PROBABILITIES].argmax(1)
    scores = found["scores"][np.arange(len(images)), best]
    shares = found[FINE_MAP].sum((1, 2)) + found[COARSE_MAP].sum((1, 2))
    bias = initializer(model, "head.bias")[best]
    assert shares == pytest.approx(scores - bias, rel=1e-3, abs=1e-3)
