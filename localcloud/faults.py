"""Fault injection: `python -m localcloud faults --help`.

The command writes the requested faults to a file that the running server reads, so that they begin
and end while the cloud is up. A server injects none when it starts.
"""

import json
import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from enum import Enum
from pathlib import Path

from localcloud.settings import LocalCloudError

log = logging.getLogger("localcloud")

_POLL_SECONDS = 0.1


class InvokeFault(Enum):
    """The error that InvokeEndpoint returns in place of the container's response."""

    THROTTLED = "ThrottlingException, 429"
    FAILED = "ModelError, as after a 500 of the container"


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The faults that are injected; none by default.

    throttle, fail: shares of all InvokeEndpoint calls, in [0, 1], together at most 1.
    kill_workers, kill_endpoints: mean seconds from one SIGKILL of a busy Lambda worker, or of an
        endpoint's process, to the next; 0: none is killed.
    system_updates: mean seconds from one SystemUpdating of an endpoint in service to the next.
    no_capacity: share of training jobs and of real-time endpoints that find no instances.
    propagation: seconds for which a new model or endpoint configuration cannot be read.
    iam_delay: seconds until a change of a role or its policies takes effect.
    """

    throttle: float = 0.0
    fail: float = 0.0
    kill_workers: float = 0.0
    kill_endpoints: float = 0.0
    system_updates: float = 0.0
    no_capacity: float = 0.0
    propagation: float = 0.0
    iam_delay: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise LocalCloudError(f"{field.name} must not be negative")
        if self.throttle + self.fail > 1:
            raise LocalCloudError("throttle and fail are shares: together they are at most 1")
        if self.no_capacity > 1:
            raise LocalCloudError("no-capacity is a share: it is at most 1")

    def store(self, file: Path) -> None:
        """Request these faults, in place of earlier ones, from the server that reads `file`."""
        temporary = file.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(self)), encoding="utf-8")
        temporary.replace(file)

    @classmethod
    def stored(cls, file: Path) -> "Faults":
        """The faults requested last; none where there is no file."""
        try:
            return cls(**json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return cls()


class FaultInjector:
    """Injects the faults that a file requests, for each call that asks for them; those at random
    times, from a background thread."""

    def __init__(self, file: Path) -> None:
        file.unlink(missing_ok=True)
        self._file = file
        self._chance = random.Random()

    def start(
        self,
        kill_worker: Callable[[random.Random], bool],
        kill_endpoint: Callable[[random.Random], bool],
        update_endpoint: Callable[[random.Random], bool],
    ) -> None:
        """Start to poll the file. Each function picks one at random and acts on it; it returns
        False where there was none."""
        actions = {
            "kill_workers": kill_worker,
            "kill_endpoints": kill_endpoint,
            "system_updates": update_endpoint,
        }
        threading.Thread(target=self._poll, args=(actions,), name="faults", daemon=True).start()

    def invoke_fault(self) -> InvokeFault | None:
        """The fault of one InvokeEndpoint call; None: it reaches the container."""
        active, drawn = self.active, self._chance.random()
        if drawn < active.throttle:
            return InvokeFault.THROTTLED
        return InvokeFault.FAILED if drawn < active.throttle + active.fail else None

    @property
    def active(self) -> Faults:
        """The requested faults. Read each time, so that a request has effect at once."""
        return Faults.stored(self._file)

    def lacks_capacity(self) -> bool:
        """Whether the instances that are requested next are unavailable."""
        return self._chance.random() < self.active.no_capacity

    def _poll(self, actions: dict[str, Callable[[random.Random], bool]]) -> None:
        logged = Faults()
        while True:
            time.sleep(_POLL_SECONDS)
            requested = self.active
            if requested != logged:
                log.warning("fault injection: %s", requested)
                logged = requested
            for name, act in actions.items():
                mean_seconds = getattr(requested, name)
                if (
                    mean_seconds
                    and self._chance.random() < _POLL_SECONDS / mean_seconds
                    and act(self._chance)
                ):
                    log.warning("fault injection: %s", name)
