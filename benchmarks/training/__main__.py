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

from benchmarks.harness import ROOT, provenance, versions
from benchmarks.training.goals import judged, seconds_to
from benchmarks.training.results import keep
from benchmarks.training.stanford import pack

PACKAGES = ("numpy", "onnx", "onnxruntime", "pillow", "torch")
ON_CPU = {"pictures": 480, "epochs": 4, "plain-epochs": 4, "shape": (96, 96), "batch": 32}
ON_GPU = {"pictures": 10**9, "epochs": 50, "plain-epochs": 4, "shape": (224, 384), "batch": 128}
TOP_K = 5


def main() -> None:
    """Measure, print and write."""
    import torch

    cuda = torch.cuda.is_available()
    defaults = ON_GPU if cuda else ON_CPU
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    helps = {
        "pictures": "whole classes up to so many",
        "epochs": "of finetune",
        "plain-epochs": "of the plain loop, whose speed is measured after the first",
        "shape": "HEIGHTxWIDTH of the served image, in pixels",
        "batch": "images of a step",
    }
    for name, value in defaults.items():
        kind = parse_shape if name == "shape" else int
        parser.add_argument(f"--{name}", type=kind, default=value, help=helps[name])
    arguments = parser.parse_args()
    if min(arguments.epochs, arguments.plain_epochs) < 2:
        parser.error("speeds are measured after the first epoch: at least 2 of each are needed")
    measured = provenance()
    with TemporaryDirectory() as work:
        base = Path(work)
        corpus = pack(base, arguments.pictures)
        write_settings(base, corpus, arguments.shape, arguments.batch, arguments.epochs)
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
    if cuda:
        result["goals"] = judged(result)
    show(result)
    keep(result)


def parse_shape(text: str) -> tuple[int, int]:
    """Height and width of "HEIGHTxWIDTH"."""
    height, width = (int(side) for side in text.split("x"))
    return height, width


def write_settings(
    base: Path, corpus: Mapping[str, Any], shape: tuple[int, int], batch: int, epochs: int
) -> None:
    """hyperparameters.json, as a training job gets it."""
    height, width = shape
    values = {
        "recipe": "finetune",
        "num_classes": corpus["classes"],
        "num_training_samples": corpus["train"],
        "image_shape": f"3,{height},{width}",
        "mini_batch_size": batch,
        "epochs": epochs,
        "top_k": TOP_K,
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
    sizes = [arguments.plain_epochs, arguments.batch, *arguments.shape]
    out = base / "plain.json"
    words = [str(each) for each in (base, *sizes, out)]
    subprocess.run(
        [sys.executable, "-m", "benchmarks.training.plain", *words], cwd=ROOT, check=True
    )
    return json.loads(out.read_text("utf-8"))


def _profile(base: Path) -> dict[str, float]:
    from benchmarks.training.gpu import profiled

    return profiled(base)


def summary(
    ours: Mapping[str, Any], plain: list[dict[str, float]], profile: Mapping[str, float]
) -> dict[str, Any]:
    """A result's summary. Speeds are medians over the epochs after the first, which warms up."""
    epochs = ours["epochs"]
    last = epochs[-1]
    pictures = ours["pictures_per_epoch"]
    speeds = [pictures / each["train_seconds"] for each in epochs][1:]
    plain_speeds = [each["pictures_per_second"] for each in plain][1:]
    speed, plain_speed = median(speeds), median(plain_speeds)
    k = min(TOP_K, len(ours["records_per_class"]))
    result: dict[str, Any] = {
        "device": ours["environment"]["device"],
        # Of the epoch that is best on the held-out pictures, which flatters it; and of the last.
        "top1": ours["accuracy"]["validation"],
        "top1_last": last["validation_accuracy"],
        "top5_last": last[f"validation_top_{k}_accuracy"],
        "train_seconds": ours["seconds"]["epochs"],
        "seconds_in_all": ours["seconds_in_all"],
        "seconds_to_goal": seconds_to(
            epochs, ours["seconds"]["decode"] + ours["seconds"]["network"]
        ),
        "pictures_per_second": speed,
        "pictures_per_second_range": [min(speeds), max(speeds)],
        "ratio_to_plain_loop": speed / plain_speed,
        "ratio_range": [min(speeds) / max(plain_speeds), max(speeds) / min(plain_speeds)],
        "plain_loop": {
            "top1_last": plain[-1]["validation_accuracy"],
            "epochs": len(plain),
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


def show(result: Mapping[str, Any]) -> None:
    """The figures that matter."""
    low, high = result["ratio_range"]
    plain = result["plain_loop"]
    print(
        f"\n{result['device']}: top-1 {result['top1_last']:.1%} after the last epoch, "
        f"{result['top1']:.1%} after the best, top-5 {result['top5_last']:.1%}; "
        f"{result['train_seconds']:.0f} s of training\n"
        f"{result['pictures_per_second']:.0f} pictures/s, "
        f"{result['ratio_to_plain_loop']:.2f} times the plain loop ({low:.2f} to {high:.2f}), "
        f"which came to top-1 {plain['top1_last']:.1%} in {plain['epochs']} epochs"
    )
    if "gpu_idle_share" in result:
        print(
            f"the GPU waited {result['gpu_idle_share']:.1%} of the time and did "
            f"{result['share_of_measured_peak']:.1%} of its measured peak"
        )
    for name, each in result.get("goals", {}).items():
        print(f"{name}: {each['measured']}, goal {each['goal']}, met: {each['met']}")


if __name__ == "__main__":
    main()
