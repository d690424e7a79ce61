"""Baseline of recipe probe: a notebook's logistic regression on the channel means of the same net.

    python -m benchmarks.training.logistic BASE SIDE OUT.npz

As scikit-learn's LogisticRegression on standardised features has it: C = 1, 100 steps at most.
"""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray
from scipy.optimize import minimize

from trainer.artefact import CLASSES_FILE, read_classes
from trainer.data.features import Channel, extract
from trainer.data.preprocess import Resize
from trainer.nets.convert import build_features, read_weights
from trainer.nets.specification import LITE0
from trainer.recipes.ridge_head import softmax

MAX_ITERATIONS = 100
BATCH = 32


def main(base: str, side: str, out: str) -> None:
    """Fit on the channel train; write the answers to the channel validation."""
    data = Path(base) / "input/data"
    classes = len(read_classes(data / "classes" / CLASSES_FILE))
    train, validation = (
        Channel.open(name, data / name, classes) for name in ("train", "validation")
    )
    resize = Resize(width=int(side), height=int(side))
    with TemporaryDirectory() as folder:
        net = Path(folder) / "net.onnx"
        onnx.save(build_features(LITE0, read_weights(LITE0)), os.fspath(net))
        seen, unseen = (extract(net, channel, resize, BATCH) for channel in (train, validation))
    mean, deviation = seen.mean(axis=0), np.maximum(seen.std(axis=0), 1e-6)
    seen, unseen = ((each - mean) / deviation for each in (seen, unseen))
    weight, bias = fit(seen, train.labels, classes)
    np.savez(out, answers=softmax(unseen @ weight + bias), labels=validation.labels)


def fit(
    x: NDArray[np.float32], labels: NDArray[np.int64], classes: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weight and bias that minimise the summed cross-entropy + |weight|^2 / 2."""
    shape = (x.shape[1] + 1, classes)
    truths = np.eye(classes, dtype=np.float32)[labels]

    def loss_and_gradient(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        solution = flat.reshape(shape)
        answers = softmax(x @ solution[:-1].astype(np.float32) + solution[-1].astype(np.float32))
        sure = np.maximum(answers[np.arange(len(x)), labels], 1e-30)
        loss = -np.log(sure).sum(dtype=np.float64) + np.square(solution[:-1]).sum() / 2
        residual = answers - truths
        gradient = np.concatenate([x.T @ residual + solution[:-1], residual.sum(0, keepdims=True)])
        return float(loss), gradient.ravel().astype(np.float64)

    found = minimize(
        loss_and_gradient,
        np.zeros(np.prod(shape)),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": MAX_ITERATIONS},
    ).x.reshape(shape)
    return found[:-1].astype(np.float32), found[-1].astype(np.float32)


if __name__ == "__main__":
    main(*sys.argv[1:])
