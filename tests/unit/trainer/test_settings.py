"""Hyperparameters arrive as strings and leave as checked values, or as a sentence that says why."""

import json
from pathlib import Path

import pytest

from trainer.settings import Folders, Hyperparameters, SettingsError

REQUIRED = {"num_classes": "24", "num_training_samples": "645"}


def parse(**changes: str) -> Hyperparameters:
    return Hyperparameters.from_strings(REQUIRED | changes)


def test_strings_become_typed_values() -> None:
    settings = parse(image_shape="3,288,320", mini_batch_size="16", seed="7", recipe="probe")
    assert settings.num_classes == 24
    assert settings.num_training_samples == 645
    assert settings.image_shape == (288, 320)
    assert settings.mini_batch_size == 16
    assert settings.seed == 7


def test_the_built_in_algorithms_hyperparameters_are_taken_and_told_to_be_without_effect() -> None:
    settings = parse(
        num_layers="50",
        use_pretrained_model="1",
        epochs="30",
        optimizer="sgd",
        learning_rate="0.01",
        lr_scheduler_factor="0.1",
        lr_scheduler_step="20,25",
        augmentation_type="crop_color_transform",
        early_stopping="True",
        precision_dtype="float32",
        mini_batch_size="32",
    )
    assert settings.early_stopping is True
    assert settings.without_effect() == (
        "augmentation_type",
        "early_stopping",
        "epochs",
        "learning_rate",
        "lr_scheduler_factor",
        "lr_scheduler_step",
        "num_layers",
        "optimizer",
        "precision_dtype",
        "use_pretrained_model",
    )
    assert settings.as_given()["mini_batch_size"] == 32
    assert "optimizer" not in settings.as_given()


def test_finetune_has_defaults_of_its_own_and_takes_what_is_given() -> None:
    settings = parse(recipe="finetune", optimizer="sgd", epochs="12", weight_decay="0.1")
    assert (settings.learning_rate, settings.weight_decay) == (5e-4, 0.1)
    assert settings.augmentation_type == "crop_color"
    assert settings.backbone == "efficientnet-lite0"
    assert settings.without_effect() == ("optimizer",)
    assert parse().learning_rate == 0.1


def test_compile_of_earlier_versions_is_taken_and_told_to_be_without_effect() -> None:
    settings = parse(recipe="finetune", compile="always")
    assert settings.without_effect() == ("compile",)
    assert "compile" not in settings.as_given()


def test_what_was_not_given_is_not_told_to_be_without_effect() -> None:
    assert parse().without_effect() == ()


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("num_classes", "1", "at least 2"),
        ("num_classes", "many", "whole number"),
        ("num_classes", "24.5", "whole number"),
        ("num_training_samples", "0", "at least 1"),
        ("mini_batch_size", "-3", "at least 1"),
        ("learning_rate", "nan", "at least 0 and at most 1"),
        ("learning_rate", "1.5", "at most 1"),
        ("image_shape", "288,288", "'3,height,width'"),
        ("image_shape", "1,288,288", "'3,height,width'"),
        ("image_shape", "3,8,288", "32 to 1024"),
        ("image_shape", "3,288,100000", "32 to 1024"),
        ("recipe", "magic", "one of probe, finetune"),
        ("early_stopping", "perhaps", "True or False"),
        ("multi_label", "1", "one label"),
        ("seed", "4294967296", "at most 4294967295"),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, text: str, complaint: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse(**{name: text})
    assert name in str(refused.value)
    assert complaint in str(refused.value)


def test_an_unknown_hyperparameter_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="learning_rat"):
        parse(learning_rat="0.1")


@pytest.mark.parametrize("name", ["num_classes", "num_training_samples", "given", "nonsense"])
def test_only_real_hyperparameters_count(name: str) -> None:
    values = {key: value for key, value in REQUIRED.items() if key != name}
    if name not in REQUIRED:
        values[name] = "1"
    with pytest.raises(SettingsError, match=name):
        Hyperparameters.from_strings(values)


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"'])
def test_a_file_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hyperparameters.json"
    path.write_text(text, "utf-8")
    with pytest.raises(SettingsError, match="JSON"):
        Hyperparameters.from_file(path)


def test_the_folders_are_sagemakers_unless_the_environment_says_otherwise(tmp_path: Path) -> None:
    assert Folders.from_environment({}).failure == Path("/opt/ml/output/failure")
    folders = Folders.from_environment({"SAGEMAKER_BASE_DIR": str(tmp_path)})
    assert folders.channel("train") == tmp_path / "input/data/train"
    folders.hyperparameters.parent.mkdir(parents=True)
    folders.hyperparameters.write_text(json.dumps(REQUIRED), "utf-8")
    assert Hyperparameters.from_file(folders.hyperparameters).num_classes == 24
