"""Which pictures calibrate the int8 variant, and what speaks against keeping it."""

import logging
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from droplens.records.recordio import RecordWriter
from trainer.data.features import Channel
from trainer.data.preprocess import Resize
from trainer.nets.int8 import (
    Trial,
    Variant,
    _correct_biases,
    _objection,
    _without_details,
    convolutions,
    evenly,
    int8_variant,
    quantize,
    try_both,
)
from trainer.settings import Hyperparameters

LABELS = np.arange(100, dtype=np.int64) % 2


def chance() -> np.random.Generator:
    return np.random.default_rng(7)


def test_calibration_pictures_are_as_even_over_the_classes_as_they_can_be() -> None:
    labels = np.repeat(np.arange(4), (100, 50, 3, 1))
    chosen = evenly(labels, 20, chance())
    assert np.bincount(labels[chosen]).tolist() == [8, 8, 3, 1]
    assert (np.diff(chosen) > 0).all()
    assert chosen.tolist() == evenly(labels, 20, chance()).tolist()


def test_where_there_are_fewer_all_of_them_calibrate_and_of_many_classes_some() -> None:
    assert evenly(LABELS, 1000, chance()).tolist() == list(range(100))
    chosen = evenly(np.arange(500) % 250, 60, chance())
    assert len(set(chosen % 250)) == 60


def says(answers: Sequence[int], sure: float) -> NDArray[np.float32]:
    """Probabilities of two classes: `sure` of each answer."""
    probabilities = np.full((len(answers), 2), 1 - sure, np.float32)
    probabilities[np.arange(len(answers)), list(answers)] = sure
    return probabilities


def trial(wrong: int = 0, sure: float = 0.9, milliseconds: float = 5) -> Trial:
    """An int8 graph that is wrong `wrong` times in 100, beside a faultless fp32 of 10 ms."""
    answers = LABELS.copy()
    answers[:wrong] ^= 1
    return Trial(
        labels=LABELS,
        fp32=says(LABELS.tolist(), 0.9),
        int8=says(answers.tolist(), sure),
        fp32_seconds=[0.01] * 100,
        # A hiccup now and then is not what decides.
        int8_seconds=[1.0] * 20 + [milliseconds / 1000] * 80,
    )


def test_a_variant_that_answers_alike_in_half_the_time_has_nothing_against_it() -> None:
    found = trial(wrong=1).report()
    assert found["reason"] is None
    assert found["accuracy"] == {"fp32": 1.0, "int8": 0.99}
    assert (found["only_fp32_right"], found["only_int8_right"]) == (1, 0)
    assert found["agreement"] == 0.99
    assert found["moved"] == pytest.approx(0.008)
    assert found["p50_ms"] == pytest.approx({"fp32": 10, "int8": 5})
    assert found["speedup"] == pytest.approx(2)


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        (trial(wrong=5), "less accurate"),
        (trial(sure=0.8), "moves more than 5% of the probability"),
        (trial(milliseconds=9), "less than 1.2x as fast"),
    ],
)
def test_a_variant_that_is_worse_in_anything_is_dropped_for_it(
    measured: Trial, reason: str
) -> None:
    assert measured.report()["reason"] == reason


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({}, None),
        ({"p_value": 0.05}, None),
        ({"p_value": 0.0499}, "less accurate"),
        ({"p_value": 0.0501, "moved": 0.05}, None),
        ({"moved": 0.0501}, "moves more than 5% of the probability"),
        ({"speedup": 1.2}, None),
        ({"speedup": 1.19}, "less than 1.2x as fast"),
    ],
)
def test_the_limits_of_what_is_kept(found: dict[str, float], reason: str | None) -> None:
    assert _objection({"p_value": 1.0, "moved": 0.0, "speedup": 2.0} | found) == reason


