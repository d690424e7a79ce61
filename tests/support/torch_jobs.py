"""Jobs that need PyTorch, run by tests/integration/torch_jobs.py in its environment."""

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from tests.support.repository import ROOT
from tests.support.trainer import environment


@dataclass(frozen=True, slots=True)
class Job:
    """A module to run, by default a training job's entry point. base: SageMaker's folder of it."""

    base: Path
    module: str = "trainer"
    arguments: tuple[str, ...] = ("train",)
    variables: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Running:
    """A job that was started. output: what it writes, as it writes it."""

    process: int
    output: TextIO

    def kill(self) -> None:
        """End it, if it has not ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process, signal.SIGKILL)


class TorchJobs:
    """Runs jobs by processes forked from one that has PyTorch in memory."""

    def __init__(self, python: str, folder: Path) -> None:
        self._folder = folder
        self._fifos = 0
        variables = {"OMP_WAIT_POLICY": "passive", "OPENBLAS_NUM_THREADS": "1"}
        self._runner = subprocess.Popen(
            [python, str(ROOT / "tests/integration/torch_jobs.py")],
            env=environment(folder, folder, HF_HUB_DISABLE_TELEMETRY="1", **variables),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @contextlib.contextmanager
    def running(self, *jobs: Job) -> Iterator[tuple[list[Running], list[int]]]:
        """Jobs at the same time, and a list that has their exit codes after the context.

        What has not ended by then is killed if the context raises, else waited for.
        """
        assert self._runner.stdin is not None
        orders, fifos = [], []
        for job in jobs:
            self._fifos += 1
            fifos.append(self._folder / f"output-{self._fifos}")
            os.mkfifo(fifos[-1])
            orders.append(self._order(job, fifos[-1]))
        self._runner.stdin.write(json.dumps(orders) + "\n")
        self._runner.stdin.flush()
        codes: list[int] = []
        with contextlib.ExitStack() as stack:
            outputs = [stack.enter_context(fifo.open(encoding="utf-8")) for fifo in fifos]
            started = [Running(*each) for each in zip(self._answer(), outputs, strict=True)]
            try:
                yield started, codes
            except BaseException:
                for each in started:
                    each.kill()
                raise
            finally:
                for each in started:
                    each.output.read()
                codes += self._answer()

    def run(
        self, base: Path, moment: str = "", sent: signal.Signals = signal.SIGTERM, **further: str
    ) -> tuple[int, str]:
        """Exit code and output of a training job, which gets the signal once it says `moment`."""
        said = []
        with self.running(Job(base, variables=further)) as ([job], codes):
            for line in job.output:
                said.append(line)
                if moment and re.search(moment, line):
                    os.kill(job.process, sent)
                    moment = ""
        return codes[0], "".join(said)

    def call(self, base: Path, module: str, *arguments: str, **further: str) -> tuple[int, str]:
        """Exit code and output of a module of tests/integration."""
        job = Job(base, f"tests.integration.{module}", arguments, further)
        with self.running(job) as ([started], codes):
            said = started.output.read()
        return codes[0], said

    def end(self) -> None:
        """No more jobs."""
        self._runner.communicate(timeout=60)

    def _answer(self) -> list[int]:
        assert self._runner.stdout is not None
        return list(json.loads(self._runner.stdout.readline()))

    @staticmethod
    def _order(job: Job, output: Path) -> dict[str, Any]:
        weights = Path(job.variables.get("DROPLENS_WEIGHTS", job.base))
        return {
            "module": job.module,
            "arguments": job.arguments,
            "environment": environment(job.base, weights, **job.variables),
            "output": str(output),
        }
