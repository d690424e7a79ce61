"""The recipe finetune, really run in the environment that has PyTorch, on drawn pictures."""

import json
import signal
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from droplens.report.curves import trained
from droplens.report.markup import Element
from tests.support.torch_jobs import TorchJobs
from tests.support.trainer import (
    LABELS,
    SIDE,
    accuracy,
    drawn_records,
    lay_out,
    metrics,
    run_training,
)
from trainer.serving.app import Model

TRAIN, VALIDATION = drawn_records(8), drawn_records(4, first_seed=100)
FINETUNE = {"recipe": "finetune", "epochs": "6", "seed": "3", "checkpoint_frequency": "1"}
# float32 through other kernels.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def job(
    tmp_path_factory: pytest.TempPathFactory, torch_python: str
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A finished job that nothing interrupted."""
    base = lay_out(tmp_path_factory.mktemp("job"), TRAIN, VALIDATION, hyperparameters=FINETUNE)
    process = run_training(base, base, torch_python)
    assert process.returncode == 0, process.stdout + process.stderr
    return base, process


def report(base: Path) -> dict:
    return json.loads((base / "model/training.json").read_text("utf-8"))


def test_every_epoch_is_told_as_the_metric_definitions_read_it(
    job: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    base, process = job
    told, epochs = metrics(process.stdout), report(base)["epochs"]
    for channel in ("train", "validation"):
        curve = [epoch[f"{channel}_accuracy"] for epoch in epochs]
        assert told[f"{channel}:accuracy"] == pytest.approx(curve, abs=1e-6)
    assert len(epochs) == 6
    validation = told["validation:accuracy"]
    assert validation[report(base)["best_epoch"]] == max(validation)


def test_it_learns(job: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    base, _ = job
    assert report(base)["accuracy"]["validation"] >= 0.75


def test_training_json_holds_the_curves_the_settings_the_machine_and_the_dataset(
    job: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    base, _ = job
    told = report(base)
    assert told["recipe"] == "finetune"
    assert told["without_effect"] == []
    assert told["environment"]["device"]
    assert told["environment"]["torch"].startswith("2.")
    assert set(told["dataset_sha256"]) == {"train", "validation"}
    assert told["pictures_per_second"] > 0
    assert told["calibration"]["method"] == "temperature"
    assert told["calibration"]["parameters"]["temperature"] > 0
    assert told["calibration"]["fitted_on"] == len(VALIDATION)
    _, panels = trained(told)
    assert isinstance(panels, Element)
    assert [len(figure.findall(".//polyline")) for figure in panels] == [2, 2]


def test_the_server_takes_the_artefact_and_answers_what_pytorch_answers(
    job: tuple[Path, subprocess.CompletedProcess[str]], torch_jobs: TorchJobs, tmp_path: Path
) -> None:
    base, _ = job
    model = Model.load(base / "model")
    assert model.classes == list(LABELS)
    images = np.stack([model.resize.pixels(payload) for _, payload in VALIDATION])
    assert images.shape == (12, SIDE, SIDE, 3)
    np.testing.assert_allclose(
        _by_pytorch(base, images, torch_jobs, tmp_path), _by_onnx(base, images), atol=TOLERANCE
    )
    one_by_one = [model.predict(payload).probabilities for _, payload in VALIDATION]
    np.testing.assert_allclose(one_by_one, _by_onnx(base, images), atol=TOLERANCE)
    right = (np.argmax(one_by_one, 1) == [label for label, _ in VALIDATION]).mean()
    assert right == report(base)["accuracy"]["validation"]


def _by_onnx(base: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(base / "model/model.onnx"))
    return session.run(["probabilities"], {"image": images})[0]


def _by_pytorch(base: Path, images: np.ndarray, jobs: TorchJobs, tmp_path: Path) -> np.ndarray:
    np.save(tmp_path / "pixels.npy", images)
    paths = (base / "model", tmp_path / "pixels.npy", tmp_path / "out.npy")
    code, said = jobs.call(tmp_path, "torch_reference", *map(str, paths))
    assert code == 0, said
    return np.load(tmp_path / "out.npy")


def test_a_run_killed_again_and_again_ends_with_the_very_weights_of_one_that_was_not(
    job: tuple[Path, subprocess.CompletedProcess[str]], torch_jobs: TorchJobs, tmp_path: Path
) -> None:
    whole, _ = job
    base = lay_out(tmp_path, TRAIN, VALIDATION, hyperparameters=FINETUNE)
    # Before the first checkpoint is due, while one is being written, and in the midst of an epoch.
    for moment in (r"Epoch\[0\] Train", r"Epoch\[1\] Validation", r"Epoch\[4\] Train"):
        code, said = torch_jobs.run(base, moment, signal.SIGKILL)
        assert code == -signal.SIGKILL, said
        assert not (base / "model").exists()
    code, said = torch_jobs.run(base)
    assert code == 0, said
    assert "resumed after epoch 3" in said
    for name in ("model.onnx", "classes.json", "preprocessing.json"):
        assert (base / "model" / name).read_bytes() == (whole / "model" / name).read_bytes()
    curves = [
        [(each["train_loss"], each["validation_loss"]) for each in report(folder)["epochs"]]
        for folder in (base, whole)
    ]
    assert curves[0] == curves[1]


def test_a_finished_run_that_is_started_again_may_try_int8_on_more_pictures(
    job: tuple[Path, subprocess.CompletedProcess[str]], torch_jobs: TorchJobs, tmp_path: Path
) -> None:
    whole, _ = job
    assert report(whole)["int8"]["reason"].startswith("12 validation pictures")
    base = lay_out(
        tmp_path,
        TRAIN,
        drawn_records(17, first_seed=100),
        hyperparameters=FINETUNE | {"epochs": "2", "serving_precision": "fp32"},
    )
    code, said = torch_jobs.run(base)
    assert code == 0, said
    assert "int8 not tried: serving_precision=fp32" in said
    hyperparameters = base / "input/config/hyperparameters.json"
    values = json.loads(hyperparameters.read_text("utf-8")) | {"serving_precision": "auto"}
    hyperparameters.write_text(json.dumps(values), "utf-8")
    code, said = torch_jobs.run(base)
    assert code == 0, said
    assert "resumed after epoch 1" in said
    found = report(base)["int8"]
    assert found["pictures"] == 51
    assert found["moved"] < 0.2
    assert found["kept"] == (found["reason"] is None) == (base / "model/model.int8.onnx").exists()


def test_a_checkpoint_that_is_damaged_or_of_another_training_is_not_gone_on_from(
    job: tuple[Path, subprocess.CompletedProcess[str]], torch_jobs: TorchJobs, tmp_path: Path
) -> None:
    whole, _ = job
    stored = (whole / "checkpoints/checkpoint.pt").read_bytes()
    for name, content, changes, complaint in (
        ("damaged", stored[: len(stored) // 2], {}, "cannot be read, training starts over"),
        ("another", stored, {"seed": "4"}, "is of another training: this one starts over"),
    ):
        base = lay_out(
            tmp_path / name, TRAIN, VALIDATION, hyperparameters=FINETUNE | {"epochs": "1"} | changes
        )
        (base / "checkpoints").mkdir()
        (base / "checkpoints/checkpoint.pt").write_bytes(content)
        code, said = torch_jobs.run(base)
        assert code == 0, said
        assert complaint in said
        assert "Epoch[0]" in said


def test_the_classifier_begins_as_the_best_one_of_what_the_net_sees(
    torch_jobs: TorchJobs, tmp_path: Path
) -> None:
    """So slow that what is answered is what it began with."""
    slow = FINETUNE | {"epochs": "1", "learning_rate": "1e-9"}
    base = lay_out(tmp_path / "slow", TRAIN, VALIDATION, hyperparameters=slow)
    code, said = torch_jobs.run(base)
    assert code == 0, said
    assert report(base)["accuracy"]["validation"] >= 0.75


def test_an_earlier_model_is_trained_on_when_a_class_is_added(
    job: tuple[Path, subprocess.CompletedProcess[str]], torch_jobs: TorchJobs, tmp_path: Path
) -> None:
    whole, _ = job
    # A new class in front: every class that stays has another number than before.
    train = [(label + 1, jpeg) for label, jpeg in TRAIN] + [
        (0, jpeg) for label, jpeg in drawn_records(4, first_seed=300) if label == 0
    ]
    validation = [(label + 1, jpeg) for label, jpeg in VALIDATION]
    base = lay_out(
        tmp_path / "further",
        train,
        validation,
        ("aaa", *LABELS),
        # So slow that what is answered is what was taken over.
        FINETUNE | {"epochs": "1", "learning_rate": "1e-9"},
    )
    (base / "input/data/model").mkdir()
    with tarfile.open(base / "input/data/model/model.tar.gz", "w:gz") as tar:
        for path in sorted((whole / "model").iterdir()):
            tar.add(path, path.name)
    code, said = torch_jobs.run(base)
    assert code == 0, said
    assert "3 of 4 classes were known" in said
    images = np.stack([Model.load(base / "model").resize.pixels(jpeg) for _, jpeg in VALIDATION])
    before, after = _by_onnx(whole, images), _by_onnx(base, images)
    assert (after[:, 1:].argmax(1) == before.argmax(1)).mean() >= 0.9


def test_a_model_of_another_recipe_is_refused_with_the_reason(
    torch_jobs: TorchJobs, tmp_path: Path
) -> None:
    base = lay_out(tmp_path / "probe", TRAIN, VALIDATION, hyperparameters=FINETUNE)
    (base / "input/data/model").mkdir()
    with tarfile.open(base / "input/data/model/model.tar.gz", "w:gz") as tar:
        tar.add(base / "input/data/classes/classes.json", "classes.json")
    code, said = torch_jobs.run(base)
    assert code == 1, said
    assert "holds no weights.pt" in (base / "output/failure").read_text("utf-8")


def test_auto_tries_both_and_keeps_the_better_one(
    torch_jobs: TorchJobs, probe_weights: Path, tmp_path: Path
) -> None:
    settings = {"recipe": "auto", "epochs": "1"}
    base = lay_out(tmp_path, TRAIN, VALIDATION, hyperparameters=settings)
    code, said = torch_jobs.run(base, DROPLENS_WEIGHTS=str(probe_weights))
    assert code == 0, said
    told = report(base)
    assert [each["recipe"] for each in told["choice"]["candidates"]] == ["probe", "finetune"]
    assert told["hyperparameters"]["recipe"] == "auto"
    assert f"kept recipe={told['recipe']}: {told['choice']['reason']}" in said
    assert (base / "model/weights.pt").exists() == (told["recipe"] == "finetune")
    assert accuracy(base, VALIDATION) == told["accuracy"]["validation"]


def test_what_the_user_can_put_right_is_one_sentence(torch_jobs: TorchJobs, tmp_path: Path) -> None:
    # In the second part of the records, which another process decodes.
    broken = [*TRAIN, *VALIDATION, (0, b"no picture")]
    for name, train, changes, sentence in (
        ("backbone", TRAIN, {"backbone": "resnet18"}, "without the pretrained weights of resnet18"),
        ("batch", TRAIN, {"mini_batch_size": "1"}, "mini_batch_size must be at least 2"),
        ("device", TRAIN, {"device": "gpu"}, "device=gpu, but PyTorch finds none here"),
        ("picture", broken, {}, "train.rec: record 36 cannot be read: "),
    ):
        base = lay_out(tmp_path / name, train, VALIDATION, hyperparameters=FINETUNE | changes)
        code, said = torch_jobs.run(base, CUDA_VISIBLE_DEVICES="")
        assert code == 1, said
        failure = (base / "output/failure").read_text("utf-8")
        assert sentence in failure
        assert "Traceback" not in failure


def test_without_pytorch_the_recipe_says_what_is_missing(tmp_path: Path) -> None:
    base = lay_out(tmp_path, TRAIN, VALIDATION, hyperparameters=FINETUNE)
    assert run_training(base, base).returncode == 1
    failure = (base / "output/failure").read_text("utf-8")
    assert failure == (
        "Hyperparameter recipe=finetune needs PyTorch, which this image was built without."
    )


def test_a_stopped_job_ends_without_a_model_and_with_its_last_checkpoint(
    torch_jobs: TorchJobs, tmp_path: Path
) -> None:
    base = lay_out(tmp_path, TRAIN, VALIDATION, hyperparameters=FINETUNE | {"epochs": "500"})
    code, rest = torch_jobs.run(base, r"Epoch\[1\]")
    assert code == 128 + signal.SIGTERM, rest
    assert "stopped by signal 15" in rest
    assert (base / "checkpoints/checkpoint.pt").is_file()
    assert not (base / "model").exists()
    assert not (base / "output/failure").exists()


@pytest.fixture(scope="module")
def augmented(
    torch_jobs: TorchJobs, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, np.ndarray]:
    """What torch_augment.py tells."""
    folder = tmp_path_factory.mktemp("augmented")
    code, said = torch_jobs.call(folder, "torch_augment", str(folder / "out.npz"))
    assert code == 0, said
    with np.load(folder / "out.npz") as made:
        return dict(made)


def test_a_view_is_a_part_of_the_picture_at_times_mirrored(
    augmented: dict[str, np.ndarray],
) -> None:
    """Read from pictures whose pixels tell their own places."""
    mirrored = set()
    for column, row, _ in augmented["places"]:
        across, down = np.median(np.diff(column, axis=1)), np.median(np.diff(row, axis=0))
        mirrored.add(across < 0)
        wide, tall = abs(across) * column.shape[1], down * row.shape[0]
        assert 0.5 <= wide * tall <= 1.01
        np.testing.assert_allclose(column, np.broadcast_to(column[:1], column.shape), atol=1e-4)
        np.testing.assert_allclose(row, np.broadcast_to(row[:, :1], row.shape), atol=1e-4)
        assert 0 <= column.min() < column.max() <= 1
    assert mirrored == {False, True}


def test_views_have_the_size_asked_for_and_follow_the_seed(
    augmented: dict[str, np.ndarray],
) -> None:
    first = augmented["first"]
    assert first.shape == (12, 3, 16, 24)
    assert 0 <= first.min() < first.max() <= 255
    np.testing.assert_array_equal(first, augmented["again"])
    assert np.abs(first - augmented["other"]).mean() > 1


def test_what_is_mixed_is_told_by_the_targets(augmented: dict[str, np.ndarray]) -> None:
    pictures, targets = augmented["first"], augmented["targets"]
    np.testing.assert_array_equal(augmented["unmixed"], pictures)
    np.testing.assert_array_equal(augmented["unmixed_targets"], targets)
    for name, count in (("mixed", 12), ("odd", 11)):
        own, own_targets = pictures[:count], targets[:count]
        neighbour = np.arange(count) ^ 1
        neighbour[neighbour == count] = count - 1
        others, their_targets = own[neighbour], own_targets[neighbour]
        blended = 0
        for mixed, told in zip(augmented[name], augmented[f"{name}_targets"], strict=True):
            np.testing.assert_allclose(told.sum(axis=1), 1, atol=1e-6)
            kept = float((told * own_targets).sum(axis=1)[0])
            expected_targets = kept * own_targets + (1 - kept) * their_targets
            np.testing.assert_allclose(told, expected_targets, atol=1e-6)
            if np.all((mixed == own) | (mixed == others)):  # CutMix: of each pixel, whose it is
                share = np.any(mixed[:10] != others[:10], axis=1).mean()
                assert share == pytest.approx(kept, abs=0.01)
            else:
                blended += 1
                expected = kept * own + (1 - kept) * others
                np.testing.assert_allclose(mixed, expected, atol=0.01)
        assert 0 < blended < len(augmented[name])


def test_more_pictures_are_augmented_more(augmented: dict[str, np.ndarray]) -> None:
    assert np.all(np.diff(augmented["smallest_crops"]) <= 0)
    assert np.all(np.diff(augmented["mix_shares"]) >= 0)
    assert augmented["mix_shares"][[0, -1]].tolist() == [0, 0.5]
