"""Trouble on demand, to see what the functions bear: `python -m localcloud trouble --help`.

What is asked for stands in a file that the running server looks at, so trouble can begin and end
while the cloud is up; a cloud that starts has none.
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

_LOOK_SECONDS = 0.1


class Answer(Enum):
    """What InvokeEndpoint says in place of the container."""

    THROTTLED = "ThrottlingException, 429"
    FAILED = "ModelError, the container having answered 500"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What happens to a calm cloud. Nothing, by default.

    throttle, fail: shares of all InvokeEndpoint calls, in [0, 1], together at most 1.
    kill_workers, kill_endpoints: mean seconds from one SIGKILL of a Lambda worker at work, or of
        an endpoint's process, to the next; 0: none is killed.
    system_updates: mean seconds from one SystemUpdating of an endpoint in service to the next.
    no_capacity: share of training jobs and of real-time endpoints that find no instances.
    propagation: seconds for which a new model or endpoint configuration cannot be read.
    iam_delay: seconds until a change to a role or its policies is known.
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
        """Ask the server whose file this is for this trouble, in place of any before."""
        temporary = file.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(self)), encoding="utf-8")
        temporary.replace(file)

    @classmethod
    def stored(cls, file: Path) -> "Trouble":
        """What was asked for last."""
        try:
            return cls(**json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return cls()


class Troublemaker:
    """Makes the trouble that a file asks for, from a thread of its own."""

    def __init__(self, file: Path) -> None:
        file.unlink(missing_ok=True)
        self._file = file
        self._chance = random.Random()
        self._now = Trouble()

    def start(
        self,
        kill_worker: Callable[[random.Random], bool],
        kill_endpoint: Callable[[random.Random], bool],
        update_endpoint: Callable[[random.Random], bool],
    ) -> None:
        """Begin to look at the file. Each picks one and says whether there was any."""
        killers = {
            "kill_workers": kill_worker,
            "kill_endpoints": kill_endpoint,
            "system_updates": update_endpoint,
        }
        threading.Thread(target=self._make, args=(killers,), name="trouble", daemon=True).start()

    def answer(self) -> Answer | None:
        """How one InvokeEndpoint call is answered without the container; None: it is let pass."""
        now, dice = self._now, self._chance.random()
        if dice < now.throttle:
            return Answer.THROTTLED
        return Answer.FAILED if dice < now.throttle + now.fail else None

    @property
    def now(self) -> Trouble:
        """What is made at this moment."""
        return self._now

    def finds_no_capacity(self) -> bool:
        """Whether the next instances that are asked for are not to be had."""
        return self._chance.random() < self._now.no_capacity

    def _make(self, killers: dict[str, Callable[[random.Random], bool]]) -> None:
        while True:
            time.sleep(_LOOK_SECONDS)
            asked = Trouble.stored(self._file)
            if asked != self._now:
                log.warning("trouble: %s", asked)
                self._now = asked
            for name, kill in killers.items():
                seconds = getattr(asked, name)
                if (
                    seconds
                    and self._chance.random() < _LOOK_SECONDS / seconds
                    and kill(self._chance)
                ):
                    log.warning("trouble: %s", name)
