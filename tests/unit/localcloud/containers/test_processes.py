"""Containers as processes: watched while they run, and never left over."""

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from localcloud.containers.processes import ContainerProcess, Exit
from tests.support import needs

LINUX = needs.only_with("linux", sys.platform == "linux", "reads /proc")


def container(script: str, lines: list[str], grace: float = 5.0) -> ContainerProcess:
    return ContainerProcess(
        [sys.executable, "-u", "-c", script],
        cwd=Path(),
        environment={"PATH": os.environ["PATH"], "ONLY": "this"},
        on_line=lines.append,
        stop_grace=grace,
    )


def test_its_output_comes_line_by_line_and_its_exit_code_at_the_end() -> None:
    lines: list[str] = []
    script = "import os, sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    ended = container(script, lines).run()
    assert sorted(lines) == ["err", "out"]
    assert (ended.code, ended.timed_out, ended.stopped) == (3, False, False)


def test_it_sees_only_the_environment_it_is_given() -> None:
    lines: list[str] = []
    container("import os; print(sorted(set(os.environ) - {'LC_CTYPE'}))", lines).run()
    assert lines == ["['ONLY', 'PATH']"]


def test_a_line_without_end_is_brought_in_pieces() -> None:
    lines: list[str] = []
    container("import sys; sys.stdout.write('x' * 200_000)", lines).run()
    assert "".join(lines) == "x" * 200_000
    assert len(lines) > 1


def test_bytes_that_are_no_text_do_not_stop_it() -> None:
    lines: list[str] = []
    script = r"import sys; sys.stdout.buffer.write(b'\xff\xfe\n'); print('after')"
    assert container(script, lines).run().code == 0
    assert lines[-1] == "after"


def test_past_its_time_it_is_ended() -> None:
    ended = container("import time; time.sleep(60)", []).run(timeout=0.3)
    assert ended.timed_out
    assert ended.code == 143  # 128 + SIGTERM


def stop_after_first_line(script: str, grace: float) -> tuple[Exit, list[str]]:
    """Run a script and stop it, from another thread, once it has said something."""
    lines: list[str] = []
    ready = threading.Event()

    def on_line(line: str) -> None:
        lines.append(line)
        ready.set()

    def stop() -> None:
        ready.wait()
        process.stop()

    process = ContainerProcess(
        [sys.executable, "-u", "-c", f"import signal, sys, time; {script}; time.sleep(60)"],
        cwd=Path(),
        environment={},
        on_line=on_line,
        stop_grace=grace,
    )
    stopper = threading.Thread(target=stop)
    stopper.start()
    ended = process.run()
    stopper.join()
    return ended, lines


def test_what_ignores_the_gentle_signal_gets_the_other() -> None:
    script = "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf')"
    ended, lines = stop_after_first_line(script, grace=0.2)
    assert lines == ["deaf"]
    assert ended.code == 137  # 128 + SIGKILL


def test_it_can_be_stopped_from_another_thread_and_may_tidy_up() -> None:
    tidy = "signal.signal(signal.SIGTERM, lambda *_: (print('saved'), sys.exit(0)))"
    ended, lines = stop_after_first_line(f"{tidy}; print('ready')", grace=30)
    assert ended.stopped
    assert lines == ["ready", "saved"]


def test_one_that_is_stopped_before_it_starts_never_starts() -> None:
    lines: list[str] = []
    process = container("print('started')", lines)
    process.stop()
    assert process.run().stopped
    assert lines == []


@LINUX
def test_what_it_leaves_running_is_ended_with_it() -> None:
    lines: list[str] = []
    script = (
        "import subprocess, sys; "
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
        "print(child.pid)"
    )
    assert container(script, lines).run().code == 0
    until = time.monotonic() + 30
    while is_running(lines[0]):  # the kernel takes its time to carry out a signal
        assert time.monotonic() < until
        time.sleep(0.01)


def is_running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_command_that_does_not_exist_is_an_error() -> None:
    process = ContainerProcess(
        ["no-such-command"], cwd=Path(), environment={"PATH": "/nowhere"}, on_line=print
    )
    with pytest.raises(FileNotFoundError):
        process.run()
