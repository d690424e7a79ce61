"""classify_image against a bare handler, under load, and with faults injected: make bench-classify

In a local cloud of its own, with the real template deployed and endpoints whose answers can be
foretold: our handler and a bare one in turns on the same pictures; what a cold start imports;
images uploaded at once, and swept, in growing numbers; the run with faults injected (chaos.py); and
a real model inside the function and behind an endpoint (inside.py; alone with --modes-only).
Writes benchmarks/results/classify.json, which `make docs` shows in docs/classifying.md.
"""

import argparse
import json
import subprocess
import time
from importlib.metadata import distributions
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.classify import imports, pictures
from benchmarks.classify.chaos import ROUGH, chaos
from benchmarks.classify.cloud import SIDE, Cloud, deployed
from benchmarks.classify.flood import await_answers, drop, find_faults, patience
from benchmarks.classify.inside import LAMBDA_PYTHON, modes
from benchmarks.classify.table import markdown
from benchmarks.harness import ROOT, keep, provenance, quartiles, stored
from droplens.aws.s3 import Bucket
from droplens.classify.sweep import Progress, Sweep
from droplens.domain.run import RunKey

WORK = ROOT / ".local" / "bench" / "classify"
CHAOS_WORK = ROOT / ".local" / "bench" / "chaos"
HANDLERS = Path(__file__).resolve().parent / "handlers.py"
NAMES = tuple(f"class {letter}" for letter in "abcdefghij")
RUN = "20261122-120000-000001"
BATCH = 10
WARMUP = 3


def ratios(cloud: Cloud, batches: int, size: int) -> dict[str, Any]:
    """Our handler and the bare one alternately on batches of `size` pictures, never seen before.

    handler_ratio: the median over the pairs of ours to bare, with its quartiles; cpu_ratio: the
    same of the processes' own time.
    """
    classifier = f"ratio-{size}"
    card = cloud.new_model(RunKey(classifier, RUN), NAMES)
    cloud.make_live(card)
    count = (batches + WARMUP) * size
    with cloud.nobody_listening():
        dropped = drop(
            cloud,
            (
                (f"input/{classifier}/{number:05}.jpg", body)
                for number, body in enumerate(pictures.jpegs(count, SIDE))
            ),
        )
        messages = [picture.message for picture in dropped]
        plan = {
            "endpoint": card.endpoint,
            "warmup": WARMUP,
            "batches": [messages[first : first + size] for first in range(0, count, size)],
        }
        file = cloud.folder / f"plan-{size}.json"
        file.write_text(json.dumps(plan), "utf-8")
        done = subprocess.run(
            [str(LAMBDA_PYTHON), str(HANDLERS), str(file)],
            env=function_process(cloud),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"handlers.py failed:\n{done.stderr[-4000:]}")
    rows = json.loads(done.stdout.splitlines()[-1])  # before it, the metrics that handlers print

    def of(way: str, what: str) -> list[float]:
        return [row[what] for row in rows if row["way"] == way]

    def compared(what: str) -> dict[str, float]:
        pairs = [a / b for a, b in zip(of("droplens", what), of("bare", what), strict=True)]
        return quartiles(pairs)

    def milliseconds(way: str, what: str) -> float:
        return round(1000 * median(of(way, what)) / size, 2)

    return {
        "batch": size,
        "batches": batches,
        "bytes": round(median(len(picture.body) for picture in dropped)),
        "ratio": compared("seconds"),
        "cpu_ratio": compared("cpu_seconds"),
        "ms_per_picture": {way: milliseconds(way, "seconds") for way in ("droplens", "bare")},
        "cpu_ms_per_picture": {
            way: milliseconds(way, "cpu_seconds") for way in ("droplens", "bare")
        },
        "runs": rows,
    }


def function_process(cloud: Cloud) -> dict[str, str]:
    """The environment of a process that stands for a Lambda worker of classify_image."""
    return {
        **cloud.function_environment(),
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": f"{cloud.function_source}:{cloud.layer}:{cloud.inference_layer}",
        "AWS_ENDPOINT_URL": cloud.url,
        "AWS_ACCESS_KEY_ID": cloud.operator.key,
        "AWS_SECRET_ACCESS_KEY": cloud.operator.secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_LAMBDA_FUNCTION_NAME": "droplens-classify-image",
        "AWS_EC2_METADATA_DISABLED": "true",
        "POWERTOOLS_TRACE_DISABLED": "true",
        "POWERTOOLS_SERVICE_NAME": "droplens",
    }


