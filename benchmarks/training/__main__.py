"""Recipe finetune and a plain fine-tuning loop on the same images, network, epochs and machine.

    make bench-training            PICTURES=400 EPOCHS=3 for a quick look

The pictures are Stanford Cars, one in five of every class held out, always the same. On a GPU all
of them are taken; a CPU takes whole classes up to a few hundred pictures, at a smaller size, which
shows that everything runs and what it costs there, not how well it learns.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.harness import ROOT, provenance, versions
from benchmarks.training.results import keep
from benchmarks.training.stanford import pack

GOAL = 0.8
PACKAGES = ("numpy", "onnx", "onnxruntime", "pillow", "torch")
ON_CPU = {"pictures": 480, "epochs": 4, "side": 96, "batch": 32}
ON_GPU = {"pictures": 10**9, "epochs": 60, "side": 224, "batch": 128}


def main() -> None:
    """Measure, print and write."""
    cuda = torch.cuda.is_available()
    defaults = ON_GPU if cuda else ON_CPU
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--compile", choices=("auto", "always", "never"), default="auto")
    arguments = parser.parse_args()
    measured = provenance()
    with TemporaryDirectory() as work:
        base = Path(work)
        corpus = pack(base, arguments.pictures)
        write_settings(base, corpus, arguments)
        print(f"{corpus['said']}; {arguments.epochs} epochs", flush=True)
        ours = run_ours(base)
        plain = run_plain(base, arguments)
        profile = _profile(base) if cuda else {}
    result = {
        **measured,
        "versions": versions(*PACKAGES),
        "corpus": corpus,
        "settings": vars(arguments),
        **summary(ours, plain, profile),
    }
    show(result)
    keep(result)


def write_settings(base: Path, corpus: Mapping[str, Any], arguments: argparse.Namespace) -> None:
    """hyperparameters.json, as a training job gets it."""
    values = {
        "recipe": "finetune",
        "num_classes": corpus["classes"],
        "num_training_samples": corpus["train"],
        "image_shape": f"3,{arguments.side},{arguments.side}",
        "mini_batch_size": arguments.batch,
        "epochs": arguments.epochs,
        "top_k": 5,
        "checkpoint_frequency": 10,
        "compile": arguments.compile,
    }
    (base / "input/config").mkdir()
    text = json.dumps({name: str(value) for name, value in values.items()})
    (base / "input/config/hyperparameters.json").write_text(text, "utf-8")


def run_ours(base: Path) -> dict[str, Any]:
    """The container's own entry point: training.json, and the process's seconds in all."""
    begun = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "trainer", "train"],
        env=os.environ | {"SAGEMAKER_BASE_DIR": str(base)},
        cwd=ROOT,
        check=True,
    )
    training = json.loads((base / "model/training.json").read_text("utf-8"))
    return training | {"seconds_in_all": time.monotonic() - begun}


def run_plain(base: Path, arguments: argparse.Namespace) -> list[dict[str, float]]:
    """The figures that the plain loop prints for each epoch."""
    sizes = [str(each) for each in (arguments.epochs, arguments.batch, arguments.side)]
    out = base / "plain.json"
    command = [sys.executable, "-m", "benchmarks.training.plain", str(base), *sizes, str(out)]
    subprocess.run(command, cwd=ROOT, check=True)
    return json.loads(out.read_text("utf-8"))


def _profile(base: Path) -> dict[str, float]:
    from benchmarks.training.gpu import profiled

    return profiled(base)


def summary(
    ours: Mapping[str, Any], plain: list[dict[str, float]], profile: Mapping[str, float]
) -> dict[str, Any]:
    """A result's summary. Speeds are medians over the epochs after the first, which warms up."""
    epochs = ours["epochs"]
    best = epochs[ours["best_epoch"]]
    pictures = ours["pictures_per_epoch"]
    speeds = [pictures / each["train_seconds"] for each in epochs][1:]
    plain_speeds = [each["pictures_per_second"] for each in plain][1:]
    speed, plain_speed = median(speeds), median(plain_speeds)
    result: dict[str, Any] = {
        "device": ours["environment"]["device"],
        "top1": ours["accuracy"]["validation"],
        "top5": best["validation_top_5_accuracy"],
        "train_seconds": ours["seconds"]["epochs"],
        "seconds_in_all": ours["seconds_in_all"],
        "seconds_to_80_percent": _seconds_to_goal(ours),
        "pictures_per_second": speed,
        "pictures_per_second_range": [min(speeds), max(speeds)],
        "ratio_to_plain_loop": speed / plain_speed,
        "ratio_range": [min(speeds) / max(plain_speeds), max(speeds) / min(plain_speeds)],
        "plain_loop": {
            "top1": max(each["validation_accuracy"] for each in plain),
            "seconds": sum(each["seconds"] for each in plain),
            "pictures_per_second": plain_speed,
            "pictures_per_second_range": [min(plain_speeds), max(plain_speeds)],
        },
        "environment": ours["environment"],
        "seconds": ours["seconds"],
        "peak_memory_mb": ours["peak_memory_mb"],
    }
    if profile:
        done = speed * profile["operations_per_picture"]
        result |= {**profile, "share_of_measured_peak": done / profile["measured_peak_operations"]}
    return result


def _seconds_to_goal(ours: Mapping[str, Any]) -> float | None:
    """From the start of decoding to the first epoch that reached it; None where none did."""
    passed: float = ours["seconds"]["decode"] + ours["seconds"]["network"]
    for epoch in ours["epochs"]:
        passed += epoch["seconds"]
        if epoch["validation_accuracy"] >= GOAL:
            return passed
    return None


def show(result: Mapping[str, Any]) -> None:
    """The figures that matter."""
    low, high = result["ratio_range"]
    print(
        f"\n{result['device']}: top-1 {result['top1']:.1%}, top-5 {result['top5']:.1%} "
        f"after {result['train_seconds']:.0f} s of training\n"
        f"{result['pictures_per_second']:.0f} pictures/s, "
        f"{result['ratio_to_plain_loop']:.2f} times the plain loop ({low:.2f} to {high:.2f}), "
        f"which came to top-1 {result['plain_loop']['top1']:.1%}"
    )
    if "gpu_idle_share" in result:
        print(
            f"the GPU waited {result['gpu_idle_share']:.1%} of the time and did "
            f"{result['share_of_measured_peak']:.1%} of its measured peak"
        )


if __name__ == "__main__":
    main()
