"""A supervising process that reports when the training process was killed.

When memory runs out, the kernel ends the process that uses most of it by SIGKILL, which cannot be
handled: without a supervisor, output/failure is empty and SageMaker shows an exit code only.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>

OUT_OF_MEMORY = (
    "Training ran out of memory ({detail}): give it an instance with more, by the stack's "
    "parameter TrainingInstanceType."
)


def supervised(work: Callable[[], int], killed: Callable[[], None]) -> int:
    """Call `work` in a child process. Returns its exit code, or 128 plus the signal's number.

    killed: called if SIGKILL ended the child. SIGTERM and SIGINT are forwarded to it. This process
    must not have threads. On other systems than Linux `work` is called in this process.
    """
    if sys.platform != "linux":
        return work()
    # Blocked, they stay pending until they are waited for: a handler in Python would run late for
    # one that comes between the fork and its result, or just before this process waits.
    awaited = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    worker = os.fork()
    if not worker:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # end with the parent
        return work()
    code = _forward_until_ended(worker, awaited)
    if code == -signal.SIGKILL:
        killed()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return code if code >= 0 else 128 - code


def _forward_until_ended(worker: int, awaited: set[signal.Signals]) -> int:
    """Forward signals to the process. Returns its exit code, or the negative of its signal."""
    while True:
        if (number := signal.sigwait(awaited)) != signal.SIGCHLD:
            os.kill(worker, number)
            continue
        # One SIGCHLD may stand for several; PID 1 of a container also reaps orphans.
        ended = -1
        while ended:
            ended, status = os.waitpid(-1, os.WNOHANG)
            if ended == worker:
                return os.waitstatus_to_exitcode(status)


def end_with_parent() -> None:
    """End this process of `multiprocessing` when its parent ends; else it would wait forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
