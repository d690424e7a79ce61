"""A process that outlives the one that trains, to say why that one was killed.

The kernel kills the process that has taken most of the memory, by a signal that it cannot answer:
SageMaker then shows no more than an exit code, and output/failure is empty.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>

OUT_OF_MEMORY = (
    "Training ran out of memory ({detail}): give it an instance with more, by the stack's "
    "parameter TrainingInstanceType."
)


def supervised(work: Callable[[], int], killed: Callable[[], None]) -> int:
    """Call `work` in a process of its own and return its exit code, 128 and the signal's number.

    killed: called if SIGKILL ended it. SIGTERM and SIGINT are passed on. Only for a process that
    has no threads yet. Elsewhere than on Linux `work` is called right here.
    """
    if sys.platform != "linux":
        return work()
    worker = 0

    def pass_on(signum: int, _: FrameType | None) -> None:
        if worker:
            os.kill(worker, signum)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    worker = os.fork()
    if not worker:
        for number, handler in before.items():
            signal.signal(number, handler)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody trains on unwatched
        return work()
    ended = 0
    while ended != worker:  # the first process of a container inherits others' children
        ended, status = os.wait()
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGKILL:
        killed()
    return code if code >= 0 else 128 - code
