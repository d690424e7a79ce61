"""How many small faults in the modules that decide things the tests notice.

    make mutants            MINUTES=10 for a sample, MODULES="plan runs" for some of them,
                            KEEP=1 to go on from results/mutants.json and to write into it

A module's tests are collected once, and each mutant of a function is put into a fork of that
process (session.py). A mutant of what runs at import is written into a copy of the repository,
where the tests run in a process of their own. Tests that fail, or take far longer than without the
mutant, have killed it. Survivors are printed; one that no test can distinguish from the original
is listed in equivalent.toml, with the reason.

With KEEP=1, a mutant recorded as killed is not tried again until the module's source changes, even
if its tests change: delete the module's entry to try all again.
"""

import argparse
import contextlib
import functools
import hashlib
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.harness import ROOT, keep, provenance, stored
from benchmarks.mutants.operators import Mutant, mutants
from benchmarks.mutants.session import (
    Broken,
    QuickestFirst,
    Tests,
    clock_limit,
    limit,
    prepare,
    run_pytest,
)

HERE = Path(__file__).resolve().parent
# Of the mutants that are not equivalent, in each module.
FLOOR = 0.95
PROCESSES = 2
_ended_early = threading.Event()


@dataclass(frozen=True, slots=True)
class Module:
    """A module under test. file, tests: paths in the repository. slow: tests of these that are
    not run, since they take long and kill no mutant that the others do not."""

    name: str
    file: str
    tests: tuple[str, ...]
    slow: tuple[str, ...] = ()

    @property
    def arguments(self) -> list[str]:
        """What pytest is to run."""
        return [*self.tests, *(f"--deselect={test}" for test in self.slow)]

    @property
    def starts_processes(self) -> bool:
        """Whether its tests may start processes, which read its source."""
        return not all(test.startswith("tests/unit/") for test in self.tests)


@dataclass(slots=True)
class Score:
    """What became of one module's mutants. not_killed: their places in the order of the seed."""

    possible: int = 0
    tried: int = 0
    killed: int = 0
    equivalent: int = 0
    seconds: int = 0
    survivors: list[dict[str, Any]] = field(default_factory=list)
    not_killed: list[int] = field(default_factory=list)

    @property
    def killed_share(self) -> float | None:
        """Of those that are not equivalent."""
        told_apart = self.tried - self.equivalent
        return round(self.killed / told_apart, 4) if told_apart else None


@dataclass(frozen=True, slots=True)
class Trial:
    """A mutant in a copy of its own. until: when its process is ended (time.monotonic)."""

    number: int
    copy: Path
    until: float


def modules() -> list[Module]:
    """Those in modules.toml."""
    table = tomllib.loads((HERE / "modules.toml").read_text("utf-8"))
    return [
        Module(name, entry["file"], tuple(entry["tests"]), tuple(entry.get("slow", ())))
        for name, entry in table.items()
    ]


@functools.cache
def equivalents() -> dict[tuple[str, str, str, str], str]:
    """(module, line of source, before, after) of each mutant that changes nothing, and why."""
    file = HERE / "equivalent.toml"
    table = tomllib.loads(file.read_text("utf-8")) if file.is_file() else {}
    return {
        (entry["module"], entry["line"], entry["before"], entry["after"]): entry["reason"]
        for entry in table.get("mutant", [])
    }