def test_what_moves_is_counted_over_both_classes_and_all_pictures() -> None:
    """0.2 of the probability in one picture, 0.4 in the other; both answers swap what is right."""
    told = Trial(
        labels=np.array([0, 0]),
        fp32=np.array([[0.6, 0.4], [0.3, 0.7]], np.float32),
        int8=np.array([[0.4, 0.6], [0.7, 0.3]], np.float32),
        fp32_seconds=[0.5, 0.004, 0.006],
        int8_seconds=[0.002, 0.003, 0.5],
    ).report()
    assert told["moved"] == pytest.approx(0.3)
    assert (told["only_fp32_right"], told["only_int8_right"]) == (1, 1)
    # Of two pictures that differ, to lose both has a probability of 1/4, and one of 1/2, half of
    # which counts (mid-p).
    assert (told["agreement"], told["p_value"]) == (0, 0.5)
    assert told["p50_ms"] == pytest.approx({"fp32": 6, "int8": 3})
    assert told["speedup"] == pytest.approx(2)


def initializers(**arrays: NDArray[Any]) -> list[onnx.TensorProto]:
    return [numpy_helper.from_array(array, name) for name, array in arrays.items()]


def graph(nodes: list[onnx.NodeProto], **arrays: NDArray[Any]) -> onnx.ModelProto:
    picture = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])
    answers = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", "c"])
    made = helper.make_graph(nodes, "g", [picture], [answers], initializers(**arrays))
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def corrected(
    exact: NDArray[np.float32],
    weights: NDArray[np.int8],
    weight_scale: list[float],
    bias: list[int],
    bias_scale: list[float],
    means: list[float],
    groups: int = 1,
) -> list[int]:
    """The integers of the bias of a convolution, whose weights were rounded so, afterwards.

    An exact convolution stands before it.
    """
    conv = partial(helper.make_node, "Conv")
    unchanged = conv(["x", "w0", "b0"], ["y"], name="first", group=1)
    model = graph(
        [unchanged, conv(["y", "w", "b"], ["z"], name="second", group=groups)],
        w=exact,
        w0=np.ones((1, 1, 1, 1), np.float32),
    )
    int8 = graph(
        [
            helper.make_node("DequantizeLinear", ["wq", "ws"], ["w"], axis=0),
            helper.make_node("DequantizeLinear", ["bq", "bs"], ["b"], axis=0),
            unchanged,
            conv(["y", "w", "b"], ["z"], name="second", group=groups),
        ],
        wq=weights,
        ws=np.array(weight_scale, np.float32),
        bq=np.array(bias, np.int32),
        bs=np.array(bias_scale, np.float32),
    )
    _correct_biases(int8, model, {"y": np.array(means, np.float32)})
    stored = {each.name: numpy_helper.to_array(each) for each in int8.graph.initializer}
    assert stored["bq"].dtype == np.int32
    assert stored["wq"].tolist() == weights.tolist()
    return [int(value) for value in stored["bq"]]


def test_what_rounding_adds_to_a_channel_is_taken_from_its_bias() -> None:
    # Rounded to 0.5 and 1.0 in place of 0.75 and 0.75, and to the same: of inputs whose means are
    # 10 and 20 that is -2.5 + 5 = 2.5 more, five of the bias's steps of 0.5, and nothing.
    exact = np.array([[0.75, 0.75], [2, -1]], np.float32).reshape(2, 2, 1, 1)
    rounded = np.array([[1, 2], [2, -1]], np.int8).reshape(2, 2, 1, 1)
    assert corrected(exact, rounded, [0.5, 1], [100, 7], [0.5, 1], [10, 20]) == [95, 7]


def test_each_group_of_a_convolution_has_its_own_inputs_and_all_places_of_a_kernel() -> None:
    # A kernel of 2 x 2 places, each 0.25 too large: 1 more for each unit of the group's own input.
    exact = np.full((2, 1, 2, 2), 0.75, np.float32)
    rounded = np.ones((2, 1, 2, 2), np.int8)
    assert corrected(exact, rounded, [1, 1], [0, 0], [1, 2], [3, 8], groups=2) == [-3, -4]
    # Two groups of two inputs and two outputs each: 0.25 too large for the second input only.
    exact = np.tile(np.array([1, 0.75], np.float32), (4, 1)).reshape(4, 2, 1, 1)
    rounded = np.ones((4, 2, 1, 1), np.int8)
    means = [100.0, 4.0, 200.0, 8.0]
    assert corrected(exact, rounded, [1] * 4, [0] * 4, [1] * 4, means, groups=2) == [
        *(-1, -1),
        *(-2, -2),
    ]


