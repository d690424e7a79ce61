"""Batch inference: images a second of a container, what an interruption costs, and a long listing.

    make bench-inference        IMAGES=3000 for a quick look

The container's own entry point runs as a process, with an S3 server beside it on the same cores, so
its CPU time counts and not the clock. Photographs of cars24 are stored under as many keys as asked;
the process is killed in the middle and started again, and every key must have one row. Then the
command's listing reads the pages of a server that has a million keys and nothing else, and their
S3 Inventory.
"""

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import boto3
from botocore.config import Config

from benchmarks.harness import CARS24, ROOT, keep, provenance, versions
from benchmarks.inference.keys import MANIFEST, serving_keys
from benchmarks.serving.__main__ import RESIZE, write_model
from droplens.aws.s3 import Bucket
from droplens.domain.card import Measurement, ModelCard
from droplens.domain.choices import DROPLENS
from droplens.domain.inference_job import (
    IMAGES_PER_PART,
    InferenceJob,
    from_lines,
    job_key,
    to_lines,
)
from droplens.imaging.prepare import Preprocessing
from droplens_cli.inference import Listing
from droplens_cli.inventory import opened
from tools.s3_server import seaweedfs
from trainer.artefact import CLASSES_FILE

IMAGES, KEYS = 10_000, 1_000_000
KILLED_AFTER = 0.3
OWN, OTHERS = "stack", "photographs"
MODEL = "training/cars/run/job/output/model.tar.gz"
JOB = "20261127-120000-1a2b3c"
PACKAGES = ("boto3", "numpy", "onnxruntime", "pillow")
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--keys", type=int, default=KEYS)
    options = parser.parse_args()
    if not CARS24.is_dir():
        raise SystemExit(f"There is no {CARS24}: name it in DROPLENS_CARS24.")
    measured = provenance()
    with TemporaryDirectory() as work:
        (Path(work) / "s3").mkdir()
        with seaweedfs(Path(work) / "s3") as url:
            found = classified(url, Path(work), options.images)
        print(json.dumps(found, indent=1), flush=True)
        lists = listed(Path(work), options.keys)
        print(json.dumps(lists, indent=1), flush=True)
    result = {**measured, "versions": versions(*PACKAGES), **found, **lists}
    if (options.images, options.keys) != (IMAGES, KEYS):
        print("Not written: these are not all images and keys.")
        return
    keep("inference", result)
    print("make docs shows it in docs/classifying.md")


def classified(url: str, work: Path, images: int) -> dict[str, Any]:
    """Store the images, classify them with one interruption, and count their rows."""
    s3 = client(url)
    job = store(s3, work, images)
    print(f"{images} images in {job.parts} parts", flush=True)
    killed = container(
        url, work / "killed.log", stop=lambda: done(s3, job) >= job.parts * KILLED_AFTER
    )
    kept = done(s3, job)
    resumed = container(url, work / "resumed.log")
    rows = [row for part in range(job.parts) for row in read(s3, job.rows_key(part))]
    counts = Counter(row["key"] for row in rows)
    if kept == job.parts:
        raise SystemExit("the interruption came after the last part: take more images")
    worked = images - kept * IMAGES_PER_PART
    return {
        "images_per_second_of_a_vcpu": round(worked / resumed["cpu_seconds"], 2),
        "images": images,
        "photographs": len(list(CARS24.glob("*/*.jpg"))),
        "parts": job.parts,
        "model": {"classes": len(job.card["classes"]), "side": RESIZE.width},
        "parts_kept_by_the_interruption": kept,
        "killed": killed,
        "resumed": resumed,
        "lost": images - len(counts),
        "doubled": sum(count > 1 for count in counts.values()),
        "rejected": sum(row["status"] == "rejected" for row in rows),
        "row_bytes": round(sum(size(s3, job.rows_key(part)) for part in range(job.parts)) / images),
    }


def client(url: str) -> Any:
    """Of an S3 server on this machine."""
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name=CREDENTIALS["AWS_REGION"],
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        config=Config(max_pool_connections=16),
    )


