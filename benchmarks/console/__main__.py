"""The console measured: images reviewed a minute, and the gallery at 100,000 results.

python -m benchmarks.console [--images 100] [--results 100000]
"""

import argparse
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.console import gallery, review
from benchmarks.console.stack import served
from benchmarks.console.table import markdown
from benchmarks.harness import keep, provenance, stored, versions
from tools import chromium

THINKING_SECONDS = 1.2


def main() -> int:
    """Measure, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100, help="to review; 0: none")
    parser.add_argument("--results", type=int, default=100_000, help="in the gallery; 0: none")
    options = parser.parse_args()
    browser = chromium.find()
    if browser is None:
        parser.error("there is no Chromium: name its path in DROPLENS_CHROMIUM")
    origin = provenance(packages=versions("starlette", "playwright"))
    report = {**stored("console"), **origin}
    with TemporaryDirectory(prefix="droplens-") as name:
        folder = Path(name)
        if options.images:
            with served(folder) as stack:
                review.enter(stack, options.images)
                print(f"{options.images} images wait", file=sys.stderr)
                pace = review.Pace(THINKING_SECONDS, options.images)
                with stack.console() as address:
                    report["review"] = origin | review.measure(address, browser, pace)
        if options.results:
            os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
            (folder / "s3").mkdir()
            report["gallery"] = origin | gallery.measure(
                options.results, folder / "s3", lambda words: print(words, file=sys.stderr)
            )
    print(markdown(report))
    keep("console", report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
