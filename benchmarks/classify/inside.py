"""The same network inside classify_image and behind an endpoint, on the same cores.

Both are trained on the same drawings by the stack itself, one with EndpointMode=lambda, one with a
serverless endpoint, whose container runs beside the function here. In the end every result is
compared with what its model gives for the picture alone (reference.py).
"""

import json
import os
import subprocess
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.classify import pictures
from benchmarks.classify.cloud import SIDE, STACK, Cloud, eventually
from benchmarks.classify.flood import (
    Dropped,
    answered,
    await_answers,
    drop,
    find_faults,
    patience,
)
from benchmarks.classify.reference import Reference
from benchmarks.harness import ROOT, quartiles
from droplens.aws.s3 import Bucket
from droplens.state.cards import Cards

LAMBDA_PYTHON = ROOT / ".local" / "venv" / "lambda" / "bin" / "python"
MODES = Path(__file__).resolve().parent / "modes.py"
INSIDE, BEHIND = "inside", "behind"
ENDPOINT_MODES = {INSIDE: "lambda", BEHIND: "serverless"}
PER_CLASS = 30
TRAINING_SECONDS = 900.0
WARMUP = 2


@dataclass(frozen=True)
class _Bench:
    """environment: of a process that stands for a Lambda worker; dropped: pictures, by way."""

    cloud: Cloud
    environment: Mapping[str, str]
    dropped: dict[str, list[Dropped]] = field(default_factory=lambda: defaultdict(list))


def modes(
    cloud: Cloud,
    environment: Mapping[str, str],
    batches: int,
    starts: int,
    flooded: Sequence[int],
) -> dict[str, Any]:
    """Time a picture, memory, cold start to the first result, and floods, of both.

    environment: of a process that stands for a Lambda worker; flooded: sizes of the floods, in
    ascending order.
    """
    for way, mode in ENDPOINT_MODES.items():
        _train(cloud, way, mode)
    bench = _Bench(cloud, environment)
    in_batches, alone = (_handlers(bench, batches, size) for size in (10, 1))
    cold = {way: _cold_starts(bench, way, starts) for way in (INSIDE, BEHIND)}
    floods = {way: [_flood(bench, way, size) for size in flooded] for way in (BEHIND, INSIDE)}
    return {
        "in_batches": in_batches,
        "alone": alone,
        "cold_start": cold,
        "floods": {way: rows[-1] for way, rows in floods.items()},
        "growth": {way: [_growth(row) for row in rows] for way, rows in floods.items()},
        "faults": {way: _faults(bench, way) for way in (INSIDE, BEHIND)},
    }


def _train(cloud: Cloud, classifier: str, mode: str) -> None:
    """Train a classifier of two classes on drawings, deployed in this EndpointMode."""
    functions, name = cloud.client("lambda"), f"{STACK}-deploy-endpoint"
    variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    functions.update_function_configuration(
        FunctionName=name, Environment={"Variables": {**variables, "ENDPOINT_MODE": mode}}
    )
    s3 = cloud.client("s3")
    for number, (label, body) in enumerate(pictures.labelled(2 * PER_CLASS, SIDE)):
        key = f"datasets/{classifier}/{label}/{number:03}.jpg"
        s3.put_object(Bucket=cloud.bucket, Key=key, Body=body)
    s3.put_object(Bucket=cloud.bucket, Key=f"datasets/{classifier}/_READY", Body=b"")
    cards = Cards(Bucket(s3, cloud.bucket))
    eventually(
        lambda: cards.live(classifier) is not None, f"a model of {classifier}", TRAINING_SECONDS
    )


def _messages(bench: _Bench, way: str, name: str, count: int) -> list[dict[str, Any]]:
    """Drop so many pictures of a classifier; S3's events of them."""
    named = (
        (f"input/{way}/{name}-{number:05}.jpg", body)
        for number, body in enumerate(pictures.jpegs(count, SIDE))
    )
    dropped = drop(bench.cloud, named)
    bench.dropped[way] += dropped
    return [picture.message for picture in dropped]


