"""Our handler on batches of pictures of several classifiers in turns: python modes.py PLAN

Runs as handlers.py does. PLAN is a JSON file: {"ways": {way: [[S3's event, ...], ...]}, "warmup":
batches not counted}. Prints {"rows": [{"way", "seconds", "cpu_seconds"}, ...], "first": the seconds
since 1970 at which the first batch was done, "first_cpu": of this process until then, "peak_mb"}.
"""

import contextlib
import importlib
import json
import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.classify.handlers import sqs_event


def main() -> None:
    """Measure and print."""
    # classify_image as it was built, which is on the path of this process only.
    app: Any = importlib.import_module("app")
    plan = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    context = SimpleNamespace(
        function_name="droplens-classify-image",
        memory_limit_in_mb=2048,
        invoked_function_arn="arn:aws:lambda:us-east-1:000000000000:function:classify-image",
        aws_request_id="00000000-0000-0000-0000-000000000000",
        get_remaining_time_in_millis=lambda: 120_000,
    )
    rows, first, first_cpu = [], 0.0, 0.0
    ways = sorted(plan["ways"])
    for number in range(len(plan["ways"][ways[0]])):
        for way in ways if number % 2 else reversed(ways):
            messages = plan["ways"][way][number]
            cpu, started = time.process_time(), time.perf_counter()
            # Metrics and log lines go to standard output, which here belongs to the measurements.
            with contextlib.redirect_stdout(sys.stderr):
                answer = app.handler(sqs_event(messages), context)
            assert answer == {"batchItemFailures": []}, answer
            if not first:
                first, first_cpu = time.time(), time.process_time()
            if number >= plan["warmup"]:
                seconds, used = time.perf_counter() - started, time.process_time() - cpu
                rows.append({"way": way, "seconds": seconds, "cpu_seconds": used})
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    assert peak is not None
    found = {"rows": rows, "first": first, "first_cpu": first_cpu, "peak_mb": int(peak[1]) / 1024}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
