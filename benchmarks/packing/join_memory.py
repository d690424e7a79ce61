"""Memory of the merge of a dataset's shards per image, on synthetic reports.

    make bench-join         PICTURES=300000,900000 for other sizes

Reports as batch_prep writes them, with small records on the local disk, are joined by `python -m
batch_prep --step join` in a process of its own. Two sizes give the bytes that each further picture
takes; the last one is joined with so many skipped files as well.
"""

import argparse
import base64
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from batch_prep.image.fingerprint import FINGERPRINT_BYTES
from batch_prep.manifest.dataset import ROW
from batch_prep.shards.files import Shard
from batch_prep.shards.split import Reading
from benchmarks.harness import ROOT, keep, provenance

SHARDS, CLASSES = 8, 100
# A record is as long as its header, so that ten million fit on the disk.
RECORD_BYTES = 32
# Linux counts the memory that a process had before it became another program (execve): the job is
# started by a small process, not by this one. It prints KiB.
_LAUNCHER = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


@dataclass(frozen=True, slots=True)
class Joined:
    """One join. peak_mib: of the process, at its largest."""

    pictures: int
    skipped: int
    peak_mib: float
    seconds: float


def write_reports(folder: Path, pictures: int, skipped: int, shards: int = SHARDS) -> None:
    """The packed shards of a dataset of so many pictures, none like another."""
    random = np.random.default_rng(0)
    classes = [f"class {number:03}" for number in range(CLASSES)]
    reading = Reading(classes, ("train", "validation"), None, "class folders", [])
    for number in range(shards):
        first, end = (pictures * place // shards for place in (number, number + 1))
        shard = Shard(number, shards)
        (folder / shard.path("")).mkdir(parents=True)
        looks = random.normal(size=(end - first, FINGERPRINT_BYTES)).astype(np.float32)
        looks *= 300 / np.linalg.norm(looks, axis=1, keepdims=True)
        fingerprints = np.rint(looks).clip(-127, 127).astype(np.int8)
        places = {"train": 0, "validation": 0}
        with (folder / shard.path("report.jsonl")).open("w", encoding="utf-8") as report:
            for place in range(skipped * number // shards, skipped * (number + 1) // shards):
                label = classes[place % CLASSES]
                name = f"datasets/cars/{label}/annotation {place:09}.xml"
                skip = [name, label, "file.not_a_picture", "a file ending in .xml"]
                report.write(json.dumps(skip, separators=(",", ":")) + "\n")
            for id_, look in enumerate(fingerprints, first):
                channel = "train" if id_ // CLASSES % 5 else "validation"
                start = places[channel]
                places[channel] = start + RECORD_BYTES
                class_number = id_ % CLASSES
                row: list[object] = [id_, f"{classes[class_number]}/picture {id_:09}.jpg"]
                row += [class_number, channel]
                row += [hashlib.sha256(b"%d" % id_).hexdigest(), base64.b64encode(look).decode()]
                row += [start, places[channel], 100_000, 640, 480, False]
                report.write(json.dumps(row, separators=(",", ":")) + "\n")
        for channel, length in places.items():
            with (folder / shard.path(f"{channel}.rec")).open("wb") as records:
                records.truncate(length)
        done = {"reading": asdict(reading), "dataset": "made up", "shard": str(number)}
        (folder / shard.path("done.json")).write_text(json.dumps(done))


def join(pictures: int, skipped: int, shards: int = SHARDS) -> Joined:
    """Join made up reports in a process of its own."""
    with TemporaryDirectory(dir=os.environ.get("TMPDIR")) as temporary:
        folder = Path(temporary) / "packed"
        write_reports(folder, pictures, skipped, shards)
        started = time.monotonic()
        command = [
            *(sys.executable, "-m", "batch_prep", "--step=join", f"--shards={shards}"),
            *("--source=unread", f"--destination={folder}/"),
            *("--classifier=cars", "--run-id=r1"),
        ]
        measured = subprocess.run(
            [sys.executable, "-S", "-c", _LAUNCHER, *command],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'layers' / 'droplens'}"},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if measured.returncode:
            sys.exit(f"the join ended with {measured.returncode}")
        counts = json.loads((folder / "dataset.json").read_text("utf-8"))["counts"]
        assert counts["train"] + counts["validation"] == pictures
        assert counts["skipped"] == skipped
        return Joined(
            pictures,
            skipped,
            round(int(measured.stdout) / 1024, 1),
            round(time.monotonic() - started, 1),
        )


def bytes_each(less: Joined, more: Joined) -> float:
    """What each picture that the larger join has more takes."""
    return (more.peak_mib - less.peak_mib) * 2**20 / (more.pictures - less.pictures)


def table(results: dict[str, Any]) -> str:
    """What grows with a dataset, as a Markdown table. results: of the results file."""
    at_ten_million = f"{results['gib_at_ten_million']:.1f} GiB"
    rows = [
        ("what grows with the dataset", "bytes a picture", "at ten million"),
        ("---", "---", "---"),
        ("planning a shard: class and place of every picture", "12", "120 MB"),
        ("the shard's own pictures, at most 250,000 by default", "about 400", "100 MB"),
        (
            f"merge: a row ({ROW.itemsize}), a fingerprint ({FINGERPRINT_BYTES}), near-duplicates",
            f"{results['bytes_a_picture']}",
            f"{at_ten_million}, with {results['fixed_mib']} MiB that any merge takes",
        ),
    ]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines[1] = "|---|---|---|"
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.packing.join_memory")
    parser.add_argument("--pictures", default="300000,900000", help="two sizes (%(default)s)")
    parser.add_argument("--skipped", type=int, default=400_000, help="files (%(default)s)")
    given = parser.parse_args(arguments)
    measured = provenance()
    less, more = sorted(int(size) for size in given.pictures.split(","))
    joins = []
    for pictures, skipped in ((less, 0), (more, 0), (more, given.skipped)):
        joins.append(join(pictures, skipped))
        print(joins[-1], flush=True)
    each = bytes_each(joins[0], joins[1])
    fixed = joins[0].peak_mib - each * less / 2**20
    of_skipped = (joins[2].peak_mib - joins[1].peak_mib) * 2**20 / max(given.skipped, 1)
    results = {
        "bytes_a_picture": round(each),
        "bytes_a_skipped_file": round(of_skipped),
        "fixed_mib": round(fixed),
        "ms_a_picture": round(1000 * (joins[1].seconds - joins[0].seconds) / (more - less), 3),
        "gib_at_ten_million": round((fixed + each * 1e7 / 2**20) / 1024, 2),
        "joins": [asdict(one) for one in joins],
    }
    print(json.dumps({key: value for key, value in results.items() if key != "joins"}, indent=1))
    keep("join_memory", measured | results)


if __name__ == "__main__":
    main()
