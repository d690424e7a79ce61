"""A module's tests, collected once, and run in a fork for each mutant.

Starting pytest and importing what tests import takes seconds, most mutants are killed within
milliseconds. So one process collects the tests and runs them without a mutant, counting which
function of the module each test calls. Every mutant of a function body is then put into a fork of
that process, by giving the function its mutated code, and only the tests that call the function
run there, the quickest first. A mutant of what runs at import cannot be tried so: `Tests.try_here`
says which.
"""

import functools
import gc
import inspect
import json
import math
import os
import resource
import select
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest
from hypothesis import Phase, settings

from benchmarks.mutants.operators import Mutant

# A mutant may loop for ever: a factor of the tests' time without it, and seconds added to it.
SLOWER, GRACE_SECONDS = 4.0, 10.0
# While other processes have the processors, a mutant's tests take longer by the clock.
_CLOCK = 6.0
# A mutant may fill the memory.
_MOST_BYTES = 3 << 30
# In place of a node id: what runs at import, and what fixtures do that several tests share.
_IMPORT, _SHARED = "", "shared"
_BROKEN = 97  # the exit status of a fork whose mutant could not be put in


def limit_seconds(seconds: float) -> float:
    """How much processor time the tests may take with a mutant."""
    return SLOWER * seconds + GRACE_SECONDS


def limit(seconds: float) -> None:
    """End this process where what comes takes far more than `seconds`, or far too much memory."""
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(
        resource.RLIMIT_CPU, (math.ceil(time.process_time() + limit_seconds(seconds)), most)
    )
    resource.setrlimit(resource.RLIMIT_DATA, (_MOST_BYTES, _MOST_BYTES))


def clock_limit(seconds: float) -> float:
    """Until when (time.monotonic) tests with a mutant may run that wait, and do not work."""
    return time.monotonic() + _CLOCK * limit_seconds(seconds)


def prepare(root: Path, copy: Path) -> None:
    """Have this process test the sources in `copy`, in a group of its own, without a word."""
    os.setsid()
    os.chdir(copy)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    layer = root / "layers"
    kept = [one for one in sys.path if one and Path(one) != root]
    kept = [one for one in kept if not Path(one).is_relative_to(layer)]
    sys.path[:] = [str(copy), *kept, str(copy / "layers" / "droplens")]
    for name in [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]:
        del sys.modules[name]
    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(quiet, stream)


def run_pytest(copy: Path, tests: Sequence[str], plugins: Sequence[object]) -> int:
    """pytest's exit status. Same random inputs each time, and no search for smaller ones."""
    phases = (Phase.explicit, Phase.generate)
    settings.register_profile("mutants", phases=phases, deadline=None, database=None)
    settings.load_profile("mutants")
    options = ["-x", "-q", "--capture=no", "--hypothesis-seed=0"]
    options += ["-o", f"cache_dir={copy / '.pytest'}"]
    options += [f"--basetemp={copy.parent / f'temporary{os.getpid()}'}"]
    return int(pytest.main([*options, *tests], plugins=list(plugins)))