def _handlers(bench: _Bench, batches: int, size: int) -> dict[str, Any]:
    """Our handler on batches of `size` pictures of both classifiers alternately, in one process."""
    count = (batches + WARMUP) * size
    with bench.cloud.nobody_listening():
        plan: dict[str, Any] = {"warmup": WARMUP, "ways": {}}
        for way in ENDPOINT_MODES:
            found = _messages(bench, way, f"batch-{size}", count)
            plan["ways"][way] = [found[first : first + size] for first in range(0, count, size)]
        before = _server_seconds(bench.cloud)
        rows = _run(bench, plan)["rows"]
        served = 1000 * (_server_seconds(bench.cloud) - before) / count

    def of(way: str, what: str) -> list[float]:
        return [row[what] for row in rows if row["way"] == way]

    pairs = [a / b for a, b in zip(of(INSIDE, "seconds"), of(BEHIND, "seconds"), strict=True)]
    return {
        "batch": size,
        "batches": batches,
        "ratio": quartiles(pairs),
        "ms_per_picture": {
            way: round(1000 * median(of(way, "seconds")) / size, 2) for way in ENDPOINT_MODES
        },
        # On other processes' cores too, so that it tells little of how busy the machine was.
        "cpu_ms_per_picture": {
            INSIDE: round(1000 * median(of(INSIDE, "cpu_seconds")) / size, 2),
            BEHIND: round(1000 * median(of(BEHIND, "cpu_seconds")) / size + served, 2),
            "of which endpoint": round(served, 2),
        },
    }


def _server_seconds(cloud: Cloud) -> float:
    """CPU time that the endpoints' server processes have taken."""
    seconds = 0.0
    for folder in Path("/proc").iterdir():
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            environment = (folder / "environ").read_bytes()
            if (
                command[-3:-1] == [b"trainer", b"serve"]
                and str(cloud.folder).encode() in environment
            ):
                fields = (folder / "stat").read_text("ascii").rpartition(") ")[2].split()
                seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, IndexError):  # it has ended meanwhile
            continue
    return seconds


def _cold_starts(bench: _Bench, way: str, repeats: int) -> dict[str, Any]:
    """From the start of a process to the end of its first batch, of one picture."""
    with bench.cloud.nobody_listening():
        found = _messages(bench, way, "start", repeats + 1)
        samples = []
        for number, message in enumerate(found):
            started = time.time()
            done = _run(bench, {"warmup": 0, "ways": {way: [[message]]}})
            if number:  # the first compiles
                samples.append((done["first"] - started, done["first_cpu"], done["peak_mb"]))
    return {
        "seconds": round(median(seconds for seconds, _, _ in samples), 3),
        "cpu_seconds": round(median(used for _, used, _ in samples), 3),
        "peak_mb": round(median(peak for _, _, peak in samples)),
        "samples": [round(seconds, 3) for seconds, _, _ in samples],
    }


def _flood(bench: _Bench, way: str, count: int) -> dict[str, Any]:
    """Drop pictures at once: seconds from the first put to the last result."""
    before = answered(bench.cloud, way)
    started = time.monotonic()
    _messages(bench, way, f"flood-{count}", count)
    await_answers(bench.cloud, way, before + count, patience(count))
    seconds = time.monotonic() - started
    return {
        "pictures": count,
        "seconds": round(seconds, 2),
        "pictures_per_second": round(count / seconds, 1),
    }


def _growth(flood: Mapping[str, Any]) -> dict[str, Any]:
    each = 1000 * flood["seconds"] / flood["pictures"]
    return {"pictures": flood["pictures"], "ms_each": round(each, 2)}


def _faults(bench: _Bench, way: str) -> dict[str, int]:
    """What is wrong with the results of all pictures that were dropped, floods and batches."""
    card = Cards(Bucket(bench.cloud.client("s3"), bench.cloud.bucket)).live(way)
    assert card is not None
    reference = Reference(bench.cloud)
    faults = find_faults(bench.cloud, bench.dropped[way], [card], expected=reference)
    return {"pictures": len(bench.dropped[way]), **faults.counts()}


def _run(bench: _Bench, plan: Mapping[str, Any]) -> dict[str, Any]:
    file = bench.cloud.folder / "modes.json"
    file.write_text(json.dumps(plan), "utf-8")
    done = subprocess.run(
        [str(LAMBDA_PYTHON), str(MODES), str(file)],
        env={**bench.environment, "PYTHONPATH": f"{bench.environment['PYTHONPATH']}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"modes.py failed:\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
