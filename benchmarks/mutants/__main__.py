"""How many small faults in the modules that decide things the tests notice.

    make mutants            MINUTES=10 for a sample, MODULES="plan runs" for some of them

Each mutant is written into a copy of the repository, where the module's own tests run in a process
of their own. A module's tests that fail, or take far longer than without it, have killed it. What
survives is printed; a mutant that no test can tell from the original stands in equivalent.toml,
with the reason.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.harness import ROOT, keep, provenance
from benchmarks.mutants.operators import Mutant, mutants

HERE = Path(__file__).resolve().parent
# Of the mutants that are not equivalent, in each module.
FLOOR = 0.95
# A mutant may loop for ever.
SLOWER, GRACE_SECONDS = 4.0, 20.0
PROCESSES = 2
# Imported once, before the processes of the mutants are forked; none of it is the project's own.
PRELOADED = ("boto3", "hypothesis", "moto", "numpy", "PIL.Image", "pytest", "aws_lambda_powertools")


@dataclass(frozen=True, slots=True)
class Module:
    """A module under test. file, tests: paths in the repository."""

    name: str
    file: str
    tests: tuple[str, ...]


@dataclass(slots=True)
class Score:
    """What became of one module's mutants."""

    tried: int = 0
    killed: int = 0
    equivalent: int = 0
    survivors: list[dict[str, Any]] = field(default_factory=list)

    @property
    def killed_share(self) -> float | None:
        """Of those that are not equivalent."""
        told_apart = self.tried - self.equivalent
        return round(self.killed / told_apart, 4) if told_apart else None


@dataclass(slots=True)
class Trial:
    """A mutant under test: the process, and until when it may run (time.monotonic)."""

    module: Module
    mutant: Mutant
    copy: Path
    until: float


def modules() -> list[Module]:
    """Those in modules.toml."""
    table = tomllib.loads((HERE / "modules.toml").read_text("utf-8"))
    return [Module(name, entry["file"], tuple(entry["tests"])) for name, entry in table.items()]


def equivalents() -> dict[tuple[str, str, str, str], str]:
    """(module, line of source, before, after) of each mutant that changes nothing, and why."""
    file = HERE / "equivalent.toml"
    table = tomllib.loads(file.read_text("utf-8")) if file.is_file() else {}
    return {
        (entry["module"], entry["line"], entry["before"], entry["after"]): entry["reason"]
        for entry in table.get("mutant", [])
    }


