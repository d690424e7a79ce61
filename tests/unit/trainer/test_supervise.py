"""What is said of a training whose process the kernel has killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import needs
from tests.support.repository import ROOT

pytestmark = needs.only_with("linux", sys.platform == "linux", "elsewhere nothing is supervised")
PROGRAM = """
import os, signal, sys, time
from trainer.supervise import supervised

def work():
    how = sys.argv[1]
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "waiting":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        print(os.getpid(), flush=True)
        if signal.sigtimedwait([signal.SIGTERM], 60):
            sys.exit(143)
    return int(how)

sys.exit(supervised(work, lambda: print("for memory")))
"""


def start(how: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, how], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    ("how", "code", "said"), [("0", 0, ""), ("1", 1, ""), ("killed", 137, "for memory\n")]
)
def test_the_exit_code_is_the_work_s_own(how: str, code: int, said: str) -> None:
    with start(how) as process:
        assert process.communicate(timeout=60)[0] == said
    assert process.returncode == code


def test_a_signal_is_passed_on() -> None:
    with start("waiting") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        assert process.wait(60) == 143


def test_a_signal_that_comes_while_the_process_forks_is_passed_on() -> None:
    """Sent before `fork` has returned to the parent."""
    program = PROGRAM.replace(
        "from trainer.supervise import supervised",
        "from trainer.supervise import supervised\n"
        "fork = os.fork\n"
        "def slow():\n"
        "    child = fork()\n"
        "    if child:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(0.1)\n"
        "    else:\n"
        "        signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
        "    return child\n"
        "os.fork = slow",
    )
    with subprocess.Popen([sys.executable, "-c", program, "waiting"], cwd=ROOT) as process:
        assert process.wait(30) == 128 + signal.SIGTERM


def test_the_work_ends_with_whoever_watches_it() -> None:
    with start("waiting") as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        assert worker != process.pid
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        end = time.monotonic() + 30
        while _runs(worker) and time.monotonic() < end:
            time.sleep(0.02)
        assert not _runs(worker)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
