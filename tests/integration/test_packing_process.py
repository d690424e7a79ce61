"""The packing job as a process that is killed and whose memory is watched, on a real S3 server."""

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
from tests.conftest import ROOT
from tests.integration.packing_support import good

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