def main() -> None:
    """Try the mutants, print the score and, with --keep, store it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1e9, help="how long to try")
    parser.add_argument("--modules", nargs="*", help="names in modules.toml; all by default")
    parser.add_argument("--seed", type=int, default=0, help="of the order in which they are tried")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="go on from what the results file holds of the same source, and write into it",
    )
    arguments = parser.parse_args()
    chosen = [
        module for module in modules() if not arguments.modules or module.name in arguments.modules
    ]
    unknown = set(arguments.modules or []) - {module.name for module in chosen}
    if unknown:
        sys.exit(f"No such module: {', '.join(sorted(unknown))}. modules.toml has them all.")
    until = time.monotonic() + 60 * arguments.minutes
    # What is being tried then is still brought to its end, and kept.
    signal.signal(signal.SIGTERM, lambda *_: _ended_early.set())
    scores: dict[str, Score] = {}
    with TemporaryDirectory() as work:
        copies = [_copy(Path(work) / str(number)) for number in range(PROCESSES)]
        for number, module in enumerate(chosen):
            if _ended_early.is_set():
                break
            # What a module leaves of its share of the time is the others'.
            share = (until - time.monotonic()) / (len(chosen) - number)
            begun = time.monotonic()
            held = _held(module, arguments.seed) if arguments.keep else Score()
            score = _tried(module, copies, arguments.seed, held, begun + share)
            scores[module.name] = score
            score.seconds += round(time.monotonic() - begun)
            print(_row(module.name, score), flush=True)
            if arguments.keep:
                _keep(module, score, arguments.seed)
    print(f"\n{_HEADINGS}", *(_row(name, score) for name, score in scores.items()), sep="\n")
    below = [
        name
        for name, score in scores.items()
        if score.killed_share is not None and score.killed_share < FLOOR
    ]
    if below:
        sys.exit(f"Fewer than {FLOOR:.0%} killed in: {', '.join(below)}")


def _digest(module: Module) -> str:
    both = (ROOT / module.file).read_bytes() + (HERE / "operators.py").read_bytes()
    return hashlib.sha256(both).hexdigest()


def _held(module: Module, seed: int) -> Score:
    """The module's score in the results file, if its source and the seed are the same."""
    entry = stored("mutants").get("modules", {}).get(module.name)
    if entry is None or (entry["source"], entry["seed"]) != (_digest(module), seed):
        return Score()
    return Score(
        tried=entry["tried"],
        killed=entry["killed"],
        seconds=entry["seconds"],
        not_killed=entry["not_killed"],
    )


def _keep(module: Module, score: Score, seed: int) -> None:
    """Write a module's score into the results file, which keeps those of the others."""
    made = provenance()
    result = stored("mutants") | made
    result.setdefault("modules", {})
    result["modules"][module.name] = {
        "possible": score.possible,
        "tried": score.tried,
        "killed": score.killed,
        "equivalent": score.equivalent,
        "killed_share": score.killed_share,
        "survivors": score.survivors,
        "not_killed": sorted(score.not_killed),
        "seconds": score.seconds,
        "seed": seed,
        "source": _digest(module),
        **made,
    }
    result["modules"] = dict(sorted(result["modules"].items()))
    keep("mutants", result)


