"""The int8 variant of trained models: as near as is claimed, safe on older CPUs, and served."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from droplens.imaging.prepare import Preprocessing, prepare
from tests.support.repository import ROOT
from tests.support.trainer import (
    LABELS,
    ask,
    drawn_records,
    lay_out,
    run_training,
    serving,
)
from trainer.data.preprocess import Resize
from trainer.nets.assemble import assemble
from trainer.nets.convert import backbone_file
from trainer.nets.int8 import (
    EXACT_CONVOLUTIONS,
    MAX_MOVED,
    MIN_JUDGED,
    MIN_SPEEDUP,
    convolutions,
    int8_variant,
    quantize,
)
from trainer.nets.specification import HEAD_CHANNELS, LITE0
from trainer.recipes.novelty import fit_novelty
from trainer.recipes.ridge_head import Head
from trainer.recipes.temperature import Temperature
from trainer.serving.app import Model
from trainer.settings import Folders
from trainer.train import WEIGHTS_VARIABLE, open_job

TRAIN = drawn_records(8)
VALIDATION = drawn_records(17, first_seed=100)
SHAPE = {"image_shape": "3,128,128"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, probe_weights: Path) -> Path:
    """A job of recipe probe that found enough validation pictures to try int8."""
    folder = lay_out(
        tmp_path_factory.mktemp("int8"), TRAIN, VALIDATION, LABELS, hyperparameters=SHAPE
    )
    process = run_training(folder, probe_weights)
    assert process.returncode == 0, process.stdout
    assert re.search(r"trying int8: (?s:.)+ int8 (kept|dropped)", process.stdout)
    assert "scale" not in process.stdout
    return folder


@pytest.fixture(scope="module")
def fp32(base: Path) -> onnx.ModelProto:
    return onnx.load(str(base / "model/model.onnx"))


@pytest.fixture(scope="module")
def int8(base: Path, fp32: onnx.ModelProto) -> onnx.ModelProto:
    """Made here, since on a busy machine the job may have found it too slow to keep."""
    return quantize(fp32, pixels(base, TRAIN))


def pixels(base: Path, records: list[tuple[int, bytes]]) -> list[np.ndarray]:
    resize = Resize.read(base / "model")
    return [resize.pixels(jpeg)[None] for _, jpeg in records]


def report(base: Path) -> dict:
    return json.loads((base / "model/training.json").read_text("utf-8"))["int8"]


def test_training_tells_what_it_measured_and_keeps_what_it_says_it_keeps(base: Path) -> None:
    found = report(base)
    assert (found["pictures"], found["calibration_pictures"]) == (51, 24)
    assert found["accuracy"]["fp32"] >= 0.9
    assert found["accuracy"]["int8"] >= 0.9
    assert found["moved"] <= MAX_MOVED
    assert found["kept"] == (found["reason"] is None) == (found["speedup"] >= MIN_SPEEDUP)
    assert (base / "model/model.int8.onnx").exists() == found["kept"]
    assert (base / "model/model.onnx").exists()


def test_weights_have_7_bits_and_no_sum_of_two_products_leaves_16(
    int8: onnx.ModelProto,
) -> None:
    """What AVX2 adds up in 16 bits, saturating: two products of activation and weight."""
    constants = {each.name: numpy_helper.to_array(each) for each in int8.graph.initializer}
    weights = [array for array in constants.values() if array.dtype == np.int8 and array.ndim == 4]
    # ReLU6 is left only where it follows a convolution that is not rounded.
    assert len(weights) == len(convolutions(int8)) - EXACT_CONVOLUTIONS == 46
    assert [node.op_type for node in int8.graph.node].count("Clip") == 2
    largest = max(int(np.abs(array.astype(np.int16)).max()) for array in weights)
    assert largest > 32
    assert 2 * 255 * largest <= np.iinfo(np.int16).max


def test_what_rounded_weights_add_on_average_is_taken_from_the_biases(
    base: Path, fp32: onnx.ModelProto, int8: onnx.ModelProto
) -> None:
    """Seen at the first rounded one, whose inputs are exact but for their own rounding."""
    images = pixels(base, TRAIN)
    node = convolutions(fp32)[EXACT_CONVOLUTIONS]
    weight = node.input[1]
    exact = {each.name: numpy_helper.to_array(each) for each in fp32.graph.initializer}
    constants = {each.name: numpy_helper.to_array(each) for each in int8.graph.initializer}
    rounded = constants[f"{weight}_quantized"] * constants[f"{weight}_scale"][:, None, None, None]
    added = (rounded - exact[weight])[:, :, 0, 0] @ channel_means(fp32, node.input[0], images)
    bias = node.input[2]
    step = constants[f"{bias}_quantized_scale"]
    corrected = constants[f"{bias}_quantized"] * step
    assert np.abs(added).max() > 5 * step.max()
    # Rounded once by itself, and once more with what is taken from it.
    assert (np.abs(corrected - (exact[bias] - added)) <= 1.01 * step).all()


def channel_means(model: onnx.ModelProto, name: str, images: list[np.ndarray]) -> np.ndarray:
    """float32 [channels], the mean over pictures and positions of what a graph says there."""
    seen = onnx.ModelProto()
    seen.CopyFrom(model)
    seen.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(seen.SerializeToString())
    return session.run([name], {"image": np.concatenate(images)})[0].mean((0, 2, 3))


def test_any_number_of_pictures_is_answered_at_once(
    base: Path, int8: onnx.ModelProto, tmp_path: Path
) -> None:
    folder = serve_int8(base, int8, tmp_path)
    model = Model.load(folder / "model")
    images = np.concatenate(pixels(base, VALIDATION[:5]))
    many = model.network.session.run(["probabilities"], {"image": images})[0]
    one_by_one = [model.predict(jpeg).probabilities for _, jpeg in VALIDATION[:5]]
    np.testing.assert_allclose(many, one_by_one, atol=1e-3)


def serve_int8(base: Path, int8: onnx.ModelProto, folder: Path) -> Path:
    """SageMaker's folders with the job's artefact and this variant beside it."""
    shutil.copytree(base / "model", folder / "model")
    onnx.save(int8, str(folder / "model/model.int8.onnx"))
    return folder


def test_the_server_takes_the_variant_that_was_kept_and_answers_nearly_as_before(
    base: Path, int8: onnx.ModelProto, probe_weights: Path, tmp_path: Path
) -> None:
    folder = serve_int8(base, int8, tmp_path)
    (folder / "model/model.int8.onnx").rename(folder / "variant")
    before = Model.load(folder / "model")
    assert before.file == "model.onnx"
    (folder / "variant").rename(folder / "model/model.int8.onnx")
    moved, agreeing = [], 0
    with serving(folder, probe_weights) as server:
        assert " by model.int8.onnx after " in "".join(server.lines)
        for _, jpeg in VALIDATION:
            status, _, body = ask(server, jpeg, Content_Type="image/jpeg")
            assert status == 200
            said = np.array(json.loads(body))
            expected = np.array(before.predict(jpeg).probabilities)
            moved.append(np.abs(said - expected).sum() / 2)
            agreeing += int(said.argmax() == expected.argmax())
    assert np.mean(moved) <= MAX_MOVED
    assert agreeing >= 0.95 * len(VALIDATION)


def test_a_model_whose_answers_hang_on_digits_that_int8_has_not_keeps_none(
    base: Path, probe_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head of random weights, which tells nothing of the pictures but their finest details."""
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(probe_weights))
    chance = np.random.default_rng(0)
    head = Head(
        chance.normal(0, 0.1, (LITE0.features, 1000)).astype(np.float32),
        np.zeros(1000, np.float32),
        temperature=Temperature.constant(1),
    )
    novelty = fit_novelty(chance.random((9, HEAD_CHANNELS), np.float32)).novelty
    backbone = onnx.load(str(probe_weights / backbone_file(LITE0.name)))
    job = open_job(Folders(base))
    variant = int8_variant(job, assemble(backbone, head, novelty, job.resize))
    assert variant.model is None
    assert not variant.report["kept"]
    assert variant.report["moved"] > MAX_MOVED
    assert variant.report["reason"] in ("less accurate", "moves more than 5% of the probability")


