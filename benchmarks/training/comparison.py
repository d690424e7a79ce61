"""Recipe finetune with batch norms folded and trained, from the same start, on the CPU.

    python -m benchmarks.training.comparison            --splits 1 --epochs 2 for a quick look

Some of Stanford Cars' models at a small size, so that a CPU can train them; each split holds out
another fifth of every model. `folded` is the recipe; `trained` is what it was before: batch norms
trained as usual, views of the served size, four times the learning rate. Both start from the same
classifier, in closed form, on the same pretrained network; `start` is that, without any training.
All are judged after their last epoch, on held-out pictures that chose nothing.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.harness import provenance, versions
from benchmarks.training.__main__ import parse_shape, write_settings
from benchmarks.training.results import COMPARISON, keep_named
from benchmarks.training.stanford import pack
from droplens.inference.cores import cores
from trainer.data.decode import decode
from trainer.job import Job
from trainer.nets.backbone import load_backbone
from trainer.recipes.finetune.device import find_device, prepare_device
from trainer.recipes.finetune.fitting import Fitting
from trainer.recipes.finetune.network import Network
from trainer.recipes.finetune.peers import ALONE
from trainer.recipes.finetune.pixels import Pixels, with_margin
from trainer.recipes.finetune.run import start
from trainer.settings import Folders
from trainer.train import open_job

PACKAGES = ("numpy", "onnxruntime", "pillow", "scipy", "torch")
FORMER_RATE = 2e-3
START, TRAINED, FOLDED = "start", "trained", "folded"
BATCH = 32

Figures = dict[str, Any]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=3, choices=range(1, 6))
    parser.add_argument("--pictures", type=int, default=400, help="whole classes up to so many")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--shape", type=parse_shape, default=(96, 160), help="HEIGHTxWIDTH")
    arguments = parser.parse_args()
    measured = provenance()
    prepare_device(cores())
    splits = []
    for number in range(arguments.splits):
        with TemporaryDirectory() as work:
            base = Path(work)
            corpus = pack(base, arguments.pictures, number)
            write_settings(base, corpus, arguments.shape, BATCH, arguments.epochs)
            splits.append(compared(open_job(Folders(base))))
        print(f"split {number}: {json.dumps(splits[-1])}", flush=True)
    result = {
        **measured,
        "versions": versions(*PACKAGES),
        "corpus": corpus,
        "settings": {**vars(arguments), "batch": BATCH},
        **summary(splits),
    }
    for name in (START, TRAINED, FOLDED):
        print(f"{name}: {json.dumps(result[name])}")
    keep_named(COMPARISON, result)


def compared(job: Job) -> dict[str, Figures]:
    """All three on one split."""
    device = find_device("auto")
    training = Pixels.of(decode(job.training, with_margin(job.resize)), job.training.labels, device)
    validation = Pixels.of(decode(job.validation, job.resize), job.validation.labels, device)

    shape = job.settings.image_shape
    backbone = load_backbone(job.settings.backbone, True, shape)
    former = Network(backbone, len(job.classes))
    former.fit_classifier(training, shape, job.settings.seed)
    as_before = replace(job, settings=replace(job.settings, learning_rate=FORMER_RATE))
    found: dict[str, Figures] = {}
    for name, network, its_job, views in (
        (TRAINED, former, as_before, shape),
        (FOLDED, start(job, training, ALONE), job, None),
    ):
        fitting = Fitting(its_job, network, training, validation, shape=views)
        if name == FOLDED:
            found[START] = {"correct": correct(fitting)}
        begun = time.monotonic()
        for epoch in range(job.settings.epochs):
            fitting.train_epoch(epoch)
        seconds = time.monotonic() - begun
        found[name] = {
            "correct": correct(fitting),
            "seconds": round(seconds, 1),
            "pictures_per_second": round(
                fitting.schedule.images * job.settings.epochs / seconds, 1
            ),
        }
    return {name: {**each, "pictures": len(validation)} for name, each in found.items()}


def correct(fitting: Fitting) -> int:
    """Held-out pictures that the averaged weights classify correctly."""
    predicted = fitting.scores(fitting.average).argmax(1).cpu().numpy()
    return int((predicted == fitting.validation.labels).sum())


def summary(splits: Sequence[Mapping[str, Figures]]) -> dict[str, Any]:
    """Over all splits: top-1, and means of seconds and speeds."""
    result: dict[str, Any] = {}
    for name in (START, TRAINED, FOLDED):
        ways = [split[name] for split in splits]
        pictures = sum(each["pictures"] for each in ways)
        result[name] = {"top1": sum(each["correct"] for each in ways) / pictures}
        if name != START:
            for figure in ("seconds", "pictures_per_second"):
                result[name][figure] = round(fmean(each[figure] for each in ways), 1)
    result["pictures"] = pictures
    result["ratio"] = fmean(
        split[FOLDED]["pictures_per_second"] / split[TRAINED]["pictures_per_second"]
        for split in splits
    )
    return {**result, "splits": list(splits)}


if __name__ == "__main__":
    main()
