"""Use of this machine's CPU cores, without threads that spin while idle."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnxruntime

ERRORS = 3  # ONNX Runtime's number for logging no warnings


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux only
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def open_session(model: Path, threads: int) -> "onnxruntime.InferenceSession":
    """An ONNX Runtime session on the CPU whose idle threads do not spin."""
    import onnxruntime  # not above: a process that only decodes images starts without it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A graph's input EXPLAIN has a default, of which it warns at every start.
    options.log_severity_level = ERRORS
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        os.fspath(model), options, providers=["CPUExecutionProvider"]
    )
