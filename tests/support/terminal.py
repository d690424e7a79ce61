"""A command run in a pseudo-terminal, with answers to its questions."""

import os
import pty
import select
import subprocess
import time
from pathlib import Path

PATIENCE = 420  # seconds


def in_a_terminal(
    command: list[str], cwd: Path, environment: dict[str, str], answers: dict[str, str]
) -> tuple[int, str]:
    """Run it in a pseudo-terminal; each question of `answers` is answered once it is seen.

    Returns the exit code and all that the terminal showed.
    """
    master, slave = pty.openpty()
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    seen, answered, waiting = "", 0, dict(answers)
    until = time.monotonic() + PATIENCE
    try:
        while time.monotonic() < until:
            if select.select([master], [], [], 0.2)[0]:
                try:
                    read = os.read(master, 65536)
                except OSError:  # Linux says so where the last process has closed the terminal
                    break
                seen += read.decode(errors="replace")
            for question in [question for question in waiting if question in seen[answered:]]:
                answered = seen.index(question, answered) + len(question)
                os.write(master, waiting.pop(question).encode() + b"\n")
        process.wait(timeout=30)
    finally:
        if process.poll() is None:
            process.kill()
        os.close(master)
    assert not waiting, f"never asked: {list(waiting)}\n{seen}"
    return process.returncode, seen
