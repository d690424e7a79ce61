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
from types import FrameType

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
    worker = 0

    def forward(signum: int, _: FrameType | None) -> None:
        if worker:
            os.kill(worker, signum)

    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    # A signal that comes between the fork and its result would be forwarded to nobody.
    signal.pthread_sigmask(signal.SIG_BLOCK, before)
    worker = os.fork()
    if not worker:
        for number, handler in before.items():
            signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, before)
    if not worker:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # end with the parent
        return work()
    ended = 0
    while ended != worker:  # PID 1 of a container also reaps orphans
        ended, status = os.wait()
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGKILL:
        killed()
    return code if code >= 0 else 128 - code


def end_with_parent() -> None:
    """End this process of `multiprocessing` when its parent ends; else it would wait forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