def main() -> None:
    """Try, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1e9, help="how long to try")
    parser.add_argument("--modules", nargs="*", help="names in modules.toml; all by default")
    parser.add_argument("--seed", type=int, default=0, help="of the order in which they are tried")
    arguments = parser.parse_args()
    chosen = [
        module for module in modules() if not arguments.modules or module.name in arguments.modules
    ]
    unknown = set(arguments.modules or []) - {module.name for module in chosen}
    if unknown:
        sys.exit(f"No such module: {', '.join(sorted(unknown))}. modules.toml has them all.")
    measured, begun = provenance(), time.monotonic()
    with TemporaryDirectory() as work:
        copies = [_copy(Path(work) / str(number)) for number in range(PROCESSES)]
        for name in PRELOADED:
            __import__(name)
        scores, possible = _try(chosen, copies, arguments.seed, begun + 60 * arguments.minutes)
    _print(scores, possible)
    result = {
        **measured,
        "seconds": round(time.monotonic() - begun),
        "seed": arguments.seed,
        "modules": {
            name: {
                "possible": possible[name],
                "tried": score.tried,
                "killed": score.killed,
                "equivalent": score.equivalent,
                "killed_share": score.killed_share,
                "survivors": score.survivors,
            }
            for name, score in scores.items()
        },
    }
    if not arguments.modules:
        keep("mutants", result)
    below = [
        name
        for name, score in scores.items()
        if score.killed_share is not None and score.killed_share < FLOOR
    ]
    if below:
        sys.exit(f"Fewer than {FLOOR:.0%} killed in: {', '.join(below)}")


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


def _try(
    chosen: Sequence[Module], copies: list[Path], seed: int, until: float
) -> tuple[dict[str, Score], dict[str, int]]:
    """The modules take turns, so that a sample holds something of each."""
    scores = {module.name: Score() for module in chosen}
    known = equivalents()
    queues: list[tuple[Module, float, Iterator[Mutant]]] = []
    possible = {}
    for module in chosen:
        before = time.monotonic()
        pid = _start(module, copies[0])
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0:
            sys.exit(f"{module.name}: its tests fail without any mutant: {' '.join(module.tests)}")
        seconds = time.monotonic() - before
        found = mutants((ROOT / module.file).read_text("utf-8"))
        possible[module.name] = len(found)
        print(f"{module.name}: {len(found)} mutants, {seconds:.1f} s each", flush=True)
        random.Random(seed).shuffle(found)
        queues.append((module, SLOWER * seconds + GRACE_SECONDS, iter(found)))
    running: dict[int, Trial] = {}
    free = list(copies)
    while queues or running:
        while queues and free:
            module, limit, waiting = queues.pop(0)
            mutant = next(waiting, None)
            if mutant is None or time.monotonic() > until:
                continue
            queues.append((module, limit, waiting))
            copy = free.pop()
            (copy / module.file).write_text(mutant.source, "utf-8")
            pid = _start(module, copy)
            running[pid] = Trial(module, mutant, copy, time.monotonic() + limit)
        for pid, killed in _ended(running):
            trial = running.pop(pid)
            shutil.copy2(ROOT / trial.module.file, trial.copy / trial.module.file)
            free.append(trial.copy)
            _count(scores[trial.module.name], trial, killed, known)
    return scores, possible


def _count(
    score: Score, trial: Trial, killed: bool, known: dict[tuple[str, str, str, str], str]
) -> None:
    score.tried += 1
    mutant = trial.mutant
    lines = (ROOT / trial.module.file).read_text("utf-8").splitlines()
    line = lines[mutant.line - 1].strip()
    if killed:
        score.killed += 1
    elif (trial.module.name, line, mutant.before, mutant.after) in known:
        score.equivalent += 1
    else:
        score.survivors.append({"line": line, "before": mutant.before, "after": mutant.after})
        place = f"{trial.module.file}:{mutant.line}"
        print(f"survived: {place}: {mutant.before}  ->  {mutant.after}", flush=True)


def _start(module: Module, copy: Path) -> int:
    """A process that ends with 0 where the module's tests pass in `copy`."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 3
    try:
        os.setsid()
        os.chdir(copy)
        sys.dont_write_bytecode = True
        sys.path[:] = (
            [str(copy)]
            + [
                entry
                for entry in sys.path
                if entry and not Path(entry).is_relative_to(ROOT / "layers") and Path(entry) != ROOT
            ]
            + [str(copy / "layers" / "droplens")]
        )
        for name in [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]:
            del sys.modules[name]
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(quiet, stream)
        import pytest

        code = int(
            pytest.main(
                [
                    "-x",
                    "-q",
                    "-o",
                    f"cache_dir={copy / '.pytest'}",
                    "--hypothesis-seed=0",
                    *module.tests,
                ]
            )
        )
    finally:
        os._exit(code)


def _ended(running: dict[int, Trial]) -> Iterator[tuple[int, bool]]:
    """The processes that have ended, each with whether a test failed; waits for the first."""
    while running:
        ended = []
        for pid, trial in running.items():
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                ended.append((pid, os.waitstatus_to_exitcode(status) != 0))
            elif time.monotonic() > trial.until:
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                ended.append((pid, True))
        if ended:
            yield from ended
            return
        time.sleep(0.02)


def _print(scores: dict[str, Score], possible: dict[str, int]) -> None:
    print(f"\n{'module':<18}{'mutants':>8}{'tried':>8}{'killed':>8}{'equivalent':>12}{'share':>8}")
    for name, score in scores.items():
        share = "" if score.killed_share is None else f"{score.killed_share:.1%}"
        print(
            f"{name:<18}{possible[name]:>8}{score.tried:>8}{score.killed:>8}"
            f"{score.equivalent:>12}{share:>8}"
        )


if __name__ == "__main__":
    main()