class QuickestFirst:
    """A plugin of pytest: run the tests in order of how long they take, each within its limit.

    seconds: how long each test takes, by node id.
    """

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self.seconds = seconds

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Called by pytest."""
        items.sort(key=lambda item: self.seconds.get(item.nodeid, math.inf))

    def pytest_runtest_setup(self, item: Any) -> None:
        """Called by pytest."""
        limit(self.seconds.get(item.nodeid, 0))


class Broken(Exception):
    """The tests of a module cannot be used to try mutants."""


@dataclass(slots=True)
class Tests:
    """The process that holds a module's collected tests.

    seconds: how long each test takes, by node id. try_here: which mutants can be tried in it.
    libraries: the modules that the tests import and that are not the project's.
    """

    pid: int
    requests: int
    replies: int
    seconds: dict[str, float] = field(default_factory=dict)
    try_here: set[int] = field(default_factory=set)
    libraries: list[str] = field(default_factory=list)
    waiting: str = ""

    @classmethod
    def collected(
        cls, root: Path, copy: Path, file: str, tests: Sequence[str], mutants: Sequence[Mutant]
    ) -> "Tests":
        """Start the process. file: the module's, in `root` and `copy`. Raises Broken."""
        requests, requests_in = os.pipe()
        replies, replies_in = os.pipe()
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            try:
                os.close(requests_in)
                os.close(replies)
                prepare(root, copy)
                plugin = _Server(copy, file, mutants, requests, replies_in)
                run_pytest(copy, tests, [plugin])
            finally:
                os._exit(0)
        os.close(requests)
        os.close(replies_in)
        found = cls(pid, requests_in, replies)
        first = next(found.lines(None), None)
        if first is None:
            found.close()
            raise Broken(f"tests fail without any mutant: {' '.join(tests)}")
        told = json.loads(first)
        found.seconds, found.try_here = told["seconds"], set(told["try_here"])
        found.libraries = told["libraries"]
        return found

    def try_mutant(self, number: int) -> None:
        """Have a mutant tried; `lines` will have its outcome."""
        os.write(self.requests, f"{number}\n".encode())

    def outcomes(self) -> list[tuple[int, bool]]:
        """The mutants that have been tried since, and whether they were killed. Raises Broken."""
        found = []
        for line in self.lines(0):
            number, status = map(int, line.split())
            if status == _BROKEN:
                raise Broken(f"mutant {number} could not be tried")
            found.append((number, status != 0))
        return found

    def lines(self, timeout: float | None) -> Iterator[str]:
        """What the process has written. timeout: None waits for the first line."""
        while "\n" not in self.waiting and select.select([self.replies], [], [], timeout)[0]:
            read = os.read(self.replies, 1 << 20).decode()
            if not read:
                if timeout is None:
                    return
                raise Broken("the process of the tests has ended")
            self.waiting += read
        *lines, self.waiting = self.waiting.split("\n")
        yield from lines

    def close(self) -> None:
        """End the process."""
        os.close(self.requests)
        os.close(self.replies)
        os.waitpid(self.pid, 0)