def test_a_bias_stays_within_its_32_bits() -> None:
    exact = np.array([1, -1], np.float32).reshape(2, 1, 1, 1)
    rounded = np.array([2, -2], np.int8).reshape(2, 1, 1, 1)
    assert corrected(exact, rounded, [1, 1], [5, 5], [1e-12, 1e-12], [1]) == [
        -2147483648,
        2147483647,
    ]


def net() -> onnx.ModelProto:
    """Six convolutions, the last two of one place and in groups, and the softmax of their means."""
    random = np.random.default_rng(0)
    shapes = [(8, 3, 3, 3), (8, 1, 3, 3), (8, 8, 1, 1), (12, 8, 1, 1), (12, 3, 1, 1), (2, 12, 1, 1)]
    groups = [1, 8, 1, 1, 4, 1]
    arrays: dict[str, NDArray[Any]] = {
        "low": np.array(0, np.float32),
        "high": np.array(6, np.float32),
        "scale": np.array(1 / 64, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["x0"], perm=[0, 3, 1, 2]),
    ]
    for number, (shape, group) in enumerate(zip(shapes, groups, strict=True)):
        fan = shape[1] * shape[2] * shape[3]
        arrays[f"w{number}"] = (random.normal(size=shape) / fan**0.5).astype(np.float32)
        arrays[f"b{number}"] = random.normal(size=shape[0]).astype(np.float32)
        inputs = [f"x{number}", f"w{number}", f"b{number}"]
        name = f"conv{number}"
        nodes.append(helper.make_node("Conv", inputs, [f"y{number}"], name=name, group=group))
        clip = [f"y{number}", "low", "high"]
        nodes.append(helper.make_node("Clip", clip, [f"x{number + 1}"], name=f"clip{number}"))
    nodes += [
        helper.make_node("GlobalAveragePool", ["y5"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Softmax", ["flat"], ["probabilities"]),
    ]
    del nodes[-4]  # the last one's limits
    return graph(nodes, **arrays)


def noise(count: int) -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(8)
    return [random.integers(0, 256, (1, 16, 16, 3), np.uint8) for _ in range(count)]


@pytest.fixture(scope="module")
def int8() -> onnx.ModelProto:
    return quantize(net(), noise(20))


def test_the_first_three_convolutions_stay_exact_and_the_others_compute_in_integers(
    int8: onnx.ModelProto,
) -> None:
    made = {output for node in int8.graph.node for output in node.output}
    assert [node.name for node in convolutions(int8)] == [f"conv{n}" for n in range(6)]
    exact = [node.input[1] not in made for node in convolutions(int8)]
    assert exact == [True, True, True, False, False, False]
    onnx.checker.check_model(int8)
    weights = {
        each.name: numpy_helper.to_array(each)
        for each in int8.graph.initializer
        if each.data_type == TensorProto.INT8 and len(each.dims) == 4
    }
    assert len(weights) == 3
    for stored in weights.values():
        # Seven bits, and of every output channel its own range.
        assert np.abs(stored).reshape(len(stored), -1).max(1).tolist() == [64] * len(stored)


def test_the_original_stays_as_it_was() -> None:
    model = net()
    before = model.SerializeToString()
    quantize(model, noise(3))
    assert model.SerializeToString() == before


def test_the_mean_of_every_integer_channel_is_that_of_the_exact_one(
    int8: onnx.ModelProto, tmp_path: Path
) -> None:
    """Of kernels of one place, over the exact inputs of the pictures that calibrated."""
    model = net()
    watched = [f"x{number}" for number in (3, 4, 5)]
    for name in watched:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    onnx.save(model, str(tmp_path / "watched.onnx"))
    session = onnxruntime.InferenceSession(str(tmp_path / "watched.onnx"))
    inputs = [
        np.concatenate(each)
        for each in zip(
            *(session.run(watched, {"image": picture}) for picture in noise(20)), strict=True
        )
    ]
    exact = {each.name: numpy_helper.to_array(each) for each in net().graph.initializer}
    stored = {each.name: numpy_helper.to_array(each) for each in int8.graph.initializer}
    dequantized = {node.output[0]: node for node in int8.graph.node}
    for number, x, groups in zip((3, 4, 5), inputs, (1, 4, 1), strict=True):
        [node] = [node for node in convolutions(int8) if node.name == f"conv{number}"]
        (weight, weight_scale), (bias, bias_scale) = (
            [stored[name] for name in dequantized[place].input[:2]] for place in node.input[1:]
        )
        mean = x.mean((0, 2, 3)).reshape(groups, 1, -1)

        def output(weight: NDArray[Any], bias: NDArray[Any], mean: NDArray[Any] = mean) -> Any:
            kernels = weight.reshape(len(mean), -1, mean.shape[2])
            return (kernels * mean).sum(2).ravel() + bias

        integer = output(weight * weight_scale[:, None, None, None], bias * bias_scale)
        wanted = output(exact[f"w{number}"], exact[f"b{number}"])
        # Rounded twice: when it became an integer, and when it was corrected.
        assert (np.abs(integer - wanted) <= 1.01 * bias_scale + 1e-5).all()


def test_both_graphs_answer_every_picture_in_turns(int8: onnx.ModelProto) -> None:
    pictures = noise(30)[20:]
    labels = np.arange(10) % 2
    told = try_both(net(), int8, pictures, labels)
    assert told.fp32.shape == told.int8.shape == (10, 2)
    np.testing.assert_allclose(told.fp32.sum(1), 1, atol=1e-5)
    assert len({tuple(row) for row in told.fp32.tolist()}) == 10
    # The answers belong to the same pictures: as near to each other as to no other picture's.
    assert 0 < np.abs(told.fp32 - told.int8).max() < 0.05
    assert told.labels is labels
    for seconds in (told.fp32_seconds, told.int8_seconds):
        assert len(seconds) == 10
        assert all(0 < one < 60 for one in seconds)


def test_each_graph_s_seconds_are_its_own(
    int8: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The clock, read before and after each answer: one second for the first graph, two for other.
    clock = iter([0, 1, 10, 12, 20, 21, 30, 32])
    monkeypatch.setattr("trainer.nets.int8.perf_counter", lambda: next(clock))
    told = try_both(net(), int8, noise(2), np.array([0, 1]))
    assert (told.fp32_seconds, told.int8_seconds) == ([1, 1], [2, 2])


def test_a_bias_that_stayed_exact_is_let_be() -> None:
    conv = helper.make_node("Conv", ["x", "w", "b"], ["z"], name="only", group=1)
    arrays = {"b": np.ones(1, np.float32), "w": np.ones((1, 1, 1, 1), np.float32)}
    model = graph([conv], **arrays)
    weight = helper.make_node("DequantizeLinear", ["wq", "ws"], ["w"], axis=0)
    int8 = graph([weight, conv], b=arrays["b"], wq=np.ones((1, 1, 1, 1), np.int8), ws=arrays["b"])
    before = int8.SerializeToString()
    _correct_biases(int8, model, {"x": np.ones(1, np.float32)})
    assert int8.SerializeToString() == before


def test_the_library_s_details_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with _without_details():
        logging.getLogger().info("the scale of channel 3 was adjusted")
        logging.getLogger().warning("that is a detail which somebody should know")
    logging.getLogger("after").info("heard again")
    assert caplog.messages == ["that is a detail which somebody should know", "heard again"]


REQUIRED = {"num_classes": "2", "num_training_samples": "70"}


def job(
    folder: Path, training: int = 70, validation: int = 60, **hyperparameters: str
) -> SimpleNamespace:
    """As much of a job as decides on int8, with pictures of noise."""
    channels = {}
    for name, count in (("training", training), ("validation", validation)):
        (folder / name).mkdir()
        with (folder / name / f"{name}.rec").open("wb") as file, RecordWriter(file) as records:
            for number in range(count):
                stored = BytesIO()
                Image.effect_noise((16, 16), 80 + number % 7).save(stored, "JPEG")
                records.write(number, number % 2, stored.getvalue())
        channels[name] = Channel.open(name, folder / name, 2)
    settings = Hyperparameters.from_strings(REQUIRED | hyperparameters)
    return SimpleNamespace(settings=settings, resize=Resize(width=16, height=16), **channels)


@pytest.mark.parametrize(
    ("validation", "hyperparameters", "reason"),
    [
        (60, {"serving_precision": "fp32"}, "serving_precision=fp32"),
        (49, {}, "49 validation pictures, at least 50 are needed"),
    ],
)
def test_where_int8_is_not_tried_the_report_says_why(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    validation: int,
    hyperparameters: dict[str, str],
    reason: str,
) -> None:
    caplog.set_level(logging.INFO)
    asked: Any = job(tmp_path, 2, validation, **hyperparameters)
    variant = int8_variant(asked, net())
    assert variant == Variant(None, {"kept": False, "reason": reason})
    assert caplog.messages == [f"int8 not tried: {reason}"]


def test_a_convolution_without_a_bias_is_quantised_and_has_none_to_correct() -> None:
    """As timm's have where no norm follows that is folded in."""
    model = net()
    for node in convolutions(model)[3:]:
        del node.input[2]
    made = quantize(model, noise(20))
    assert [len(node.input) for node in convolutions(made)] == [3, 3, 3, 2, 2, 2]
    moved = Trial(
        labels=np.zeros(5, np.int64),
        fp32=answers(model, noise(5)),
        int8=answers(made, noise(5)),
        fp32_seconds=[1.0],
        int8_seconds=[1.0],
    ).report()["moved"]
    assert moved < 0.1


def answers(model: onnx.ModelProto, images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return np.concatenate([session.run(None, {"image": image})[0] for image in images])


def test_a_net_of_timm_that_cannot_be_quantised_is_served_as_it_is(tmp_path: Path) -> None:
    asked: Any = job(tmp_path, recipe="finetune", backbone="resnet18")
    broken = net()
    broken.graph.node[0].op_type = "NoSuchOperator"
    variant = int8_variant(asked, broken)
    assert variant.model is None
    assert variant.report["kept"] is False
    assert variant.report["reason"].startswith("resnet18 cannot be quantised: ")


def test_that_a_packaged_net_cannot_be_quantised_is_a_fault_of_ours(tmp_path: Path) -> None:
    asked: Any = job(tmp_path)
    broken = net()
    broken.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(Exception, match="NoSuchOperator"):
        int8_variant(asked, broken)


@pytest.mark.parametrize(
    ("validation", "judged", "speedup", "outcome"),
    [(50, 50, 0.0, "kept"), (513, 512, 0.0, "kept"), (50, 50, 1e9, "dropped, less than 1e+09x")],
)
def test_int8_is_judged_on_the_validation_pictures_and_kept_or_dropped(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    validation: int,
    judged: int,
    speedup: float,
    outcome: str,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("trainer.nets.int8.MIN_SPEEDUP", speedup)
    asked: Any = job(tmp_path, 70, validation)
    variant = int8_variant(asked, net())
    report = variant.report
    assert report["kept"] is (variant.model is not None) is (report["reason"] is None)
    assert report["kept"] is (outcome == "kept")
    assert (report["pictures"], report["calibration_pictures"]) == (judged, 64)
    assert caplog.messages[0] == f"trying int8: calibrated on 64 images, compared on {judged}"
    assert caplog.messages[1].startswith(f"int8 {outcome}")
