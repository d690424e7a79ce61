"""Which of two models recipe auto keeps, and what it says of it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from droplens.report.curves import trained
from droplens.report.markup import Element
from trainer.artefact import WEIGHTS_FILE
from trainer.job import Job, Outcome, Timings
from trainer.recipes.auto import auto
from trainer.recipes.suspects import Suspect
from trainer.settings import Folders, Hyperparameters, SettingsError

LABELS = np.arange(200) % 4


def job(folder: Path, labels: Any = LABELS, **hyperparameters: str) -> Job:
    """As much of a job as the choice depends on."""
    settings = Hyperparameters.from_strings(
        {"num_classes": "4", "num_training_samples": "9", "recipe": "auto"} | hyperparameters
    )
    channel: Any = SimpleNamespace(labels=labels)
    nothing: Any = None
    (folder / "model").mkdir()
    return Job(Folders(folder), settings, [], channel, channel, nothing, folder, {}, Timings())


SUSPECT = Suspect(record=5, label=0, likely=1, probability=0.1, likely_probability=0.9)


class Recipe:
    """A recipe whose model is wrong on some of the validation images."""

    def __init__(self, name: str, wrong: range | None, writes: Path | None = None) -> None:
        self.name, self.wrong, self.writes = name, wrong, writes
        self.settings: Any = None

    def __call__(self, job: Job) -> Outcome:
        self.settings = job.settings
        if self.writes:
            (self.writes / "model" / WEIGHTS_FILE).touch()
        report: dict[str, Any] = {"made_by": self.name}
        suspects = None
        if self.name == "probe":
            report["cross_validation"] = {"left_out": 9, "accuracy": 0.8, "path": [], "l2": 0.1}
            report["suspects"], suspects = {"records": 9, "suspects": 1}, [SUSPECT]
        if self.wrong is None:
            return Outcome(onnx.ModelProto(), {"train": 1.0}, report, None, suspects)
        predictions = job.validation.labels.copy()
        predictions[list(self.wrong)] += 1
        accuracies = {"train": 1.0, "validation": 1 - len(self.wrong) / len(predictions)}
        return Outcome(onnx.ModelProto(), accuracies, report, predictions, suspects)


@pytest.mark.parametrize(
    ("probe", "finetune", "kept", "lost", "won"),
    [
        (range(20), range(10), "finetune", 0, 10),
        (range(20), range(20), "probe", 0, 0),
        (range(10), range(20), "probe", 10, 0),
        # 12 against 8: 4 more, and the standard error is 4.5.
        (range(12), range(12, 20), "probe", 8, 12),
        # 13 against 7: 6 more.
        (range(13), range(13, 20), "finetune", 7, 13),
    ],
)
def test_the_fine_tuned_model_is_kept_where_it_is_better_by_more_than_chance(
    tmp_path: Path, probe: range, finetune: range, kept: str, lost: int, won: int
) -> None:
    recipes = Recipe("probe", probe), Recipe("finetune", finetune, tmp_path)
    its, outcome = auto(job(tmp_path), *recipes)
    assert its.settings.recipe == outcome.report["made_by"] == kept
    choice = outcome.report["choice"]
    assert (choice["only_probe_correct"], choice["only_finetune_correct"]) == (lost, won)
    assert f"finetune alone is right on {won}, probe on {lost}" in choice["reason"]
    assert [each["recipe"] for each in choice["candidates"]] == ["probe", "finetune"]
    assert choice["candidates"][0]["leave_one_out"] == {"records": 9, "accuracy": 0.8}
    # They are probe's in any case.
    assert (outcome.report["suspects"]["suspects"], outcome.suspects) == (1, [SUSPECT])
    # A network that is not kept is not in the artefact.
    assert (tmp_path / "model" / WEIGHTS_FILE).exists() == (kept == "finetune")


def test_without_pytorch_nothing_is_fine_tuned(tmp_path: Path) -> None:
    its, outcome = auto(job(tmp_path), Recipe("probe", range(3)), None)
    assert its.settings.recipe == "probe"
    assert "has no PyTorch" in outcome.report["choice"]["reason"]
    assert len(outcome.report["choice"]["candidates"]) == 1


def test_without_validation_images_probe_is_kept(tmp_path: Path) -> None:
    its, outcome = auto(job(tmp_path, LABELS[:0]), Recipe("probe", None), Recipe("finetune", None))
    assert its.settings.recipe == "probe"
    assert "no validation images" in outcome.report["choice"]["reason"]


def test_what_cannot_be_fine_tuned_leaves_probe_s_model_and_the_reason(tmp_path: Path) -> None:
    def refused(_: Job) -> Outcome:
        raise SettingsError("Hyperparameter device=gpu, but PyTorch finds none here.")

    its, outcome = auto(job(tmp_path), Recipe("probe", range(3)), refused)
    assert its.settings.recipe == "probe"
    assert outcome.report["choice"]["reason"] == (
        "Nothing could be fine-tuned: Hyperparameter device=gpu, but PyTorch finds none here."
    )


def test_each_recipe_has_the_network_that_it_can_have(tmp_path: Path) -> None:
    probe, finetune = Recipe("probe", range(9)), Recipe("finetune", range(1))
    _, outcome = auto(job(tmp_path, backbone="resnet18"), probe, finetune)
    assert probe.settings.backbone == "efficientnet-lite0"
    assert finetune.settings.backbone == "resnet18"
    assert finetune.settings.learning_rate == 5e-4
    # What the user gave, whichever recipe's model is kept.
    assert outcome.report["hyperparameters"]["recipe"] == "auto"
    assert outcome.report["without_effect"] == ()


def test_the_report_page_says_why(tmp_path: Path) -> None:
    recipes = Recipe("probe", range(20)), Recipe("finetune", range(10))
    _, outcome = auto(job(tmp_path), *recipes)
    training = {"recipe": "finetune", "accuracy": outcome.accuracies, **outcome.report}
    _, said, *_ = trained(training)
    assert isinstance(said, Element)
    text = "".join(said.itertext())
    assert outcome.report["choice"]["reason"] in text
    accuracies = "probe (efficientnet-lite0): 100.0 % on train, 90.0 % on validation; finetune "
    assert accuracies in text.replace("\N{NO-BREAK SPACE}", " ")
