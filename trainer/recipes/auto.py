"""Train the recipe `auto`: `probe`, then `finetune` where there is PyTorch; the better one is kept.

Both are judged on the validation images, pair by pair. `probe` uses them for nothing else, whereas
`finetune` chooses its best epoch on them, so that its accuracy there is a little too high. It is
kept where it is better by more than one standard error of the difference (Breiman, Friedman, Olshen
and Stone, "Classification and Regression Trees", 1984, the one-standard-error rule); where there
are no validation images, `probe` is kept, which has its leave-one-out accuracy to show.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

from trainer.artefact import WEIGHTS_FILE
from trainer.job import Job, Outcome
from trainer.nets.specification import LITE0, PACKAGED
from trainer.settings import FINETUNE, PROBE, SettingsError

log = logging.getLogger(__name__)

Recipe = Callable[[Job], Outcome | None]


@dataclass(frozen=True, slots=True)
class Choice:
    """The recipe whose model is kept, why, and in how many validation images the two differ."""

    recipe: str
    reason: str
    only_probe_correct: int | None = None
    only_finetune_correct: int | None = None


def auto(job: Job, probe: Recipe, finetune: Recipe | None) -> tuple[Job, Outcome]:
    """The better outcome, and the job of its recipe. finetune: None where there is no PyTorch.

    A network that cannot be fine-tuned as the settings say leaves `probe`'s model, with the reason.
    The suspects are those of `probe`, which has leave-one-out predictions.
    """
    jobs = {name: of_recipe(job, name) for name in (PROBE, FINETUNE)}
    outcomes = {PROBE: _outcome(probe, jobs[PROBE])}
    if finetune is None:
        choice = Choice(
            PROBE,
            "Nothing was fine-tuned: this image has no PyTorch, as the stack's has where "
            "TrainingInstanceType names a GPU.",
        )
    else:
        try:
            outcomes[FINETUNE] = _outcome(finetune, jobs[FINETUNE])
        except SettingsError as error:
            choice = Choice(PROBE, f"Nothing could be fine-tuned: {error}")
        else:
            choice = choose(job, outcomes[PROBE], outcomes[FINETUNE])
    if choice.recipe == PROBE:
        # Of a fine-tuned network that is not kept.
        (job.folders.model / WEIGHTS_FILE).unlink(missing_ok=True)
    log.info("kept recipe=%s: %s", choice.recipe, choice.reason)
    kept, settings = outcomes[choice.recipe], job.settings
    report = {
        **kept.report,
        "suspects": outcomes[PROBE].report["suspects"],
        "hyperparameters": settings.as_given(),
        "without_effect": settings.without_effect(),
        "choice": {
            "reason": choice.reason,
            "only_probe_correct": choice.only_probe_correct,
            "only_finetune_correct": choice.only_finetune_correct,
            "candidates": [
                _candidate(name, jobs[name], outcome) for name, outcome in outcomes.items()
            ],
        },
    }
    return jobs[choice.recipe], replace(kept, report=report, suspects=outcomes[PROBE].suspects)


def _outcome(recipe: Recipe, job: Job) -> Outcome:
    outcome = recipe(job)
    assert outcome is not None, "this recipe trains on one instance"
    return outcome


def of_recipe(job: Job, recipe: str) -> Job:
    """The same job by one recipe. Features of `probe` are those of a packaged network only."""
    settings = job.settings
    other = recipe == PROBE and settings.backbone not in PACKAGED
    backbone = LITE0.name if other else settings.backbone
    return replace(job, settings=replace(settings, recipe=recipe, backbone=backbone))


def choose(job: Job, probe: Outcome, finetune: Outcome) -> Choice:
    """Compare the predictions of both for the same validation images."""
    if probe.predictions is None or finetune.predictions is None:
        return Choice(
            PROBE,
            "There are no validation images to compare on: probe has its leave-one-out accuracy "
            "on the training images, and a fine-tuned network has none.",
        )
    labels = job.validation.labels
    before, after = probe.predictions == labels, finetune.predictions == labels
    lost, won = int((before & ~after).sum()), int((after & ~before).sum())
    pairs = f"on {len(labels)} validation images finetune alone is right on {won}, probe on {lost}"
    if won - lost > sqrt(won + lost):
        reason = f"Fine-tuning is better by more than one standard error: {pairs}."
        return Choice(FINETUNE, reason, lost, won)
    reason = f"Fine-tuning is not better by more than one standard error: {pairs}."
    return Choice(PROBE, reason, lost, won)


def _candidate(name: str, job: Job, outcome: Outcome) -> dict[str, Any]:
    found: dict[str, Any] = {
        "recipe": name,
        "backbone": job.settings.backbone,
        "accuracy": outcome.accuracies,
    }
    if left_out := outcome.report.get("cross_validation"):
        found["leave_one_out"] = {
            "records": left_out["left_out"],
            "accuracy": left_out["accuracy"],
        }
    return found
