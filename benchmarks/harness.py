"""What every benchmark shares: where its figures are kept, their origin, and their spread."""

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, median, quantiles, stdev
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PROVENANCE = ("measured_at", "commit", "command", "machine")
# Photographs that are no part of the repository: all of Stanford Cars, and 24 folders of it.
CARS = Path(os.environ.get("DROPLENS_CARS", ROOT.parent / "shared" / "data" / "cars"))
CARS24 = Path(os.environ.get("DROPLENS_CARS24", CARS / "cars24"))


def file_of(name: str) -> Path:
    """Where the figures of a benchmark are kept."""
    return RESULTS / f"{name}.json"


def stored(name: str) -> dict[str, Any]:
    """The figures that are kept; empty where there are none yet."""
    file = file_of(name)
    return dict(json.loads(file.read_text("utf-8"))) if file.is_file() else {}


def keep(name: str, report: Mapping[str, Any]) -> None:
    """Replace the earlier figures. ValueError: the keys of `provenance` are missing."""
    missing = set(PROVENANCE) - report.keys()
    if missing:
        raise ValueError(f"{name}: figures without {', '.join(sorted(missing))}")
    file = file_of(name)
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    print(f"Written to {os.path.relpath(file, ROOT)}")


def provenance(**machine: Any) -> dict[str, Any]:
    """When, from which sources, by which command and where it is measured, as a report begins.

    To be called before anything is measured. machine: facts to add, or to put in place of those of
    `machine_facts`.
    """
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(ROOT),
        "command": command(),
        "machine": machine_facts() | machine,
    }


def commit(repository: Path) -> str:
    """The commit's hash, with "-dirty" where a file that git knows has been changed.

    Results are no sources. Without a repository, as on a machine that only measures, what
    DROPLENS_COMMIT says, else "unknown".
    """

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(repository), *words], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        found = git("rev-parse", "HEAD")
        sources = "--", ":/", ":(top,exclude)benchmarks/results"
        changed = git("status", "--porcelain", "--untracked-files=no", *sources)
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("DROPLENS_COMMIT", "unknown")
    return f"{found}-dirty" if changed else found


def command() -> str:
    """How this process was started, as a person would type it."""
    main = sys.modules["__main__"].__spec__
    module = main.name.removesuffix(".__main__") if main else sys.argv[0]
    return shlex.join(["python", "-m", module, *sys.argv[1:]])


def machine_facts() -> dict[str, Any]:
    """What figures depend on. cores: that this process may use; load_before: of one minute."""
    return {
        "cpu": cpu(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def cpu() -> str:
    """The model's name where the system says it, else the architecture."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def versions(*packages: str) -> dict[str, str]:
    """Of Python, and of these packages of its environment."""
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """The median and the quartiles of two or more, by R's method 6; three decimals."""
    low, middle, high = quantiles(values, n=4)
    return {"median": round(middle, 3), "low": round(low, 3), "high": round(high, 3)}


def extremes(values: Sequence[float]) -> dict[str, float]:
    """The median, the least and the most of one or more; two decimals."""
    found = {"median": median(values), "min": min(values), "max": max(values)}
    return {name: round(value, 2) for name, value in found.items()}


def mean_and_deviation(values: Sequence[float]) -> dict[str, float]:
    """The mean, the sample's standard deviation, the least and the most; four decimals."""
    return {
        "mean": round(fmean(values), 4),
        "sd": round(stdev(values), 4) if len(values) > 1 else 0.0,
        "least": round(min(values), 4),
        "most": round(max(values), 4),
    }
