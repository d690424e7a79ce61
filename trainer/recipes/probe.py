"""Train the recipe `probe`: a linear head on the features of the frozen backbone."""

import logging
import os

import onnx

from trainer.data.features import extract
from trainer.job import Job, Outcome
from trainer.nets.assemble import assemble
from trainer.nets.convert import backbone_file
from trainer.nets.specification import HEAD_CHANNELS
from trainer.recipes.left_out import left_out_confidence
from trainer.recipes.novelty import fit_novelty
from trainer.recipes.ridge_head import fit_head
from trainer.recipes.suspects import find_suspects

log = logging.getLogger(__name__)


def probe(job: Job) -> Outcome:
    """Extract the features of both channels and fit the head to those of training."""
    settings, training, validation = job.settings, job.training, job.validation
    backbone = job.weights / backbone_file(settings.backbone)
    with job.timings.step("features"):
        train_features = extract(backbone, training, job.resize, settings.mini_batch_size)
        validation_features = extract(backbone, validation, job.resize, settings.mini_batch_size)
    with job.timings.step("novelty"):
        novelty = fit_novelty(train_features[:, -HEAD_CHANNELS:])
    with job.timings.step("head"):
        fit = fit_head(train_features, training.labels, len(job.classes), settings.seed)

    accuracies, predictions = {"train": fit.training_accuracy}, None
    if len(validation):
        predictions = fit.head.probabilities(validation_features).argmax(axis=1)
        accuracies["validation"] = float((predictions == validation.labels).mean())
    for name, accuracy in accuracies.items():
        log.info("Epoch[0] %s-accuracy=%.6f", name.capitalize(), accuracy)
    left_out = fit.left_out
    probabilities = fit.head.of_scores(left_out.scores)
    labels = training.labels[left_out.records]
    suspects = find_suspects(left_out.records, labels, probabilities)
    report = {
        "cross_validation": {
            "left_out": fit.leave_one_out_records,
            "accuracy": fit.leave_one_out_accuracy,
            "path": [
                {"l2": l2, "loss": loss, "accuracy": accuracy} for l2, loss, accuracy in fit.path
            ],
            "l2": fit.l2,
        },
        "calibration": fit.head.temperature.report(fit.leave_one_out_records),
        "left_out_confidence": left_out_confidence(probabilities, labels) if len(labels) else None,
        "novelty": novelty.report(),
        "suspects": {"records": fit.leave_one_out_records, "suspects": len(suspects)},
    }
    model = assemble(onnx.load(os.fspath(backbone)), fit.head, novelty.novelty, job.resize)
    return Outcome(model, accuracies, report, predictions, suspects)
