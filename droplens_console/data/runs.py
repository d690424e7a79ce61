"""Runs: their items, the logs of their trainings and the manifests of their datasets."""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from droplens.aws.errors import error_code
from droplens.domain import layout
from droplens.domain.errors import ObjectMissing
from droplens.domain.run import Run, RunKey, Stage
from droplens_cli.training_log import TrainingLog
from droplens_console.data.errors import NotFound
from droplens_console.stack import ConsoleStack

# A manifest of thousands of classes has 1 MB; its long lists are in files of their own.
MOST_MANIFEST = 16 * 1024 * 1024
_MOST_LOGS = 50
_DENIED = {"AccessDenied", "AccessDeniedException"}


@dataclass(frozen=True, slots=True)
class Training:
    """A training's progress, as `TrainingLog` has it at one time."""

    done: int | None = None
    total: int | None = None
    said: str = ""
    epochs: Mapping[int, Mapping[str, float]] = field(default_factory=dict)


class RunReader:
    """Reads runs of the stack; safe for threads."""

    def __init__(self, stack: ConsoleStack) -> None:
        self._stack = stack
        self._logs: dict[str, TrainingLog] = {}
        self._lock = threading.Lock()

    def get(self, key: RunKey) -> Run:
        """The run. Raises NotFound."""
        run = self._stack.runs.get(key)
        if run is None:
            raise NotFound(f"there is no run {key.run_id} of {key.classifier}")
        return run

    def of(self, classifier: str) -> list[Run]:
        """The runs of a classifier, the newest first."""
        return self._stack.runs.of(classifier)[::-1]

    def training(self, run: Run) -> Training | None:
        """The progress of the run's training, from its log; None before it has a job, and for users
        who may not read logs, as reviewers."""
        if not run.training_job or f"claim_{Stage.TRAIN}" not in run.record:
            return None
        with self._lock:  # a log is read from where the last read ended, by one thread
            log = self._logs.get(run.training_job)
            if log is None:
                log = TrainingLog(self._stack.client("logs"), run.training_job)
                self._logs[run.training_job] = log
                if len(self._logs) > _MOST_LOGS:
                    del self._logs[next(iter(self._logs))]
            try:
                log.look()
            except ClientError as error:
                if error_code(error) in _DENIED:
                    return None
                raise
            epochs = {epoch: dict(shares) for epoch, shares in log.epochs.items()}
            return Training(log.done, log.total, log.said, epochs)

    def manifest(self, run: Run) -> Mapping[str, Any] | None:
        """dataset.json of the run; None before it is packed, and where it is too large to show."""
        key = f"{layout.packed_prefix(run.key.classifier, run.key.run_id)}dataset.json"
        try:
            body, _ = self._stack.bucket.read_at_most(key, MOST_MANIFEST)
        except ObjectMissing:
            return None
        return None if body is None else dict(json.loads(body))