def test_the_same_model_and_pictures_give_the_same_variant_byte_for_byte(
    base: Path, int8: onnx.ModelProto, tmp_path: Path
) -> None:
    np.save(tmp_path / "pictures.npy", np.stack(pixels(base, TRAIN)))
    program = """
import hashlib, sys, numpy, onnx
from trainer.nets.int8 import (
    EXACT_CONVOLUTIONS,
    MAX_MOVED,
    MIN_JUDGED,
    MIN_SPEEDUP,
    convolutions,
    int8_variant,
    quantize,
)
variant = quantize(onnx.load(sys.argv[1]), numpy.load(sys.argv[2]))
print(hashlib.sha256(variant.SerializeToString()).hexdigest())
"""
    process = subprocess.run(
        [
            *(sys.executable, "-c", program),
            *(base / "model/model.onnx", tmp_path / "pictures.npy"),
        ],
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'layers/droplens'}",
            "PYTHONHASHSEED": "3",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.strip() == hashlib.sha256(int8.SerializeToString()).hexdigest()


def test_nothing_is_tried_where_it_was_not_wanted_or_cannot_be_judged_and_nothing_old_is_left(
    probe_weights: Path, tmp_path: Path
) -> None:
    for name, records, wanted, reason in (
        ("unwanted", VALIDATION, "fp32", "serving_precision=fp32"),
        ("few", VALIDATION[:6], "auto", f"6 validation pictures, at least {MIN_JUDGED} are needed"),
    ):
        folder = lay_out(
            tmp_path / name, TRAIN, records, hyperparameters={"serving_precision": wanted}
        )
        (folder / "model").mkdir()
        (folder / "model/model.int8.onnx").write_bytes(b"of an earlier job")
        process = run_training(folder, probe_weights)
        assert process.returncode == 0, process.stdout
        assert f"int8 not tried: {reason}" in process.stdout
        assert report(folder) == {"kept": False, "reason": reason}
        assert Model.load(folder / "model").file == "model.onnx"


def test_car_models_are_told_apart_as_well_in_int8(
    tmp_path: Path, probe_weights: Path, cars24: Path
) -> None:
    """Eight of the 24 models, 28 photographs each, every fourth of them held out."""
    names = sorted(folder.name for folder in cars24.iterdir())[::3]
    records: dict[bool, list[tuple[int, bytes]]] = {True: [], False: []}
    for label, name in enumerate(names):
        for number, photo in enumerate(sorted((cars24 / name).iterdir())[:28]):
            jpeg, _ = prepare(photo.read_bytes(), Preprocessing(shorter_side=256))
            records[number % 4 == 0].append((label, jpeg))
    lay_out(tmp_path, records[False], records[True], names, {"image_shape": "3,224,224"})
    process = run_training(tmp_path, probe_weights)
    assert process.returncode == 0, process.stdout
    found = report(tmp_path)
    assert found["pictures"] == 56
    assert found["agreement"] >= 0.95
    assert found["reason"] in (None, f"less than {MIN_SPEEDUP:g}x as fast")
