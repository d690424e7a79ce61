"""The serving container and bare ONNX Runtime, alternately on the same images: make bench-serving

    ROUNDS=3 make bench-serving        a quick look

A model of recipe probe (288 px, 196 classes) is served from a process of its own. Measured are the
start of that process until it answers /ping, one picture after another through HTTP, several
clients at once, and its memory; beside each, in the same run, a script that has the model and the
picture's tensor already and only calls `session.run`; and both of them again with the int8 variant
of the model, in turns with fp32. Writes benchmarks/results/serving.json and the table in
docs/serving.md.
"""

import argparse
import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from benchmarks.classify.pictures import jpegs
from benchmarks.harness import CARS24, keep, provenance, quartiles, versions
from benchmarks.serving.server import Client, Server, bare_start, serving
from benchmarks.serving.table import markdown
from droplens.imaging.prepare import Preprocessing, prepare
from droplens.inference.cores import cores
from droplens.inference.network import open_session
from droplens.journey.pack import with_margin
from localcloud.ports import free_port
from trainer.artefact import (
    CLASSES_FILE,
    COARSE_MAP,
    EXPLAIN,
    FINE_MAP,
    INT8_FILE,
    MODEL_FILE,
    NOVELTY,
    PROBABILITIES,
    write_json,
)
from trainer.data.preprocess import Resize
from trainer.nets.assemble import assemble
from trainer.nets.convert import build_backbone, read_weights
from trainer.nets.int8 import quantize
from trainer.nets.specification import HEAD_CHANNELS, LITE0
from trainer.recipes.novelty import fit_novelty
from trainer.recipes.ridge_head import Head
from trainer.recipes.temperature import Temperature

RESIZE = Resize(width=288, height=288)
CLASSES = 196
PICTURES = 48
CLIENTS = (1, 2, 4, 8)
BATCHES = (2, 4, 8)
PACKAGES = ("numpy", "onnxruntime", "pillow", "waitress")
OUTPUTS = (PROBABILITIES, NOVELTY)
CLASS_MAPS = (FINE_MAP, COARSE_MAP)

Tensor = NDArray[np.uint8]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12, help="over all pictures")
    parser.add_argument("--cold-starts", type=int, default=12)
    parser.add_argument("--generated", action="store_true", help="pictures are made up")
    options = parser.parse_args()
    said, pictures = corpus(None if options.generated else CARS24)
    tensors = [RESIZE.pixels(picture)[None] for picture in pictures]
    report: dict[str, Any] = {
        **provenance(),
        "versions": versions(*PACKAGES),
        "model": {"classes": CLASSES, "side": RESIZE.width, "recipe": "probe"},
        "pictures": {
            "said": said,
            "count": len(pictures),
            "bytes": round(median(len(picture) for picture in pictures)),
        },
    }
    with TemporaryDirectory() as work:
        fp32, int8 = Path(work) / "fp32", Path(work) / "int8"
        write_model(fp32 / "model")
        write_int8(int8 / "model", fp32 / "model", tensors)
        print(f"{said}; starting {options.cold_starts} times each", flush=True)
        report["cold_start"] = cold_starts(fp32, int8, options.cold_starts)
        models = fp32 / "model" / MODEL_FILE, int8 / "model" / INT8_FILE
        sessions = [open_session(model, threads=cores()) for model in models]
        mapless = open_session(without_maps(models[0]), threads=cores())
        with serving(fp32, free_port()) as first, serving(int8, free_port()) as second:
            servers = first, second
            idle = [server.memory_mb()["now"] for server in servers]
            print("one picture after another", flush=True)
            report["latency"], report["int8"] = latencies(
                servers, sessions, mapless, pictures, tensors, options.rounds
            )
            report["latency"]["bare_usual_ms"] = usual_latency(models[0], tensors, options.rounds)
            print("several clients at once", flush=True)
            for found, server, session, now in zip(
                (report, report["int8"]), servers, sessions, idle, strict=True
            ):
                found["clients"] = clients(server, pictures, options.rounds)
                found["cpu_ms"] = cpu_times(server, session, pictures, tensors)
                found["memory_mb"] = {"idle": now, "peak": server.memory_mb()["peak"]}
        print("batches", flush=True)
        report["ways_to_run"] = ways_to_run(sessions[0], tensors, options.rounds)
    report = {
        "cold_start_seconds": report["cold_start"]["droplens"]["median"],
        "latency_ratio": report["latency"]["ratio"]["median"],
        "latency_ratio_without_decoding": report["latency"]["ratio_without_decoding"]["median"],
        "concurrent_ratio": min(row["ratio"]["median"] for row in report["clients"][1:]),
        "int8_speedup": report["int8"]["speedup"]["median"],
        "int8_speedup_over_http": report["int8"]["speedup_over_http"]["median"],
        **report,
    }
    keep("serving", report)
    print(markdown(report), end="")


