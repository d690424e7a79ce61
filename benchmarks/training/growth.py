"""The head of recipe probe on ever more records: seconds and memory, and float32's error.

    make bench-growth           RECORDS="6509 200000"

The features are those of the photographs of 196 car models; beyond their number they are repeated,
each time with other noise, and handed over in groups as the network's passes hand them over. Each
fit is a process of its own. The first number of records is also fitted by their own Gram matrix,
which is exact, and its accumulated sums are compared with those of float64.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the trainer's entry point does

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import ROOT, keep, provenance, versions
from benchmarks.trust.pictures import all_sets
from trainer.recipes import ridge_head
from trainer.recipes.feature_gram import Moments
from trainer.recipes.ridge_head import Fit, fit_head, fit_head_to_stream, regrouped

NAME, SET = "growth", "cars196"
PASS = 32
NOISE = 0.1
BY_RECORDS, BY_FEATURES = "records", "features"


def main() -> None:
    """Measure, print and write; or, as a process of its own, do one fit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, nargs="+", default=[6509, 50000, 200000])
    parser.add_argument("--features", type=Path, help="features and labels, kept as .npz")
    parser.add_argument("--fit", choices=(BY_RECORDS, BY_FEATURES), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fit:
        print(json.dumps(fitted(arguments.features, arguments.records[0], arguments.fit)))
        return
    measured = provenance()
    with TemporaryDirectory() as work:
        features = arguments.features or extracted(Path(work))
        first, *_ = arguments.records
        result = {
            **measured,
            "versions": versions("numpy", "scipy"),
            "exact": run(features, first, BY_RECORDS),
            "float32_error": rounding(features),
            "fits": [run(features, records, BY_FEATURES) for records in arguments.records],
        }
    keep(NAME, result)


def extracted(folder: Path) -> Path:
    """The features of all photographs of 196 car models, in a file."""
    for found in all_sets():
        if found.name == SET:
            np.savez(folder / "features", features=found.features, labels=found.labels)
            return folder / "features.npz"
    raise SystemExit("The photographs of 196 car models are not there.")


def run(features: Path, records: int, way: str) -> dict[str, Any]:
    """One fit in a process of its own."""
    options = ["--features", str(features), "--records", str(records), "--fit", way]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training.growth", *options],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    print(f"{records} records by the Gram matrix of {way}: {done.stdout.strip()}", flush=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def fitted(file: Path, records: int, way: str) -> dict[str, Any]:
    """Seconds and memory of one fit, and its figures. The cached features are counted apart."""
    with np.load(file) as stored:
        features, labels = stored["features"], stored["labels"]
    repeated = labels[np.arange(records) % len(labels)]
    classes = int(labels.max()) + 1
    begun, cpu = time.monotonic(), time.process_time()
    if way == BY_RECORDS:
        ridge_head.MAX_RECORDS = records
        fit = fit_head(features[:records].copy(), repeated, classes, 0)
    else:
        fit = fit_head_to_stream(stream(features, records), repeated, classes, 0)
    return {
        "records": records,
        "seconds": round(time.monotonic() - begun, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "cached_features_mb": round(features.nbytes / 2**20),
        **summary(fit),
    }


def summary(fit: Fit) -> dict[str, Any]:
    """The figures of a fit that do not depend on the machine."""
    return {
        "l2": fit.l2,
        "calibration": fit.head.temperature.report(fit.leave_one_out_records),
        "leave_one_out_records": fit.leave_one_out_records,
        "leave_one_out_accuracy": fit.leave_one_out_accuracy,
        "penalties": len(fit.path),
    }


def stream(features: NDArray[np.float32], records: int) -> Iterator[NDArray[np.float32]]:
    """Passes of PASS records: all of them, then again and again with noise added."""
    rng = np.random.default_rng(0)
    count, width = features.shape
    deviation = features[:: max(1, count // 500)].std(axis=0)
    bank = rng.standard_normal(width + 2**16, np.float32) * np.float32(NOISE)
    for first in range(0, records, PASS):
        numbers = np.arange(first, min(first + PASS, records))
        x = features[numbers % count]
        for row, number in zip(x, numbers, strict=True):
            if number >= count:
                offset = rng.integers(2**16)
                row += deviation * bank[offset : offset + width]
        yield x


def rounding(file: Path) -> Mapping[str, float]:
    """The largest difference of 256 accumulated variances from float64's, and of the penalised."""
    with np.load(file) as stored:
        features, labels = stored["features"], stored["labels"]
    columns = np.random.default_rng(0).permutation(features.shape[1])[:256]
    features = np.ascontiguousarray(features[:, columns])
    repeats = 30
    moments = Moments(features.shape[1], int(labels.max()) + 1)
    many = np.tile(labels, repeats)
    done = 0
    for x in regrouped(stream(features, len(many)), ridge_head.GROUP):
        moments.add(x, many[done : done + len(x)])
        done += len(x)
    gram = moments.centred()
    wide = np.zeros((len(columns), len(columns)))
    total = np.zeros(len(columns))
    for x in stream(features, len(many)):
        exact = x.astype(np.float64)
        wide += exact.T @ exact
        total += exact.sum(axis=0)
    wide -= np.outer(total, total) / len(many)
    lower = np.tril(gram.products - wide)
    return {
        "records": len(many),
        "largest_error_to_largest_variance": float(np.abs(lower).max() / wide.diagonal().max()),
    }


if __name__ == "__main__":
    main()
