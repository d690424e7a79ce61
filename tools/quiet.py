"""Runs a command with its output in a log, and prints the end of the log where it fails.

    python -m tools.quiet TITLE --log FILE [--cwd FOLDER] [--show PATTERN] -- COMMAND ...

A line says what is done and where the log is, another that it is done, with the lines of the log
in which PATTERN is found. On a terminal the log's newest line is shown meanwhile. The exit code is
the command's. Runs on the standard library alone.
"""

import argparse
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

POLL = 0.2
TAIL_LINES = 40  # of a failed command's log; a table of CloudFormation's events takes as many
# Control sequences of the cursor and of colours.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


def newest_line(log: Path) -> str:
    """The last line with a letter or digit, or "". Reads the last 4 KiB of the log."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        text = file.read().decode(errors="replace")
    lines = (_CONTROL.sub("", line).strip() for line in reversed(text.splitlines()))
    return next((line for line in lines if any(map(str.isalnum, line))), "")


def run(
    title: str, command: Sequence[str], log: Path, *, cwd: Path | None, show: str | None
) -> int:
    """Run it; returns its exit code. show: pattern of the lines to print at its end."""
    terminal = sys.stdout.isatty()
    clear = "\r\033[K" if terminal else ""
    print(f"{title}; log: {log}", flush=True)
    started = time.monotonic()
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            while process.poll() is None:
                time.sleep(POLL)
                if terminal:
                    width = shutil.get_terminal_size().columns - 5
                    print(f"{clear}  {newest_line(log)[:width]}", end="", flush=True)
        except KeyboardInterrupt:  # the command has it too, from the terminal
            process.wait()
            print(f"{clear}stopped; what it said is in {log}", file=sys.stderr)
            return 130
    lines = [_CONTROL.sub("", line) for line in log.read_text(errors="replace").splitlines()]
    if process.returncode:
        print(clear, end="", flush=True)
        print("\n".join(f"  {line}" for line in lines[-TAIL_LINES:]), file=sys.stderr)
        print(
            f"`{' '.join(command[:2])}` failed with exit code {process.returncode}; above is the "
            f"end of what it said, all of it is in {log}",
            file=sys.stderr,
        )
        return process.returncode if process.returncode > 0 else 128 - process.returncode
    shown = "".join(f". {line.strip()}" for line in lines if show and re.search(show, line.strip()))
    print(f"{clear}  done after {time.monotonic() - started:.0f} s{shown}", flush=True)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, and run."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    at = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(prog="python -m tools.quiet", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("title")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--cwd", type=Path)
    parser.add_argument("--show", metavar="PATTERN")
    options = parser.parse_args(words[:at])
    command = words[at + 1 :]
    if not command:
        parser.error("no command after --")
    return run(options.title, command, options.log, cwd=options.cwd, show=options.show)


if __name__ == "__main__":
    raise SystemExit(main())
