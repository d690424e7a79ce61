"""A container's entry point as a process: started, watched line by line, stopped for good."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Loaded before any fork: between fork and exec only what is already in memory may be used.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
MAX_LINE = 64 * 1024


def die_with_parent(with_signal: int = signal.SIGKILL) -> None:
    """In a child, before exec: be sent `with_signal` when the thread that forked ends (Linux).

    The kernel watches the forking thread, not the process, so whoever starts a process with this
    has to wait for it in the same thread.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, with_signal, 0, 0, 0)


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent dies (Linux)."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children_of(pid: int) -> list[int]:
    """The living direct children of a process (Linux; elsewhere none are known)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # it ended while we looked
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(entry.parent.name))
    return found


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended. `code` is as Docker gives it: 128 + n after signal n."""

    code: int
    timed_out: bool = False
    stopped: bool = False


class ContainerProcess:
    """One process in a session of its own; everything it starts ends with it.

    `run` starts it, hands every line of output (stdout and stderr together) to `on_line` from
    another thread as it comes, and returns when it has ended. `stop` may be called from any thread.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        environment: Mapping[str, str],
        on_line: Callable[[str], None],
        stop_grace: float = 10.0,
    ):
        self._command, self._cwd, self._environment = list(command), cwd, dict(environment)
        self._on_line = on_line
        self._stop_grace = stop_grace
        self._stop_asked = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def run(self, timeout: float | None = None) -> Exit:
        """Raises OSError if the command cannot be started at all."""
        with self._lock:
            if self._stop_asked.is_set():
                return Exit(143, stopped=True)
            process = self._process = subprocess.Popen(
                self._command,
                cwd=self._cwd,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        pump = threading.Thread(target=self._pump, args=(process,), daemon=True)
        pump.start()
        timed_out = False
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            timed_out = True
            self._end(process, self._stop_grace)
        # Anything that the container left running in its session goes with it.
        _signal_group(process.pid, signal.SIGKILL)
        pump.join(timeout=5)
        code = process.returncode
        code = 128 - code if code < 0 else code
        return Exit(code, timed_out=timed_out, stopped=self._stop_asked.is_set())

    def stop(self, grace: float | None = None) -> None:
        """SIGTERM now, SIGKILL after the grace period; returns when the process is gone."""
        with self._lock:
            self._stop_asked.set()
            process = self._process
        if process is not None:
            self._end(process, self._stop_grace if grace is None else grace)

    def kill(self) -> None:
        """SIGKILL, as when the kernel runs out of memory: nobody asked it to stop."""
        with self._lock:
            process = self._process
        if process is not None and process.poll() is None:
            _signal_group(process.pid, signal.SIGKILL)

    @staticmethod
    def _end(process: "subprocess.Popen[str]", grace: float) -> None:
        _signal_group(process.pid, signal.SIGTERM)
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            _signal_group(process.pid, signal.SIGKILL)
            process.wait()

    def _pump(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout as output:
            while line := output.readline(MAX_LINE):
                self._on_line(line.rstrip("\r\n"))


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # the whole group is already gone
        os.killpg(group, number)


def kill_descendants(deadline: float = 5.0) -> None:
    """SIGKILL everything this process has adopted or started, and collect it (Linux)."""
    until = time.monotonic() + deadline
    while (pids := children_of(os.getpid())) and time.monotonic() < until:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for pid in pids:
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                continue  # collected elsewhere, for example by subprocess
