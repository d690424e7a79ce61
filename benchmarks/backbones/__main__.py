"""The packaged networks next to each other, by recipe probe: how accurate, and how slow to serve.

    make bench-backbones        SPLITS=1 for a quick look

Every network sees the same images of the sets of benchmarks.trust.pictures. Each split holds out
another fifth of every class; the head is fitted to the rest, as a training fits it, and judged on
the images held out, in pairs between the networks (McNemar's test). What serving takes is measured
on whole graphs, float32, one image at a time and alternately, with a server's session options.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.backbones.table import markdown
from benchmarks.harness import keep, provenance, versions
from benchmarks.trust.pictures import Pictures, all_sets
from droplens.inference.cores import cores
from droplens.inference.network import open_session
from droplens.statistics.intervals import mcnemar
from trainer.data.preprocess import Resize
from trainer.nets.assemble import assemble
from trainer.nets.convert import build_backbone, read_weights
from trainer.nets.specification import HEAD_CHANNELS, LITE0, LITE2, PACKAGED
from trainer.recipes.novelty import fit_novelty
from trainer.recipes.ridge_head import Head, fit_head
from trainer.recipes.temperature import Temperature

PACKAGES = ("numpy", "onnxruntime", "scipy")
FOLDS = 5
TIMED_RUNS = 60

Correct = NDArray[np.bool_]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=2, choices=range(1, FOLDS + 1))
    splits = parser.parse_args().splits
    measured = provenance()
    sets: dict[str, dict[str, Any]] = {}
    correct: dict[str, dict[str, Correct]] = {}
    for name, net in PACKAGED.items():
        for pictures in all_sets(net):
            found, right = judged(pictures, splits)
            correct.setdefault(pictures.name, {})[name] = right
            known = sets.setdefault(pictures.name, described(pictures, splits))
            known[name] = found
            print(pictures.name, name, json.dumps(found), flush=True)
    for name, known in sets.items():
        known |= compared(correct[name][LITE0.name], correct[name][LITE2.name])
        known["p50_ms"] = timed(known["side"], known["classes"])
        print(name, json.dumps(known), flush=True)
    result = {**measured, "versions": versions(*PACKAGES), "splits": splits, "sets": sets}
    print(markdown(result))
    keep("backbones", result)
    print("make docs shows it in docs/probe.md")


def described(pictures: Pictures, splits: int) -> dict[str, Any]:
    """The set, and how many of its images are judged in all splits together."""
    return {
        "side": pictures.side,
        "classes": len(pictures.classes),
        "pictures": len(pictures.labels),
        "judged": sum(len(held_out) for _, held_out in folds(pictures.labels, splits)),
    }


def folds(labels: NDArray[np.int64], splits: int) -> Iterator[tuple[Any, Any]]:
    """Indices to fit to and to judge on: of every class each fifth image, by turns."""
    order = np.random.default_rng(0).permutation(len(labels))
    turn = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        mine = order[labels[order] == label]
        turn[mine] = np.arange(len(mine)) % FOLDS
    for split in range(splits):
        yield np.flatnonzero(turn != split), np.flatnonzero(turn == split)


def judged(pictures: Pictures, splits: int) -> tuple[dict[str, Any], Correct]:
    """Means over the splits, and which images were predicted correctly, in their order."""
    left_out, right = [], []
    for fitted, held_out in folds(pictures.labels, splits):
        features, labels = pictures.features[fitted], pictures.labels[fitted]
        fit = fit_head(features, labels, len(pictures.classes), 0)
        left_out.append(fit.leave_one_out_accuracy)
        predicted = fit.head.probabilities(pictures.features[held_out]).argmax(axis=1)
        right.append(predicted == pictures.labels[held_out])
    found = {
        "features": pictures.features.shape[1],
        "top1": fmean(float(each.mean()) for each in right),
        "leave_one_out": fmean(each or 0.0 for each in left_out),
    }
    return found, np.concatenate(right)


def compared(small: Correct, large: Correct) -> dict[str, Any]:
    """Images that one network alone has right, and how likely that is if both are as accurate."""
    lost, won = int((small & ~large).sum()), int((large & ~small).sum())
    return {"only_lite0": lost, "only_lite2": won, "p_value": mcnemar(won, lost)}


def timed(side: int, classes: int) -> dict[str, float]:
    """Median milliseconds of one image, by network. Head and novelty are made up, which takes no
    less time."""
    chance = np.random.default_rng(0)
    resize = Resize(width=side, height=side)
    novelty = fit_novelty(chance.random((9, HEAD_CHANNELS), np.float32)).novelty
    sessions = {}
    with TemporaryDirectory() as folder:
        for name, net in PACKAGED.items():
            weight = chance.normal(0, 0.1, (net.features, classes)).astype(np.float32)
            head = Head(weight, np.zeros(classes, np.float32), Temperature.constant(1))
            path = Path(folder) / f"{name}.onnx"
            backbone = build_backbone(net, read_weights(net))
            onnx.save(assemble(backbone, head, novelty, resize), path)
            sessions[name] = open_session(path, threads=cores())
    seconds: Mapping[str, list[float]] = {name: [] for name in sessions}
    image = chance.integers(0, 256, (1, side, side, 3)).astype(np.uint8)
    for _ in range(TIMED_RUNS):
        for name, session in sessions.items():
            started = perf_counter()
            session.run(["probabilities"], {"image": image})
            seconds[name].append(perf_counter() - started)
    return {name: round(1000 * median(each), 2) for name, each in seconds.items()}


if __name__ == "__main__":
    main()