def flood(cloud: Cloud, count: int) -> dict[str, Any]:
    """Drop `count` pictures at once: seconds from the first put to the last result."""
    classifier = f"flood-{count}"
    card = cloud.new_model(RunKey(classifier, RUN), NAMES)
    cloud.make_live(card)
    started = time.monotonic()
    dropped = drop(
        cloud,
        (
            (f"input/{classifier}/{number:05}.jpg", body)
            for number, body in enumerate(pictures.jpegs(count, SIDE))
        ),
    )
    dropping = time.monotonic() - started
    await_answers(cloud, classifier, count, patience(count))
    seconds = time.monotonic() - started
    return {
        "pictures": count,
        "seconds": round(seconds, 2),
        "seconds_to_drop": round(dropping, 2),
        "ms_each": round(1000 * seconds / count, 2),
        "pictures_per_second": round(count / seconds, 1),
        **find_faults(cloud, dropped, [card]).counts(),
    }


def sweeping(cloud: Cloud, count: int) -> dict[str, Any]:
    """Sweep `count` pictures that wait for their first model: seconds until all are enqueued."""
    classifier = f"sweep-{count}"
    with cloud.nobody_listening():
        drop(cloud, ((f"input/{classifier}/{number:05}.jpg", b"-") for number in range(count)))
        started = time.monotonic()
        sweep = Sweep(
            bucket=Bucket(cloud.client("s3"), cloud.bucket),
            classifier=classifier,
            default=None,
            sqs=cloud.client("sqs"),
            queue=cloud.outputs["PictureQueueUrl"],
        )
        found = sweep.run(Progress(), lambda: True).found
        seconds = time.monotonic() - started
    if found != count:
        raise RuntimeError(f"the sweep found {found} of {count} waiting pictures")
    return {
        "pictures": count,
        "seconds": round(seconds, 2),
        "ms_each": round(1e3 * seconds / count, 3),
    }


def measured_modes(cloud: Cloud, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of inside.py, with their own origin."""
    origin = provenance()
    sizes = _sizes(options.pictures)[-2:]
    environment = function_process(cloud)
    return {**origin, **modes(cloud, environment, options.batches, options.cold_starts, sizes)}


def chaos_inside(options: argparse.Namespace) -> dict[str, Any]:
    """The run with faults injected, with EndpointMode=lambda."""
    with deployed(CHAOS_WORK, **ROUGH) as cloud:
        return chaos(cloud, options.pictures, patience(options.pictures), inside=True)


def _sizes(pictures: int) -> list[int]:
    """The sizes of the floods, up to so many pictures."""
    return sorted({size for size in (100, 1000) if size < pictures} | {pictures})


def versions(cloud: Cloud) -> dict[str, str]:
    """The packages that the function carries, and the local cloud's."""
    carried = {
        found.name.replace("_", "-"): found.version
        for found in distributions(path=[str(cloud.layer)])
    }
    server = next((ROOT / ".local" / "venv" / "cloud" / "lib").glob("python*/site-packages"))
    [ministack] = [
        one.version for one in distributions(path=[str(server)]) if one.name == "ministack"
    ]
    return {
        **{name: carried[name] for name in ("aws-lambda-powertools", "boto3", "pillow")},
        "ministack": ministack,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--pictures",
        type=int,
        default=10_000,
        help="in the largest flood and with faults",
    )
    parser.add_argument("--batches", type=int, default=60, help="compared with the bare handler")
    parser.add_argument("--cold-starts", type=int, default=15)
    parser.add_argument(
        "--modes-only", action="store_true", help="keep the other figures as they are"
    )
    options = parser.parse_args()
    if options.modes_only:
        with deployed(WORK) as cloud:
            found = measured_modes(cloud, options)
        found["chaos"] = chaos_inside(options)
        keep("classify", {**stored("classify"), "modes": found})
        return
    report = provenance()
    with deployed(CHAOS_WORK, **ROUGH) as cloud:
        report["chaos"] = chaos(cloud, options.pictures, patience(options.pictures))
    with_faults_inside = chaos_inside(options)
    sizes = _sizes(options.pictures)
    with deployed(WORK) as cloud:
        report["versions"] = versions(cloud)
        report["handlers"] = [ratios(cloud, options.batches, size) for size in (BATCH, 1)]
        report["cold_start"] = imports.cold_starts(
            LAMBDA_PYTHON, function_process(cloud), options.cold_starts
        )
        report["modes"] = {**measured_modes(cloud, options), "chaos": with_faults_inside}
        report["sweeps"] = [sweeping(cloud, size) for size in sizes]
        report["floods"] = [flood(cloud, size) for size in sizes]
    in_batches, alone = report["handlers"]
    report = {
        "handler_ratio": in_batches["ratio"]["median"],
        "handler_ratio_alone": alone["ratio"]["median"],
        "pictures_per_second": report["floods"][-1]["pictures_per_second"],
        "lost": report["chaos"]["lost"],
        "doubled": report["chaos"]["doubled"],
        "wrong": report["chaos"]["wrong"],
        "import_ms": report["cold_start"]["droplens"]["ms"],
        "import_ms_bare": report["cold_start"]["bare"]["ms"],
        **report,
    }
    keep("classify", report)
    print(markdown(report), end="")


if __name__ == "__main__":
    main()
