"""Seeded mutation: case number n of a target is the same bytes on every machine.

Cases run in forked children with a limit on memory and CPU, so that a crash of a C library, an
endless loop and a decompression bomb are findings like an exception that the target does not allow.
"""

import faulthandler
import hashlib
import os
import random
import resource
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from pathlib import Path
from pkgutil import iter_modules

from tests.fuzz import targets

CORPUS = Path(__file__).parent / "corpus"
BATCH = 200
_WORDS = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Target:
    """A parser of untrusted bytes.

    name: a word; seeds: valid inputs by name, made on demand; run: reads one input, and
    raises only what is in `allowed`; cpu_seconds, memory_bytes: what one input may take, above
    what the process has anyhow.
    """

    name: str
    seeds: Callable[[], Mapping[str, bytes]]
    run: Callable[[bytes], object]
    allowed: tuple[type[BaseException], ...]
    cpu_seconds: float = 3.0
    memory_bytes: int = 2**30


@dataclass(frozen=True, slots=True)
class Finding:
    """An input that breaks a target. problem: a sentence."""

    target: str
    problem: str
    data: bytes

    def save(self, folder: Path) -> Path:
        """Store the input under a name made of target and content hash."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.target}-{hashlib.sha256(self.data).hexdigest()[:16]}"
        path.write_bytes(self.data)
        return path


def all_targets() -> dict[str, Target]:
    """Every target of every module in targets/, by name."""
    found = {}
    for module in iter_modules(targets.__path__):
        for target in import_module(f"{targets.__name__}.{module.name}").TARGETS:
            assert target.name not in found, target.name
            found[target.name] = target
    return found


def corpus(target: Target) -> list[bytes]:
    """What was found before."""
    return [path.read_bytes() for path in sorted((CORPUS / target.name).glob("*"))]


def cases(target: Target, start: int = 0) -> Iterator[bytes]:
    """Mutants without end, from number `start` on."""
    seeds = [*target.seeds().values(), *corpus(target)]
    for number in count(start):
        yield mutant(random.Random(f"{target.name}/{number}"), seeds)


def mutant(chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    """A seed with one to eight changes: bytes, words, pieces cut, repeated, moved or foreign."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, 8)):
        if not data:
            return bytes(data)
        # Half of all changes near the beginning, where headers are.
        near = min(len(data), 512) if chance.random() < 0.5 else len(data)
        at = chance.randrange(near)
        kind = chance.randrange(7)
        if kind == 0:
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[at] = chance.choice(
                (0, 0x20, 0x22, 0x2C, 0x0A, 0x7F, 0x80, 0xFF, chance.randrange(256))
            )
        elif kind == 2 and at + 4 <= len(data):
            word = chance.choice((*_WORDS, chance.randrange(2**32), len(data)))
            struct.pack_into(chance.choice("<>") + "I", data, at, word)
        elif kind == 3:
            del data[at : at + chance.randint(1, 64)]
        elif kind == 4:
            piece = data[at : at + chance.randint(1, 64)]
            data[at:at] = piece * chance.choice((1, 2, 50))
        elif kind == 5:
            other = chance.choice(seeds)
            start = chance.randrange(len(other) or 1)
            data[at:at] = other[start : start + chance.randint(1, 256)]
        else:
            del data[at + 1 :]
            data += bytes(chance.choice((0, 1, 512)))
    return bytes(data)


def fuzz(target: Target, seconds: float, start: int = 0) -> tuple[int, list[Finding]]:
    """How many cases were run in so many seconds, and what was found, at most ten inputs."""
    until = time.monotonic() + seconds
    endless = cases(target, start)
    done, findings = 0, list[Finding]()
    while time.monotonic() < until and len(findings) < 10:
        batch = [next(endless) for _ in range(BATCH)]
        ran, find = run(target, batch, until)
        done += ran
        if find:
            findings.append(find)
    return done, findings


def run(
    target: Target, batch: Sequence[bytes], until: float = float("inf")
) -> tuple[int, Finding | None]:
    """Read every input in one child, up to the first that is a find or to the time `until`."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        try:
            _in_child(target, batch, writing, until)
        finally:
            os._exit(0)
    os.close(writing)
    told = b""
    while piece := os.read(reading, 65536):
        told += piece
    os.close(reading)
    _, status = os.waitpid(child, 0)
    lines = told.decode("utf-8", "replace").splitlines()
    begun = sum(line == "." for line in lines)
    problem = next((line for line in lines if line != "."), None)
    if problem is None and os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        slow = number == signal.SIGPROF
        problem = "endless" if slow else f"killed by {signal.Signals(number).name}"
    if problem is None:
        return begun, None
    return begun, Finding(target.name, problem, batch[begun - 1])


def _in_child(target: Target, batch: Sequence[bytes], told: int, until: float) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    faulthandler.disable()  # pytest's own would report every crash
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, also within a C library
    with open("/proc/self/statm") as sizes:  # noqa: PTH123  before any limit
        used = int(sizes.read().split()[0]) * resource.getpagesize()
    limit = used + target.memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for data in batch:
        if time.monotonic() > until:
            return
        os.write(told, b".\n")
        began = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, 3 * target.cpu_seconds)
        problem = None
        try:
            target.run(data)
        except target.allowed:
            pass
        except BaseException as error:  # noqa: BLE001  whatever it is, it is a find
            problem = f"{type(error).__name__}: {error}"
        signal.setitimer(signal.ITIMER_PROF, 0)
        spent = time.process_time() - began
        if problem is None and spent > target.cpu_seconds:
            problem = f"{spent:.1f} s of CPU"
        if problem is not None:
            os.write(told, problem.replace("\n", " ")[:500].encode("utf-8", "replace") + b"\n")
            return


def report(find: Finding, folder: Path) -> str:
    """Two lines: the problem, and the command that repeats it."""
    path = find.save(folder)
    return (
        f"{find.target}: {find.problem}\n"
        f"  again: PYTHONPATH=.:layers/droplens {Path(sys.executable)} -m tests.fuzz "
        f"--target {find.target} --replay {path}"
    )
