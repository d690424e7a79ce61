"""What a command cost: time, CPU time and memory, of all the processes that it started."""

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

_SECONDS_BETWEEN_LOOKS = 0.05
# Who is to be looked at is found out less often: with threads by the dozen it takes milliseconds
# of a core that the command could have had.
_LOOKS_AT_THE_SAME = 10
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Cost:
    """seconds: by the clock; cpu_seconds: user and system; peak_rss_mb: in MB of 10^6 bytes, the
    largest sum of resident memory over the processes that ran at the same time."""

    seconds: float
    cpu_seconds: float
    peak_rss_mb: float


def run(command: list[str], environment: dict[str, str], log: Path, cwd: Path) -> Cost:
    """Run a command to its end. Raises RuntimeError with its last words where it fails."""
    started = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=cwd,
            start_new_session=True,
        )
    peak = _Peak(process.pid)
    try:
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        if process.returncode is None:  # we are being ended, and so is all that it has started
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        pages = peak.stop()
    if process.returncode:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise RuntimeError(f"{' '.join(command)} failed with {process.returncode}:\n{last}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, pages * _PAGE / 1e6)


class _Peak:
    """Adds up the memory of a process and its descendants, again and again."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._pages = 0
        self._ended = Event()
        self._thread = Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> int:
        """The most pages that were in memory at one look."""
        self._ended.set()
        self._thread.join()
        return self._pages

    def _watch(self) -> None:
        looks = 0
        pids: list[int] = []
        while not self._ended.wait(_SECONDS_BETWEEN_LOOKS):
            if looks % _LOOKS_AT_THE_SAME == 0:
                pids = _tree(self._pid)
            looks += 1
            self._pages = max(self._pages, sum(map(_resident, pids)))


def _tree(pid: int) -> list[int]:
    pids, found = [pid], []
    while pids:
        found.append(pid := pids.pop())
        try:
            tasks = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208  a third of the time
        except FileNotFoundError:
            continue  # it has just ended
        for task in tasks:
            pids += map(int, _read(f"/proc/{pid}/task/{task}/children").split())
    return found


def _resident(pid: int) -> int:
    return int((_read(f"/proc/{pid}/statm") or "0 0").split()[1])


def _read(path: str) -> str:
    """The content of a process's file; empty for a process that has just ended."""
    try:
        with open(path, encoding="ascii") as file:  # noqa: PTH123  a third of the time
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""
