"""Recipe probe on 196 car models, on the CPU: how good, how fast, in how much memory.

    make bench-probe            SPLITS=1 PICTURES=600 for a quick look

Each split holds out another fifth of every class. The training container's own entry point runs as
a process of its own, choosing the input's size, and the model that it wrote classifies the held-out
images. Baselines get the same records: what a notebook does with the same net at 224 x 224, a
logistic regression on its channel means (C = 1, as scikit-learn has it); and on the first split
MXNet's ResNet-18 from scratch, which is what SageMaker's built-in algorithm trains, for the time
that probe took.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import ROOT, provenance, versions
from benchmarks.training.results import keep_probe
from benchmarks.training.stanford import pack
from benchmarks.training.table import markdown
from droplens.statistics.calibration import expected_error, reliability
from droplens.statistics.calibration import fit as fit_calibration
from trainer.artefact import MODEL_FILE, PROBABILITIES, TRAINING_FILE
from trainer.data.features import Channel, extract
from trainer.data.preprocess import Resize
from trainer.nets.convert import write_backbone
from trainer.settings import AUTO

MXNET_PYTHON = ROOT / ".local" / "venv" / "mxnet" / "bin" / "python"
PACKAGES = ("numpy", "onnxruntime", "pillow", "scipy")
SIDE, BATCH = 224, 32

Answers = NDArray[np.float32]
Labels = NDArray[np.int64]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=2, choices=range(1, 6))
    parser.add_argument("--pictures", type=int, default=10**9, help="whole classes up to as many")
    arguments = parser.parse_args()
    measured = provenance()
    with TemporaryDirectory() as work:
        weights = write_backbone(Path(work) / "weights").parent
        splits = []
        for number in range(arguments.splits):
            base = Path(work) / str(number)
            corpus = pack(base, arguments.pictures, number)
            print(f"split {number}: {corpus['said']}", flush=True)
            splits.append({"probe": run_probe(base, corpus, weights), "logistic": run_peer(base)})
            print(json.dumps(splits[-1]), flush=True)
        mxnet = run_mxnet(Path(work) / "0", splits[0]["probe"]["seconds"], corpus["classes"])
    result = {
        **measured,
        "versions": versions(*PACKAGES),
        "corpus": corpus,
        "device": "cpu",
        **summary(splits, mxnet),
    }
    print(markdown(result))
    if arguments.pictures < 10**9:
        print("Not written: these are not all pictures.")
        return
    keep_probe(result)
    print("make docs shows it in docs/probe.md")


def run_probe(base: Path, corpus: Mapping[str, Any], weights: Path) -> dict[str, Any]:
    """The training process, measured from outside, and what its model answers."""
    values = {
        "recipe": "probe",
        "num_classes": corpus["classes"],
        "num_training_samples": corpus["train"],
        "image_shape": AUTO,
        "aspect_ratio": corpus["aspect_ratio"],
        "mini_batch_size": BATCH,
    }
    (base / "input/config").mkdir()
    text = json.dumps({name: str(value) for name, value in values.items()})
    (base / "input/config/hyperparameters.json").write_text(text, "utf-8")
    folders = {"SAGEMAKER_BASE_DIR": str(base), "DROPLENS_WEIGHTS": str(weights)}
    measured = measured_run([sys.executable, "-m", "trainer", "train"], **folders)
    training = json.loads((base / "model" / TRAINING_FILE).read_text("utf-8"))
    validation = Channel.open("validation", base / "input/data/validation", corpus["classes"])
    graph, resize = base / "model" / MODEL_FILE, Resize.read(base / "model")
    answers = extract(graph, validation, resize, BATCH, PROBABILITIES)
    found = {name: training[name] for name in ("input_size", "int8")}
    found["steps"] = training["seconds"]
    return measured | found | judge(answers, validation.labels)


def run_peer(base: Path) -> dict[str, Any]:
    """The notebook's way, as a process of its own."""
    out = base / "logistic.npz"
    command = [sys.executable, "-m", "benchmarks.training.logistic", str(base), str(SIDE), str(out)]
    measured = measured_run(command)
    with np.load(out) as said:
        return measured | judge(said["answers"], said["labels"])


def run_mxnet(base: Path, seconds: float, classes: int) -> dict[str, Any] | None:
    """ResNet-18 from scratch, where there is an environment with MXNet."""
    if not MXNET_PYTHON.is_file():
        return None
    out = base / "mxnet.json"
    script = Path(__file__).with_name("mxnet_resnet.py")
    measured = measured_run(
        [str(MXNET_PYTHON), str(script), str(base), str(classes), f"{seconds:.0f}", str(out)]
    )
    return measured | json.loads(out.read_text("utf-8"))


def measured_run(command: Sequence[str], **environment: str) -> dict[str, float]:
    """Run to the end. Wall seconds and peak memory of the process, its start counted."""
    begun = time.monotonic()
    process = subprocess.Popen(
        command, env=os.environ | environment, cwd=ROOT, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return {
        "seconds": round(time.monotonic() - begun, 1),
        "peak_memory_mb": round(usage.ru_maxrss / unit),
    }


def judge(answers: Answers, labels: Labels) -> dict[str, float]:
    """Figures of probabilities [records, classes].

    ece: of the model's probabilities; ece_calibrated: after the calibration that promotion fits,
    each half of the images by the map of the other half.
    """
    order = np.argsort(-answers, axis=1)
    right = order[:, 0] == labels
    truth = answers[np.arange(len(labels)), labels].astype(np.float64)
    even = np.arange(len(labels)) % 2 == 0
    calibrated: list[tuple[float, bool]] = []
    for fitted in (even, ~even):
        mapping = fit_calibration(answers[fitted].tolist(), labels[fitted].tolist())
        best = [max(mapping.apply(row)) for row in answers[~fitted].tolist()]
        calibrated += zip(best, right[~fitted].tolist(), strict=True)
    said = list(zip(answers.max(axis=1).tolist(), right.tolist(), strict=True))
    return {
        "top1": float(right.mean()),
        "top5": float((order[:, :5] == labels[:, None]).any(axis=1).mean()),
        "nll": float(-np.log(np.maximum(truth, 1e-12)).mean()),
        "ece": expected_error(reliability(said)),
        "ece_calibrated": expected_error(reliability(calibrated)),
    }


def summary(
    splits: Sequence[Mapping[str, Mapping[str, Any]]], mxnet: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Means over the splits, and what each came to."""

    def mean(way: str) -> dict[str, float]:
        names = [name for name, value in splits[0][way].items() if not isinstance(value, dict)]
        return {name: fmean(each[way][name] for each in splits) for name in names}

    ours, peer = mean("probe"), mean("logistic")
    return {
        "top1": ours["top1"],
        "top5": ours["top5"],
        "train_seconds": ours["seconds"],
        "peak_memory_mb": max(each["probe"]["peak_memory_mb"] for each in splits),
        "ours": ours,
        "logistic": peer,
        "mxnet": mxnet,
        "splits": list(splits),
    }


if __name__ == "__main__":
    main()