def store(s3: Any, work: Path, images: int) -> InferenceJob:
    """The model, the images under keys of their own, their lists and the job."""
    for bucket in (OWN, OTHERS):
        s3.create_bucket(Bucket=bucket)
    write_model(work / "model")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(work / "model", ".")
    s3.put_object(Bucket=OWN, Key=MODEL, Body=archive.getvalue())
    files = sorted(CARS24.glob("*/*.jpg"))
    named = [
        (f"{number // 1000:03}/{number:07}-{file.name}", file)
        for number, file in enumerate(islice(cycle(files), images))
    ]

    def put(one: tuple[str, Path]) -> dict[str, Any]:
        body = one[1].read_bytes()
        s3.put_object(Bucket=OTHERS, Key=one[0], Body=body)
        return {"key": one[0], "bytes": len(body)}

    with ThreadPoolExecutor(16) as threads:
        lines = list(threads.map(put, named))
    classes = json.loads((work / "model" / CLASSES_FILE).read_text("utf-8"))
    job = InferenceJob(
        classifier="cars",
        job_id=JOB,
        model=MODEL,
        card=json.loads(card(classes).to_json()),
        bucket=OTHERS,
        source="",
        images=images,
    )
    for part in range(job.parts):
        some = lines[part * IMAGES_PER_PART : (part + 1) * IMAGES_PER_PART]
        s3.put_object(Bucket=OWN, Key=job.images_key(part), Body=to_lines(some))
    s3.put_object(Bucket=OWN, Key=job_key("cars", JOB), Body=job.to_json())
    return job


def card(classes: list[str]) -> ModelCard:
    """Of a model of these classes, whose accuracy nobody asks about."""
    return ModelCard(
        classifier="cars",
        run_id="20261127-110000-1a2b3c",
        endpoint="",
        trainer=DROPLENS,
        classes=tuple(classes),
        preprocessing=Preprocessing(RESIZE.width),
        measured=Measurement(
            pictures=1, available=1, accuracy=1, top5=1, latency_ms_p50=1, latency_ms_p95=1
        ),
        confident_from=0.9,
        promoted_at="",
    )


def container(url: str, log: Path, stop: Any = lambda: False) -> dict[str, float]:
    """The entry point as a process, until it ends or `stop` says so. Its time and peak memory."""
    command = [
        sys.executable,
        "-m",
        "trainer",
        "classify",
        "--job",
        f"s3://{OWN}/{job_key('cars', JOB)}",
    ]
    environment = os.environ | CREDENTIALS | {"AWS_ENDPOINT_URL": url}
    begun = time.monotonic()
    with log.open("wb") as lines:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=lines, stderr=lines)
        killed, peak = False, 0
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            peak = max(peak, peak_memory(process.pid))
            if not killed and stop():
                process.kill()
                killed = True
            time.sleep(0.5)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode and not killed:
        raise SystemExit(log.read_text("utf-8"))
    return {
        "seconds": round(time.monotonic() - begun, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_memory_mb": round(peak / 1024),
    }


def peak_memory(process: int) -> int:
    """In KB, so far. That of wait4 counts the process that this one was forked from."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text("ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0


def done(s3: Any, job: InferenceJob) -> int:
    """The parts whose rows are there."""
    place = job.rows_key(0).rpartition("/")[0]
    return int(s3.list_objects_v2(Bucket=OWN, Prefix=place)["KeyCount"])


def read(s3: Any, key: str) -> Iterator[Any]:
    """The rows of one object."""
    return from_lines(s3.get_object(Bucket=OWN, Key=key)["Body"].read())


def size(s3: Any, key: str) -> int:
    """Bytes of an object."""
    return int(s3.head_object(Bucket=OWN, Key=key)["ContentLength"])


def listed(work: Path, keys: int) -> dict[str, dict[str, float]]:
    """So many keys by the command's own code, from the bucket's listing and from its inventory."""

    def by_listing(listing: Listing, s3: Any) -> None:
        listing.list(s3, OTHERS, "")

    def by_inventory(listing: Listing, s3: Any) -> None:
        listing.read(opened(Bucket(s3, OWN), MANIFEST), "", ("",))

    found = {}
    with serving_keys(keys, OTHERS, OWN) as url:
        for name, read_keys in (("listing", by_listing), ("inventory", by_inventory)):
            folder = work / name
            folder.mkdir()
            listing, begun, cpu = Listing(folder), time.monotonic(), time.process_time()
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            read_keys(listing, client(url))
            assert listing.images == keys
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
            lists = sum(file.stat().st_size for file in folder.iterdir())
            found[name] = {
                "keys": keys,
                "requests": listing.requests,
                "seconds": round(time.monotonic() - begun, 1),
                "cpu_seconds": round(time.process_time() - cpu, 1),
                "list_bytes_per_key": round(lists / keys, 1),
                "memory_growth_mb": round(grown / 1024),
            }
    return found


if __name__ == "__main__":
    main()
