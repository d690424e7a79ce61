"""Our handler on batches of pictures of several classifiers in turns: python modes.py PLAN

Runs as handlers.py does. PLAN is a JSON file: {"ways": {way: [[S3's event, ...], ...]}, "warmup":
batches not counted}. Prints {"rows": [{"way", "seconds", "cpu_seconds"}, ...], "first": the seconds
since 1970 at which the first batch was done, "first_cpu": of this process until then, "peak_mb"}.
"""

import json
import re
import sys
import time
from pathlib import Path

from benchmarks.classify.handlers import our_handler, sqs_event


def main() -> None:
    """Measure and print."""
    handle = our_handler()
    plan = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    rows, first, first_cpu = [], 0.0, 0.0
    ways = sorted(plan["ways"])
    for number in range(len(plan["ways"][ways[0]])):
        for way in ways if number % 2 else reversed(ways):
            messages = plan["ways"][way][number]
            cpu, started = time.process_time(), time.perf_counter()
            handle(sqs_event(messages))
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
