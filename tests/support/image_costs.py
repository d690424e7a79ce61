"""The cost of preparing an image: its outcome, CPU seconds, and peak memory.

    python -m tests.support.image_costs FOLDER     each file in it, a JSON line for each

Each file is prepared in a new process with a new sandbox, whose costs are added; a small image's
cost is subtracted, so that the figures are above the idle process.
"""

import json
import os
import resource
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from batch_prep.image.prepare import prepare as pack
from droplens.imaging import sandbox
from droplens.imaging.prepare import ImageError, Limits, Preprocessing, decode, prepare

PREPROCESSING = Preprocessing(shorter_side=256)
# As measuring and answering prepare a picture, as packing does, and as the server decodes it.
PLACES: dict[str, Callable[[bytes], object]] = {
    "answering": lambda data: prepare(data, PREPROCESSING),
    "packing": lambda data: pack(data, PREPROCESSING, Limits()),
    "serving": lambda data: decode(data, shorter_side=224),
}
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Cost:
    """seconds: of a core; mib: of memory at the peak. Both of all processes, above idle ones."""

    name: str
    verdict: str
    seconds: float
    mib: float


def costs(files: Iterable[tuple[str, bytes]], place: str = "answering") -> Iterator[Cost]:
    """The costs of each file. The process that calls this must have no threads."""
    work = PLACES[place]
    small = BytesIO()
    Image.new("RGB", (16, 16)).save(small, "WEBP")
    idle = _measured("idle", small.getvalue(), work)
    for name, data in files:
        cost = _measured(name, data, work)
        yield Cost(name, cost.verdict, cost.seconds - idle.seconds, cost.mib - idle.mib)


def _measured(name: str, data: bytes, work: Callable[[bytes], object]) -> Cost:
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(write, json.dumps(_told(data, work)).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        told = answer.read()
    _, status, _ = os.wait4(pid, 0)
    if not told:
        return Cost(name, f"killed by signal {os.WTERMSIG(status)}", 0, 0)
    return Cost(name, **json.loads(told))


def _told(data: bytes, work: Callable[[bytes], object]) -> dict[str, Any]:
    try:
        work(data)
        verdict = "picture"
    except ImageError as error:
        verdict = error.code
    except BaseException as error:  # noqa: BLE001
        verdict = f"{type(error).__name__}: {error}"
    sandbox.stop()
    own, others = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return {
        "verdict": verdict,
        "seconds": own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime,
        "mib": (own.ru_maxrss + others.ru_maxrss) * 1024 / MIB,
    }


def main() -> None:
    """Print what the files of a folder cost."""
    place = sys.argv[2] if len(sys.argv) > 2 else "answering"
    files = ((path.name, path.read_bytes()) for path in sorted(Path(sys.argv[1]).iterdir()))
    for cost in costs(files, place):
        print(json.dumps(asdict(cost)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