def _copy(folder: Path) -> Path:
    """The files that git knows; environments are shared by a link."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.symlink_to(source.readlink())
        elif source.is_file():
            shutil.copy2(source, target)
    (folder / ".local").symlink_to(ROOT / ".local")
    return folder


def _tried(module: Module, copies: list[Path], seed: int, held: Score, until: float) -> Score:
    """What became of a module's mutants, in the order of the seed. Exits where its tests fail."""
    order = mutants((ROOT / module.file).read_text("utf-8"))
    random.Random(seed).shuffle(order)
    # Those not killed before may be now, except for equivalent ones.
    again = held.not_killed
    retried = [number for number in again if not _is_equivalent(module, order[number])]
    score = Score(
        possible=len(order),
        tried=held.tried - len(again),
        killed=held.killed,
        seconds=held.seconds,
    )
    waiting = iter([*retried, *range(held.tried, len(order))])
    try:
        tests = Tests.collected(ROOT, copies[0], module.file, module.arguments, order)
    except Broken as error:
        sys.exit(f"{module.name}: {error}")
    for name in tests.libraries:
        # What cannot be imported out of its turn is imported in each process.
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    seconds = sum(tests.seconds.values())
    print(
        f"{module.name}: {len(order)} mutants, {len(tests.try_here)} of them in the tests' "
        f"process; {len(tests.seconds)} tests of {seconds:.1f} s",
        flush=True,
    )
    left = set(again)
    here: set[int] = set()
    apart: dict[int, Trial] = {}
    free = list(copies)
    not_killed_here: list[int] = []
    while True:
        while len(here) + len(apart) < PROCESSES:
            number = not_killed_here.pop() if not_killed_here else -1
            if number < 0 and time.monotonic() < until and not _ended_early.is_set():
                number = next(waiting, -1)
                if number in tests.try_here:
                    here.add(number)
                    tests.try_mutant(number)
                    continue
            if number < 0:
                break
            copy = free.pop()
            _write(copy / module.file, order[number].source, number)
            pid = _start(module, copy, tests.seconds)
            apart[pid] = Trial(number, copy, clock_limit(seconds))
        if not here and not apart:
            break
        ended = []
        for number, killed in tests.outcomes():
            here.remove(number)
            if killed or not module.starts_processes:
                ended.append((number, killed))
            else:
                # What a test starts has read the source, where the mutant was not.
                not_killed_here.append(number)
        for pid, killed in _ended(apart):
            trial = apart.pop(pid)
            shutil.copy2(ROOT / module.file, trial.copy / module.file)
            free.append(trial.copy)
            ended.append((trial.number, killed))
        for number, killed in ended:
            left.discard(number)
            _count(score, module, number, order[number], killed)
        time.sleep(0.01)
    for number in sorted(left):  # equivalent, or there was no time to try them again
        _count(score, module, number, order[number], killed=False)
    tests.close()
    return score


def _write(file: Path, source: str, number: int) -> None:
    """Write a mutant, with a time of its own: by that and the size Python knows stale bytecode."""
    file.write_text(source, "utf-8")
    os.utime(file, (number, number))


def _count(score: Score, module: Module, number: int, mutant: Mutant, killed: bool) -> None:
    score.tried += 1
    if killed:
        score.killed += 1
        return
    score.not_killed.append(number)
    if _is_equivalent(module, mutant):
        score.equivalent += 1
    else:
        line = _line(module, mutant)
        score.survivors.append({"line": line, "before": mutant.before, "after": mutant.after})
        place = f"{module.file}:{mutant.line}"
        print(f"survived: {place}: {mutant.before}  ->  {mutant.after}", flush=True)


def _line(module: Module, mutant: Mutant) -> str:
    """The line of source that the mutant changes, without its indentation."""
    lines = (ROOT / module.file).read_text("utf-8").splitlines()
    return lines[mutant.line - 1].strip()


def _is_equivalent(module: Module, mutant: Mutant) -> bool:
    """Whether equivalent.toml lists the mutant."""
    return (module.name, _line(module, mutant), mutant.before, mutant.after) in equivalents()


def _start(module: Module, copy: Path, seconds: Mapping[str, float]) -> int:
    """A process that ends with 0 where the module's tests pass in `copy`.

    seconds: how long each test takes.
    """
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 3
    try:
        prepare(ROOT, copy)
        limit(sum(seconds.values()))
        code = run_pytest(copy, module.arguments, [QuickestFirst(seconds)])
    finally:
        os._exit(code)


def _ended(running: Mapping[int, Trial]) -> list[tuple[int, bool]]:
    """The processes that have ended, each with whether a test failed."""
    ended = []
    for pid, trial in running.items():
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            ended.append((pid, os.waitstatus_to_exitcode(status) != 0))
        elif time.monotonic() > trial.until:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            ended.append((pid, True))
    return ended


_HEADINGS = f"{'module':<18}{'mutants':>8}{'tried':>8}{'killed':>8}{'equivalent':>12}{'share':>8}"


def _row(name: str, score: Score) -> str:
    share = "" if score.killed_share is None else f"{score.killed_share:.1%}"
    return (
        f"{name:<18}{score.possible:>8}{score.tried:>8}{score.killed:>8}"
        f"{score.equivalent:>12}{share:>8}"
    )


if __name__ == "__main__":
    main()
