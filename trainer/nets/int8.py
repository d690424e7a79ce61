"""An int8 variant of a trained graph, kept only where it is as accurate and faster.

Convolutions, additions and the clipping between them compute in 8-bit integers, with ranges
calibrated on training images. The first three convolutions and what follows the last one stay in
float32, since errors of early layers propagate through all others. Weights have 7 bits: CPUs
without VNNI add two products of activation (0 to 255) and weight in 16 bits, which hold
2 x 255 x 64 and not 2 x 255 x 127. So the variant gives the same probabilities on every CPU. The
mean that rounding the weights adds to a channel is subtracted from its bias (Nagel et al., 2019,
arXiv:1906.04721, section 4.2), which halves the differences between both graphs' probabilities.

Both graphs then run on validation images, one image at a time and alternately, with a server's
settings.
"""

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from droplens.inference.cores import cores
from droplens.inference.network import open_session
from droplens.statistics.intervals import mcnemar
from trainer.artefact import INT8_FILE, MODEL_FILE, PROBABILITIES
from trainer.data.features import pixels_of
from trainer.job import Job
from trainer.nets.specification import PACKAGED

log = logging.getLogger(__name__)

# With Clip, ReLU6 becomes the range of the integers before it. Without, that range would have to
# reach as far as what ReLU6 cuts off, and most of the 256 values would go unused.
OPERATORS = ("Conv", "Clip", "Add")
EXACT_CONVOLUTIONS = 3
CALIBRATION_IMAGES = 64
MAX_JUDGED = 512
# 4 more errors and none fewer are significant; on fewer images, 4 would be a large share.
MIN_JUDGED = 50
# Significance level of the test whether the variant is less accurate.
SIGNIFICANCE = 0.05
# The largest mean total variation distance between the probabilities of both graphs.
MAX_MOVED = 0.05
MIN_SPEEDUP = 1.2

Labels = NDArray[np.int64]
Means = NDArray[np.float32]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Variant:
    """The int8 graph, None where it is not to be served; report: for training.json."""

    model: onnx.ModelProto | None
    report: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The probabilities of both graphs for the same images, with the time of each run.

    labels: int64 [N]; fp32, int8: float32 [N, classes], probabilities; fp32_seconds, int8_seconds:
    of each run on one image.
    """

    labels: Labels
    fp32: NDArray[np.float32]
    int8: NDArray[np.float32]
    fp32_seconds: list[float]
    int8_seconds: list[float]

    def report(self) -> dict[str, Any]:
        """Accuracies, differences, milliseconds, and `reason`: why int8 is refused, or None.

        moved: the mean total variation distance between the two graphs' probabilities.
        p_value: McNemar's test, one-sided: of so many more errors if int8 is as accurate as fp32.
        """
        before, after = self.fp32.argmax(1), self.int8.argmax(1)
        fp32_correct, int8_correct = before == self.labels, after == self.labels
        lost = int((fp32_correct & ~int8_correct).sum())
        won = int((int8_correct & ~fp32_correct).sum())
        p50 = {
            "fp32": 1000 * float(np.median(self.fp32_seconds)),
            "int8": 1000 * float(np.median(self.int8_seconds)),
        }
        found = {
            "pictures": len(self.labels),
            "accuracy": {"fp32": float(fp32_correct.mean()), "int8": float(int8_correct.mean())},
            "agreement": float((before == after).mean()),
            "only_fp32_right": lost,
            "only_int8_right": won,
            "p_value": mcnemar(lost, won),
            "moved": float(np.abs(self.fp32 - self.int8).sum(1).mean() / 2),
            "p50_ms": p50,
            "speedup": p50["fp32"] / p50["int8"],
        }
        return {"reason": _objection(found), **found}


def _objection(found: dict[str, Any]) -> str | None:
    if found["p_value"] < SIGNIFICANCE:
        return "less accurate"
    if found["moved"] > MAX_MOVED:
        return f"moves more than {MAX_MOVED:.0%} of the probability"
    if found["speedup"] < MIN_SPEEDUP:
        return f"less than {MIN_SPEEDUP:g}x as fast"
    return None


def int8_variant(job: Job, model: onnx.ModelProto) -> Variant:
    """Quantise the graph and compare both; the variant, or the reason why there is none."""
    if (reason := _not_tried(job)) is not None:
        log.info("int8 not tried: %s", reason)
        return Variant(None, {"kept": False, "reason": reason})
    rng = np.random.default_rng(job.settings.seed)
    calibration = evenly(job.training.labels, CALIBRATION_IMAGES, rng)
    judged = np.sort(rng.permutation(len(job.validation))[:MAX_JUDGED])
    log.info("trying int8: calibrated on %d images, compared on %d", len(calibration), len(judged))
    try:
        int8 = quantize(model, pixels_of(job.training, job.resize, calibration))
    except Exception as error:
        if job.settings.backbone in PACKAGED:
            raise
        # A traced net may hold what the library does not quantise; the trained one is not lost.
        log.exception("int8 failed")
        reason = f"{job.settings.backbone} cannot be quantised: {type(error).__name__}"
        return Variant(None, {"kept": False, "reason": reason})
    images = pixels_of(job.validation, job.resize, judged)
    found = try_both(model, int8, images, job.validation.labels[judged]).report()
    log.info(
        "int8 %s: accuracy=%.4f of fp32=%.4f p50=%.1f ms of %.1f ms",
        f"dropped, {found['reason']}" if found["reason"] else "kept",
        found["accuracy"]["int8"],
        found["accuracy"]["fp32"],
        found["p50_ms"]["int8"],
        found["p50_ms"]["fp32"],
    )
    kept = found["reason"] is None
    report = {"kept": kept, **found, "calibration_pictures": len(calibration)}
    return Variant(int8 if kept else None, report)


def _not_tried(job: Job) -> str | None:
    settings = job.settings
    if settings.serving_precision == "fp32":
        return "serving_precision=fp32"
    if len(job.validation) < MIN_JUDGED:
        return f"{len(job.validation)} validation pictures, at least {MIN_JUDGED} are needed"
    return None


def evenly(labels: Labels, most: int, rng: np.random.Generator) -> Labels:
    """At most `most` indices into `labels`, ascending, as equal over the classes as possible."""
    order = rng.permutation(len(labels))
    turn = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        mine = order[labels[order] == label]
        turn[mine] = np.arange(len(mine))
    return np.sort(order[np.argsort(turn[order], kind="stable")[:most]])


def quantize(model: onnx.ModelProto, images: Iterable[Pixels]) -> onnx.ModelProto:
    """The graph with int8 arithmetic, calibrated on uint8 [N, height, width, 3] each."""
    images = list(images)
    prepared = onnx.ModelProto()
    prepared.CopyFrom(model)
    # Batch norms are folded into the convolutions already; without this mark the library warns that
    # they may not be.
    prepared.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    with TemporaryDirectory(prefix="droplens-") as folder, _without_details():
        path = Path(folder) / INT8_FILE
        quantize_static(
            prepared,
            path,
            _Images(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATORS),
            nodes_to_exclude=[node.name for node in convolutions(model)[:EXACT_CONVOLUTIONS]],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        int8 = onnx.load(os.fspath(path))
    _correct_biases(int8, model, _input_means(model, images))
    return int8


def convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The convolutions, in the order of the graph."""
    return [node for node in model.graph.node if node.op_type == "Conv"]


