"""A trainer to run: SageMaker's folders with drawn records in them, and the real processes."""

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from droplens.imaging.prepare import Preprocessing, prepare
from droplens.journey.train import METRICS
from droplens.records.recordio import RecordWriter
from tests.support.drawn_images import drawing
from tests.support.repository import ROOT
from trainer.serving.app import Model

LABELS = ("checks", "rings", "stripes")
SIDE = 64
STARTUP_SECONDS = 120

Labelled = Sequence[tuple[int, bytes]]


def drawn_records(per_class: int, first_seed: int = 0) -> list[tuple[int, bytes]]:
    """Label and JPEG of `per_class` drawings of each class, the classes mixed."""
    return [
        (label, _prepared(name, seed))
        for seed in range(first_seed, first_seed + per_class)
        for label, name in enumerate(LABELS)
    ]


@cache
def _prepared(name: str, seed: int) -> bytes:
    """Many modules train on the same drawings."""
    return prepare(drawing(name, seed, (120, 100)), Preprocessing(shorter_side=SIDE + 10))[0]


def lay_out(
    base: Path,
    train: Labelled,
    validation: Labelled,
    classes: Sequence[str] = LABELS,
    hyperparameters: Mapping[str, str] | None = None,
) -> Path:
    """Fill `base` as SageMaker fills /opt/ml before it starts a training container."""
    for name, records in (("train", train), ("validation", validation)):
        folder = base / "input/data" / name
        folder.mkdir(parents=True)
        with (folder / f"{name}.rec").open("wb") as rec, RecordWriter(rec) as writer:
            for number, (label, payload) in enumerate(records):
                writer.write(number, label, payload)
    (base / "input/data/classes").mkdir()
    (base / "input/data/classes/classes.json").write_text(json.dumps(list(classes)), "utf-8")
    values = {
        "recipe": "probe",
        "num_classes": str(len(classes)),
        "num_training_samples": str(len(train)),
        "image_shape": f"3,{SIDE},{SIDE}",
        "mini_batch_size": "8",
    }
    (base / "input/config").mkdir()
    text = json.dumps(values | dict(hyperparameters or {}))
    (base / "input/config/hyperparameters.json").write_text(text, "utf-8")
    return base


def environment(base: Path, weights: Path, **further: str) -> dict[str, str]:
    """Of a trainer's process."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "layers/droplens")]),
        "PYTHONUNBUFFERED": "1",
        "SAGEMAKER_BASE_DIR": str(base),
        "DROPLENS_WEIGHTS": str(weights),
        **further,
    }


def run_training(
    base: Path, weights: Path, python: str = sys.executable, **further: str
) -> subprocess.CompletedProcess[str]:
    """Run the entry point to its end, by another interpreter where it needs PyTorch."""
    return subprocess.run(
        [python, "-m", "trainer", "train"],
        env=environment(base, weights, **further),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def accuracy(base: Path, records: Labelled) -> float:
    """The share of records that the trained model, as it is served, predicts correctly."""
    model = Model.load(base / "model")
    best = [int(np.argmax(model.predict(payload).probabilities)) for _, payload in records]
    correct = [label == found for (label, _), found in zip(records, best, strict=True)]
    return sum(correct) / len(correct)


def metrics(log: str) -> dict[str, list[float]]:
    """What SageMaker reads from the log by the job's metric definitions, in order."""
    return {
        metric["Name"]: [
            float(found[1])
            for line in log.splitlines()
            if (found := re.search(metric["Regex"], line))
        ]
        for metric in METRICS
    }


@dataclass(slots=True)
class Server:
    """A serving container's process and what it has logged so far."""

    process: subprocess.Popen[str]
    port: int
    lines: list[str]


@contextmanager
def serving(base: Path, weights: Path, first: str = "", **further: str) -> Iterator[Server]:
    """The real server on a free port of 127.0.0.1, ended with the context.

    first: Python that its process runs before anything else.
    """
    prepared = f"""
import runpy, sys
sys.argv[1:] = ["serve"]
{first}
runpy.run_module("trainer", run_name="__main__")
"""
    process = subprocess.Popen(
        [sys.executable, *(["-c", prepared] if first else ["-m", "trainer", "serve"])],
        env=environment(base, weights, SAGEMAKER_BIND_TO_PORT="0", **further),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: list[str] = []
    ready = threading.Event()

    def follow() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if "serving " in line:
                ready.set()
        ready.set()

    reader = threading.Thread(target=follow, daemon=True)
    reader.start()
    try:
        assert ready.wait(STARTUP_SECONDS), "the server did not say that it serves"
        found = re.search(r"serving \d+ classes on \S+:(\d+) ", "".join(lines))
        assert found, "".join(lines)
        yield Server(process, int(found[1]), lines)
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join(10)


def ask(
    server: Server,
    body: bytes | Iterator[bytes] = b"",
    method: str = "POST",
    path: str = "/invocations",
    **headers: str,
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Status, headers and body of one response.

    body: sent in chunks where it is an iterator; headers: their names with _ for -.
    """
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def converse(server: Server, sent: bytes) -> bytes:
    """Send raw bytes and read to the end of the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as raw:
        raw.sendall(sent)
        raw.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: raw.recv(65536), b""))