class _Server:
    """A plugin of pytest whose test loop waits for mutants."""

    def __init__(
        self, copy: Path, file: str, mutants: Sequence[Mutant], requests: int, replies: int
    ) -> None:
        self.file, self.folder = str(copy / file), copy
        self.mutants = mutants
        self.requests = requests
        self.replies = replies
        self.source = (copy / file).read_text("utf-8")
        # Where functions are called: in a test, by its node id.
        self.called: dict[str, set[int]] = defaultdict(set)
        self.now = _IMPORT
        self.seconds: dict[str, float] = {}
        self.trace: Callable[..., None] = self._called
        sys.settrace(self.trace)
        threading.settrace(self.trace)

    def _called(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename == self.file:
            self.called[self.now].add(code.co_firstlineno)

    def pytest_runtestloop(self, session: Any) -> bool:
        """Called by pytest, in place of its own loop."""
        # The tests of a session share what takes long to make, such as clients: it stays, unless
        # the module takes part in it, or a thread, which no fork would have.
        self.seconds = dict(_run_in_turn(session, session.items, session.items[0]))
        if session.testsfailed:
            return True
        if self.called[_SHARED] or threading.active_count() > 1:
            session._setupstate.teardown_exact(None)
        sys.settrace(None)
        threading.settrace(None)
        _forget_results(self.folder)
        ours = _functions(compile(self.source, self.file, "exec"))
        in_use = _in_use(self.file)
        changed = {
            number: (in_use[place], code)
            for number, mutant in enumerate(self.mutants)
            if (place := mutant.function) in ours
            and place in in_use
            and (code := self._changed(mutant, ours)) is not None
        }
        about = {
            "seconds": self.seconds,
            "try_here": sorted(changed),
            "libraries": [
                name
                for name, module in sys.modules.items()
                if Path(getattr(module, "__file__", None) or "").is_relative_to(sys.prefix)
            ],
        }
        self._reply(json.dumps(about))
        gc.collect()
        gc.freeze()
        self._serve(session.items, changed)
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Iterator[None]:
        """Called by pytest."""
        self.now = item.nodeid
        result = yield
        self.now = _IMPORT
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        """Called by pytest."""
        before = self.now
        if fixturedef.scope != "function":
            self.now = _SHARED
        result = yield
        self.now = before
        return result

    def _changed(self, mutant: Mutant, ours: Mapping[int, CodeType]) -> CodeType | None:
        """The code of the mutant's function; None where it runs at import."""
        assert mutant.function is not None
        if mutant.function in self.called[_IMPORT]:
            return None
        theirs = list(_functions(compile(mutant.source, self.file, "exec")).values())
        if len(theirs) != len(ours):
            return None
        code = theirs[list(ours).index(mutant.function)]
        same = code.co_freevars == ours[mutant.function].co_freevars
        return code if same else None

    def _serve(
        self,
        items: Sequence[Any],
        changed: Mapping[int, tuple[list[FunctionType], CodeType]],
    ) -> None:
        running: dict[int, tuple[int, float]] = {}
        open_, text = True, ""
        while open_ or running:
            if open_ and select.select([self.requests], [], [], 0.01 if running else None)[0]:
                read = os.read(self.requests, 1 << 16).decode()
                open_ = bool(read)
                *lines, text = (text + read).split("\n")
                for number in map(int, lines):
                    chosen = self._chosen(items, self.mutants[number])
                    seconds = sum(self.seconds[item.nodeid] for item in chosen)
                    pid = os.fork()
                    if not pid:
                        _try(chosen, *changed[number], self.seconds)
                    running[pid] = number, clock_limit(seconds)
            for pid, (number, until) in list(running.items()):
                done, status = os.waitpid(pid, os.WNOHANG)
                if not done and time.monotonic() > until:
                    os.killpg(pid, signal.SIGKILL)
                    done, status = os.waitpid(pid, 0)
                if done:
                    del running[pid]
                    self._reply(f"{number} {os.waitstatus_to_exitcode(status)}")

    def _chosen(self, items: Sequence[Any], mutant: Mutant) -> list[Any]:
        calling = []
        if mutant.function not in self.called[_SHARED]:
            calling = [item for item in items if mutant.function in self.called[item.nodeid]]
        # A function that no test calls here may be called in a process that a test starts.
        return sorted(calling or items, key=lambda item: self.seconds[item.nodeid])

    def _reply(self, line: str) -> None:
        rest = (line + "\n").encode()
        while rest:
            rest = rest[os.write(self.replies, rest) :]


def _try(
    items: Sequence[Any],
    functions: Sequence[FunctionType],
    code: CodeType,
    seconds: Mapping[str, float],
) -> None:
    """Run tests with a mutant in place, and end this process: 0 where they pass.

    seconds: how long each takes, by node id.
    """
    status = _BROKEN
    try:
        os.setpgid(0, 0)
        for function in functions:
            function.__code__ = code
        status = 1
        session = items[0].session
        session.config.pluginmanager.register(QuickestFirst(seconds))
        session._setupstate.teardown_exact(items[0])
        for _ in _run_in_turn(session, items, None):
            pass
        status = 1 if session.testsfailed else 0
    finally:
        os._exit(status)


def _run_in_turn(
    session: Any, items: Sequence[Any], last: Any | None
) -> Iterator[tuple[str, float]]:
    """Run tests up to the first that fails: each one's node id and processor time.

    last: what follows them, and for which fixtures stay that it shares with them.
    """
    for item, following in zip(items, [*items[1:], last], strict=True):
        begun = time.process_time()
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        yield item.nodeid, time.process_time() - begun
        if session.testsfailed:
            return


def _functions(module: CodeType) -> dict[int, CodeType]:
    """The code of functions and methods, not of those within functions, by first line."""
    found: dict[int, CodeType] = {}
    for constant in module.co_consts:
        if not isinstance(constant, CodeType) or constant.co_name.startswith("<"):
            continue
        if constant.co_flags & inspect.CO_OPTIMIZED:
            found[constant.co_firstlineno] = constant
        else:
            found |= _functions(constant)
    return found


def _in_use(file: str) -> dict[int, list[FunctionType]]:
    """The functions that were made from a file, by first line."""
    found: dict[int, list[FunctionType]] = defaultdict(list)
    for one in gc.get_objects():
        if isinstance(one, FunctionType) and one.__code__.co_filename == file:
            found[one.__code__.co_firstlineno].append(one)
    return found


def _forget_results(folder: Path) -> None:
    """Empty the caches (functools) of functions in a folder: a mutant might give other results."""
    for one in gc.get_objects():
        if isinstance(one, functools._lru_cache_wrapper):
            code = getattr(inspect.unwrap(one), "__code__", None)
            if code is not None and Path(code.co_filename).is_relative_to(folder):
                one.cache_clear()
