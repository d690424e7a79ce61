"""python -m tests.fuzz: mutants for a time, or known inputs. Exit code 1 where one is a find."""

import argparse
import sys
from pathlib import Path

from tests.fuzz.engine import all_targets, corpus, fuzz, report, run

FINDS = Path(".local/fuzz")


def main() -> int:
    """-> the exit code."""
    targets = all_targets()
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="for all targets together")
    parser.add_argument("--target", action="append", choices=sorted(targets), help="only this one")
    parser.add_argument("--start", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--replay", type=Path, nargs="+", help="read these files, and no mutants")
    parser.add_argument("--finds", type=Path, default=FINDS, help="where inputs are kept")
    given = parser.parse_args()
    chosen = given.target or sorted(targets)
    if given.replay and len(chosen) != 1:
        parser.error("--replay needs one --target")
    found = 0
    for name in chosen:
        target = targets[name]
        known = [path.read_bytes() for path in given.replay] if given.replay else corpus(target)
        # A find ends its child, so that each has its own.
        finds = [find for data in known if (find := run(target, [data])[1])]
        done = len(known)
        if not given.replay:
            mutants, more = fuzz(target, 60 * given.minutes / len(chosen), given.start)
            done, finds = done + mutants, finds + more
        print(f"{name}: {done:,} inputs, {len(finds)} finds", flush=True)
        for find in finds:
            print(report(find, given.finds), flush=True)
        found += len(finds)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
