"""What a cold start of classify_image costs before its first picture, against bare boto3.

Each sample is a process of its own on the functions' interpreter with the built layer, alternately.
"""

import json
import subprocess
from pathlib import Path
from statistics import median
from typing import Any

# Clients are made as the function's module makes them: that, too, is part of a cold start.
_BARE = 'import boto3; boto3.client("s3"); boto3.client("sagemaker-runtime")'
_WAYS = {"droplens": "import app", "bare": _BARE}
_SAMPLE = r"""
import json, re, sys, time
started, cpu = time.perf_counter(), time.process_time()
{code}
seconds, used = time.perf_counter() - started, time.process_time() - cpu
# Not getrusage: its peak is never below that of the process which started this one.
peak = int(re.search(r"VmHWM:\s+(\d+) kB", open("/proc/self/status").read())[1])
print(json.dumps({{"ms": seconds * 1000, "cpu_ms": used * 1000, "peak_mb": peak / 1024,
                   "modules": len(sys.modules)}}))
"""


def cold_starts(python: Path, environment: dict[str, str], repeats: int) -> dict[str, Any]:
    """Medians, and all samples, of importing our function's module and of a bare handler's."""
    samples: dict[str, list[dict[str, float]]] = {way: [] for way in _WAYS}
    for number in range(repeats + 1):
        for way, code in _WAYS.items():
            done = subprocess.run(
                [str(python), "-c", _SAMPLE.format(code=code)],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            if number:  # the first compiles
                samples[way].append(json.loads(done.stdout.splitlines()[-1]))
    return {
        way: {
            **{name: round(median(row[name] for row in rows), 1) for name in rows[0]},
            "samples_ms": [round(row["ms"], 1) for row in rows],
        }
        for way, rows in samples.items()
    }