def corpus(photographs: Path | None) -> tuple[str, list[bytes]]:
    """What they are, and JPEGs as classify_image sends them to such a model."""
    side = with_margin(RESIZE.width)
    if photographs is None or not photographs.is_dir():
        return "generated pictures with a photograph's bytes", list(jpegs(PICTURES, side))
    files = sorted(photographs.glob("*/*.jpg"))
    chosen = files[:: len(files) // PICTURES][:PICTURES]
    preprocessing = Preprocessing(shorter_side=side)
    sent = [prepare(file.read_bytes(), preprocessing)[0] for file in chosen]
    return f"{len(sent)} photographs of {photographs.name}, shorter side {side} px", sent


def write_model(folder: Path) -> None:
    """An artefact of recipe probe. Head and novelty are made up: that takes no less time."""
    chance = np.random.default_rng(0)
    head = Head(
        weight=chance.normal(0, 0.1, (LITE0.features, CLASSES)).astype(np.float32),
        bias=np.zeros(CLASSES, np.float32),
        temperature=Temperature.constant(1),
    )
    novelty = fit_novelty(chance.random((2, HEAD_CHANNELS), np.float32)).novelty
    model = assemble(build_backbone(LITE0, read_weights(LITE0)), head, novelty, RESIZE)
    folder.mkdir(parents=True)
    onnx.save(model, os.fspath(folder / MODEL_FILE))
    write_json(folder / CLASSES_FILE, [f"class {number}" for number in range(CLASSES)])
    RESIZE.write(folder)


def without_maps(model: Path) -> Path:
    """The same graph without class maps, next to it."""
    mapless = onnx.load(os.fspath(model))
    graph = mapless.graph
    for parts, kept in (
        (graph.output, [each for each in graph.output if each.name in OUTPUTS]),
        (graph.input, [each for each in graph.input if each.name != EXPLAIN]),
        (graph.initializer, [each for each in graph.initializer if each.name != EXPLAIN]),
        (graph.node, [each for each in graph.node if not _of_maps(each)]),
    ):
        del parts[:]
        parts.extend(kept)
    path = model.with_name("mapless.onnx")
    onnx.save(mapless, os.fspath(path))
    return path


def _of_maps(node: onnx.NodeProto) -> bool:
    return any(name.startswith("class_map.") for name in node.output)


def write_int8(folder: Path, fp32: Path, tensors: Sequence[Tensor]) -> None:
    """The same artefact with an int8 variant, as training would have made it."""
    shutil.copytree(fp32, folder)
    variant = quantize(onnx.load(os.fspath(fp32 / MODEL_FILE)), tensors)
    onnx.save(variant, os.fspath(folder / INT8_FILE))


def cold_starts(fp32: Path, int8: Path, repeats: int) -> dict[str, Any]:
    """Seconds from process start to /ping's first 200; and to a bare session of the model."""
    found: dict[str, list[float]] = {"droplens": [], "int8": [], "bare": []}
    for number in range(repeats + 1):
        seconds = {}
        for name, base in (("droplens", fp32), ("int8", int8)):
            with serving(base, free_port()) as server:
                seconds[name] = server.seconds
        seconds["bare"] = bare_start(fp32)
        if number:  # the first compiles, and reads from a cold disk
            for name, values in found.items():
                values.append(seconds[name])
    return {name: quartiles(values) for name, values in found.items()}


def latencies(
    servers: Sequence[Server],
    sessions: Sequence[onnxruntime.InferenceSession],
    mapless: onnxruntime.InferenceSession,
    pictures: Sequence[bytes],
    tensors: Sequence[Tensor],
    rounds: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Milliseconds a picture, and ratios of pairs that were measured right after each other.

    Of fp32 and of int8, which come in this order. bare: `session.run` on the tensor, with the
    server's threads and session options; mapless: the same on the fp32 graph without class maps;
    explained: the same with the class maps; decoding: from the JPEG to the tensor, which the
    server does and the bare script does not; speedup: fp32's time by int8's.
    """
    fp32, int8 = (Client(server.port) for server in servers)
    actions: dict[str, Callable[[bytes, Tensor], object]] = {
        "mapless": lambda _, tensor: mapless.run(OUTPUTS, {"image": tensor}),
        "explained": lambda _, tensor: sessions[0].run(
            (*OUTPUTS, *CLASS_MAPS), {"image": tensor, EXPLAIN: np.array(True)}
        ),
        "bare": lambda _, tensor: sessions[0].run(OUTPUTS, {"image": tensor}),
        "int8_bare": lambda _, tensor: sessions[1].run(OUTPUTS, {"image": tensor}),
        "http": lambda picture, _: fp32.classify(picture),
        "int8_http": lambda picture, _: int8.classify(picture),
        "decoding": lambda picture, _: RESIZE.pixels(picture),
        "ping": lambda *_: fp32.ping(),
    }
    found: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(rounds + 1):
        for picture, tensor in zip(pictures, tensors, strict=True):
            for name, action in actions.items():
                started = time.perf_counter()
                action(picture, tensor)
                found[name].append(time.perf_counter() - started)
        if number == 0:  # all of them warm up
            for values in found.values():
                values.clear()

    def ratios(above: str, below: str, less: str | None = None) -> dict[str, float]:
        taken = np.array(found[above]) - (found[less] if less else 0)
        return quartiles((taken / found[below]).tolist())

    def both(prefix: str) -> dict[str, Any]:
        http, bare = f"{prefix}http", f"{prefix}bare"
        return {
            "http_ms": milliseconds(found[http]),
            "bare_ms": milliseconds(found[bare]),
            "ratio_of_p50": round(median(found[http]) / median(found[bare]), 3),
            "ratio": ratios(http, bare),
            "ratio_without_decoding": ratios(http, bare, less="decoding"),
        }

    further: dict[str, Any] = {
        f"{name}_ms": milliseconds(found[name]) for name in ("decoding", "ping")
    }
    further["class_maps"] = {
        "not_fetched": ratios("bare", "mapless"),
        "fetched": ratios("explained", "mapless"),
    }
    return both("") | further, both("int8_") | {
        "speedup": ratios("bare", "int8_bare"),
        "speedup_over_http": ratios("http", "int8_http"),
    }


def usual_latency(model: Path, tensors: Sequence[Tensor], rounds: int) -> dict[str, float]:
    """Milliseconds of `session.run` with ONNX Runtime's own options.

    Its idle threads spin, so that nothing else may run while it is measured.
    """
    session = onnxruntime.InferenceSession(os.fspath(model), providers=["CPUExecutionProvider"])
    took = []
    for _ in range(rounds + 1):
        for tensor in tensors:
            started = time.perf_counter()
            session.run(OUTPUTS, {"image": tensor})
            took.append(time.perf_counter() - started)
    return milliseconds(took[len(tensors) :])


def clients(server: Server, pictures: Sequence[bytes], rounds: int) -> list[dict[str, Any]]:
    """Pictures a second of one client and of several at once, and their ratio in each round."""
    rates: dict[int, list[float]] = {count: [] for count in CLIENTS}
    waits: dict[int, list[float]] = {count: [] for count in CLIENTS}
    with ThreadPoolExecutor(max(CLIENTS)) as threads:
        connections = [Client(server.port) for _ in range(max(CLIENTS))]

        def send(connection: Client, mine: Sequence[bytes]) -> list[float]:
            took = []
            for picture in mine:
                started = time.perf_counter()
                connection.classify(picture)
                took.append(time.perf_counter() - started)
            return took

        for _ in range(rounds):
            for count in CLIENTS:
                shares = [pictures[first::count] for first in range(count)]
                started = time.perf_counter()
                for took in threads.map(send, connections, shares):
                    waits[count] += took
                rates[count].append(len(pictures) / (time.perf_counter() - started))
    return [
        {
            "clients": count,
            "pictures_per_second": quartiles(rates[count]),
            "latency_ms": milliseconds(waits[count]),
            "ratio": quartiles([a / b for a, b in zip(rates[count], rates[1], strict=True)]),
        }
        for count in CLIENTS
    ]


def cpu_times(
    server: Server,
    session: onnxruntime.InferenceSession,
    pictures: Sequence[bytes],
    tensors: Sequence[Tensor],
) -> dict[str, float]:
    """Milliseconds of a core for one picture, which neighbours on the machine hardly change."""
    client = Client(server.port)
    before = server.cpu_seconds()
    for picture in pictures:
        client.classify(picture)
    ours = server.cpu_seconds() - before
    before = time.process_time()
    for tensor in tensors:
        session.run(OUTPUTS, {"image": tensor})
    bare = time.process_time() - before
    return {
        "http": round(1000 * ours / len(pictures), 2),
        "bare": round(1000 * bare / len(tensors), 2),
        "ratio": round(ours / bare, 3),
    }


def ways_to_run(
    session: onnxruntime.InferenceSession, tensors: Sequence[Tensor], rounds: int
) -> list[dict[str, Any]]:
    """Pictures a second of bare ONNX Runtime where all pictures are there at once."""

    def run(images: Tensor) -> None:
        session.run(OUTPUTS, {"image": images})

    def one_after_another() -> None:
        for tensor in tensors:
            run(tensor)

    def side_by_side() -> None:
        list(threads.map(run, tensors))

    def in_batches(size: int) -> None:
        for first in range(0, len(tensors), size):
            run(np.concatenate(tensors[first : first + size]))

    ways: dict[str, Callable[[], None]] = {
        "one after another": one_after_another,
        f"{cores()} side by side": side_by_side,
        **{f"batches of {size}": partial(in_batches, size) for size in BATCHES},
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    with ThreadPoolExecutor(cores()) as threads:
        for _ in range(rounds):
            for name, way in ways.items():
                started = time.perf_counter()
                way()
                rates[name].append(len(tensors) / (time.perf_counter() - started))
    first = rates["one after another"]
    return [
        {
            "way": name,
            "pictures_per_second": quartiles(taken),
            "ratio": quartiles([a / b for a, b in zip(taken, first, strict=True)]),
        }
        for name, taken in rates.items()
    ]


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    """The percentiles that people ask for."""
    return {
        f"p{percent}": round(1000 * float(np.percentile(seconds, percent)), 2)
        for percent in (25, 50, 75, 95)
    }


if __name__ == "__main__":
    main()