def _input_means(model: onnx.ModelProto, images: list[Pixels]) -> dict[str, Means]:
    """float32 [channels] of the input of every convolution, over images and positions."""
    measuring = onnx.ModelProto()
    measuring.CopyFrom(model)
    graph = measuring.graph
    del graph.output[:]
    names = sorted({node.input[0] for node in convolutions(model)})
    for name in names:
        mean = f"{name}.mean"
        graph.node.append(
            helper.make_node("ReduceMean", [name], [mean], axes=[0, 2, 3], keepdims=0)
        )
        graph.output.append(helper.make_tensor_value_info(mean, TensorProto.FLOAT, None))
    with TemporaryDirectory(prefix="droplens-") as folder:
        path = Path(folder) / MODEL_FILE
        onnx.save(measuring, os.fspath(path))
        session = open_session(path, threads=cores())
    runs = [session.run(None, {"image": image}) for image in images]
    return {name: np.mean(means, axis=0) for name, *means in zip(names, *runs, strict=True)}


def _correct_biases(int8: onnx.ModelProto, model: onnx.ModelProto, means: dict[str, Means]) -> None:
    """Subtract from each bias the mean that its channel's rounded weights add for these inputs."""
    exact = {each.name: each for each in model.graph.initializer}
    before = {node.name: node for node in convolutions(model)}
    rounded = {each.name: each for each in int8.graph.initializer}
    dequantized = {node.output[0]: node for node in int8.graph.node}
    for node in convolutions(int8):
        weight, *bias = (dequantized.get(name) for name in node.input[1:])
        if weight is None or not bias or bias[0] is None:
            continue
        integers, scale = (numpy_helper.to_array(rounded[name]) for name in weight.input[:2])
        added = integers * scale[:, None, None, None] - numpy_helper.to_array(
            exact[before[node.name].input[1]]
        )
        groups = node.attribute[[each.name for each in node.attribute].index("group")].i
        mean = means[before[node.name].input[0]].reshape(groups, 1, -1)
        shift = (added.sum((2, 3)).reshape(groups, -1, mean.shape[2]) * mean).sum(2).ravel()
        integers, scale = (numpy_helper.to_array(rounded[name]) for name in bias[0].input[:2])
        corrected = np.rint(integers - shift / scale).clip(-(2**31), 2**31 - 1)
        name = bias[0].input[0]
        rounded[name].CopyFrom(numpy_helper.from_array(corrected.astype(np.int32), name))


@contextmanager
def _without_details() -> Iterator[None]:
    """Silence the library, which logs every channel whose scale it adjusts."""
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


class _Images(CalibrationDataReader):
    """Images as ONNX Runtime's calibration reads them."""

    def __init__(self, images: Iterable[Pixels]) -> None:
        self._images: Iterator[Pixels] = iter(images)

    def get_next(self) -> dict[str, Pixels] | None:
        image = next(self._images, None)
        return None if image is None else {"image": image}


def try_both(
    fp32: onnx.ModelProto, int8: onnx.ModelProto, images: Iterable[Pixels], labels: Labels
) -> Trial:
    """Run both graphs on uint8 [1, height, width, 3] each, with a server's session options."""
    with TemporaryDirectory(prefix="droplens-") as folder:
        sessions = []
        for name, model in ((MODEL_FILE, fp32), (INT8_FILE, int8)):
            path = Path(folder) / name
            onnx.save(model, os.fspath(path))
            sessions.append(open_session(path, threads=cores()))
    predicted: tuple[list[NDArray[np.float32]], ...] = ([], [])
    seconds: tuple[list[float], ...] = ([], [])
    for image in images:
        for session, outputs, took in zip(sessions, predicted, seconds, strict=True):
            started = perf_counter()
            [probabilities] = session.run([PROBABILITIES], {"image": image})
            took.append(perf_counter() - started)
            outputs.append(probabilities)
    return Trial(
        labels=labels,
        fp32=np.concatenate(predicted[0]),
        int8=np.concatenate(predicted[1]),
        fp32_seconds=seconds[0],
        int8_seconds=seconds[1],
    )
