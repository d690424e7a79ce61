"""The packing job as a process that is killed and whose memory is watched, on a real S3 server."""

import json
import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from PIL import Image, ImageChops

from benchmarks.packing import measure
from tests.support import needs
from tests.support.packing import good, put
from tests.support.repository import ROOT

# Near duplicates are searched for in blocks of bounded size, which the small corpus does not fill.
MARGIN_MB = 64


def command(source: str, destination: str) -> list[str]:
    job = [sys.executable, "-m", "batch_prep", "--source", source, "--destination", destination]
    return [*job, "--classifier", "letters", "--run-id", "r1"]


@pytest.fixture
def environment(seaweed: str) -> dict[str, str]:
    path = os.pathsep.join(map(str, (ROOT, ROOT / "layers" / "droplens")))
    return os.environ | {"AWS_ENDPOINT_URL": seaweed, "PYTHONPATH": path}


@pytest.fixture
def s3(seaweed: str) -> Any:
    return boto3.client("s3", endpoint_url=seaweed)


@pytest.fixture
def bucket(s3: Any) -> str:
    name = f"pictures-{uuid4().hex}"
    s3.create_bucket(Bucket=name)
    return name


def files(s3: Any, bucket: str, prefix: str) -> dict[str, bytes]:
    """Everything below the prefix, except for the manifest, which says how long it took."""
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    return {
        item["Key"].removeprefix(prefix): s3.get_object(Bucket=bucket, Key=item["Key"])[
            "Body"
        ].read()
        for item in listed
        if not item["Key"].endswith("/dataset.json")
    }


def is_complete(s3: Any, bucket: str, prefix: str) -> bool:
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}dataset.json")
    return bool(listed["KeyCount"])


def test_a_job_killed_at_any_moment_is_finished_by_the_next(
    s3: Any, bucket: str, environment: dict[str, str]
) -> None:
    for name, data in good("abcd", each=10).items():
        s3.put_object(Bucket=bucket, Key=f"datasets/letters/{name}", Body=data)
    source = f"s3://{bucket}/datasets/letters/"
    started = time.monotonic()
    job = command(source, f"s3://{bucket}/whole/")
    subprocess.run(job, env=environment, check=True, stdout=subprocess.DEVNULL)
    took = time.monotonic() - started
    whole = files(s3, bucket, "whole/")

    moments = random.Random(3)
    for attempt in range(5):
        prefix = f"killed-{attempt}/"
        job = command(source, f"s3://{bucket}/{prefix}")
        for _ in range(2):
            with subprocess.Popen(job, env=environment, stdout=subprocess.DEVNULL) as killed:
                time.sleep(took * moments.uniform(0.2, 1))
                killed.kill()
            if is_complete(s3, bucket, prefix):
                assert files(s3, bucket, prefix).items() >= whole.items()
        subprocess.run(job, env=environment, check=True, stdout=subprocess.DEVNULL)
        assert is_complete(s3, bucket, prefix)
        assert files(s3, bucket, prefix) == whole


def children(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(pid) for pid in listed.split()]


@needs.only_with("linux", sys.platform == "linux", "reads /proc")
def test_sigterm_ends_a_job_in_order(environment: dict[str, str], tmp_path: Path) -> None:
    data = BytesIO()
    Image.effect_noise((5000, 4000), 60).save(data, "JPEG")
    for number in range(60):  # seconds of work, whatever the machine
        path = tmp_path / "source" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.getvalue())
    job = [*command(f"{tmp_path}/source/", f"{tmp_path}/packed/"), "--workers", "2"]
    with subprocess.Popen(job, env=environment, stdout=subprocess.PIPE, text=True) as stopped:
        end = time.monotonic() + 60
        while len(packers := children(stopped.pid)) < 2 and time.monotonic() < end:
            time.sleep(0.02)
        stopped.terminate()
        said, _ = stopped.communicate(timeout=60)
    assert len(packers) == 2
    assert stopped.returncode == 143
    assert "stopped by signal 15 before the end of packing" in said
    assert not any(Path(f"/proc/{pid}").exists() for pid in packers)
    assert not (tmp_path / "packed" / "dataset.json").exists()


def test_a_picture_that_pillow_suspects_is_packed_without_its_warning(
    environment: dict[str, str], tmp_path: Path
) -> None:
    data = BytesIO()
    Image.new("L", (10_000, 9_500), 90).save(data, "JPEG")
    files = {**good("ab"), "a/large.jpg": data.getvalue()}
    put(tmp_path / "source", files)
    job = command(f"{tmp_path}/source/", f"{tmp_path}/packed/")
    done = subprocess.run(job, env=environment, capture_output=True, text=True, check=True)
    manifest = json.loads((tmp_path / "packed" / "dataset.json").read_text())
    counts = manifest["counts"]
    assert counts["train"] + counts["validation"] == len(files), manifest
    assert "bomb" not in done.stdout + done.stderr


@pytest.mark.long
def test_ten_times_as_many_pictures_take_no_more_memory(
    s3: Any, bucket: str, environment: dict[str, str], tmp_path: Path
) -> None:
    noises = [Image.effect_noise((320, 256), 60) for _ in range(3)]

    def put(number: int) -> None:
        noise = noises[number // 1000]
        channels = [ImageChops.offset(noise, number * 7, number * step) for step in (3, 5, 11)]
        data = BytesIO()
        Image.merge("RGB", channels).save(data, "JPEG", quality=75)
        large = f"large/{'ab'[number % 2]}/{number}.jpg"
        for key in (large, *([large.replace("large", "small")] if number < 300 else [])):
            s3.put_object(Bucket=bucket, Key=key, Body=data.getvalue())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(3000)))
    peak, packed = {}, {}
    for size in ("small", "large"):
        job = command(f"s3://{bucket}/{size}/", f"s3://{bucket}/packed-{size}/")
        peak[size] = measure.run(job, environment, tmp_path / f"{size}.log", ROOT).peak_rss_mb
        record = s3.head_object(Bucket=bucket, Key=f"packed-{size}/train/train.rec")
        packed[size] = record["ContentLength"] / 1e6
    assert packed["large"] - packed["small"] > 1.2 * MARGIN_MB
    assert peak["large"] - peak["small"] < MARGIN_MB
