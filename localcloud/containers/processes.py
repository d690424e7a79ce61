"""Runs a container's entry point as a process of this machine."""

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
    """In a child, before exec: have the kernel send `with_signal` when the parent ends (Linux).

    The kernel means the thread that forked, not its process: that thread has to wait for the child.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, with_signal, 0, 0, 0)


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent dies (Linux)."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children_of(pid: int) -> list[int]:
    """The living direct children of a process (Linux; elsewhere an empty list)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # it has ended meanwhile
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
    """One process in a session of its own; everything that it starts ends with it.

    `run` starts it, calls `on_line` with each line of output (stdout and stderr together) from
    another thread, and returns when it has ended. `stop` may be called from any thread.
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
        self._stop_requested = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def run(self, timeout: float | None = None) -> Exit:
        """Raises OSError if the command cannot be started at all."""
        with self._lock:
            if self._stop_requested.is_set():
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
        reader = threading.Thread(target=self._read_output, args=(process,), daemon=True)
        reader.start()
        timed_out = False
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            timed_out = True
            self._end(process, self._stop_grace)
        # What the container started in its session ends with it.
        _signal_group(process.pid, signal.SIGKILL)
        reader.join(timeout=5)
        code = process.returncode
        code = 128 - code if code < 0 else code
        return Exit(code, timed_out=timed_out, stopped=self._stop_requested.is_set())

    def stop(self, grace: float | None = None) -> None:
        """SIGTERM now, SIGKILL after `grace` seconds; returns when the process has ended."""
        with self._lock:
            self._stop_requested.set()
            process = self._process
        if process is not None:
            self._end(process, self._stop_grace if grace is None else grace)

    def kill(self) -> None:
        """SIGKILL without a stop request, as when the kernel runs out of memory."""
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

    def _read_output(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout as output:
            while line := output.readline(MAX_LINE):
                self._on_line(line.rstrip("\r\n"))


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # the whole group has ended
        os.killpg(group, number)


def kill_descendants(deadline: float = 5.0) -> None:
    """SIGKILL and reap everything that this process has adopted or started (Linux)."""
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
                continue  # reaped elsewhere, for example by subprocess
