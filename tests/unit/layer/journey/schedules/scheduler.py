"""Schedules of tasks that run one at a time and may change places before each call of a service.

A schedule is a default with exceptions. By default the running task goes on until it ends, and then
the oldest that is left begins; a delay names a decision and the task that is to have the next turn
there. All schedules of at most so many delays are enumerated: M. Emmi, S. Qadeer, Z. Rakamarić,
"Delay-bounded scheduling" (POPL 2011). Most errors of concurrency need very few.
"""

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Chooser = Callable[[int, list[int]], int]
PATIENCE_SECONDS = 60


@dataclass(eq=False)
class Task:
    """Something that runs in a thread of its own, whenever it has the turn."""

    name: str
    work: Callable[[], None]
    turn: threading.Lock = field(default_factory=threading.Lock)
    over: bool = False


class Scheduler:
    """Runs tasks by a chooser, which is given the decision's number and the tasks that can go on,
    the default first, and returns the place of the one that does."""

    def __init__(self, choose: Chooser) -> None:
        self.choose = choose
        self.tasks: list[Task] = []
        self.widths: list[int] = []
        self.trace: list[str] = []
        self.errors: list[tuple[str, BaseException]] = []
        self._running: Task | None = None
        self._idents: dict[int, Task] = {}
        self._done = threading.Lock()

    @property
    def current(self) -> Task | None:
        """The task that asks, or None for whoever is none."""
        return self._idents.get(threading.get_ident())

    def spawn(self, name: str, work: Callable[[], None]) -> None:
        """Add a task, which may begin at any later decision."""
        task = Task(name, work)
        task.turn.acquire()
        self.tasks.append(task)

    def run(self) -> None:
        """Run until every task has ended."""
        self._done.acquire()
        self._begin(self._next(None))
        if not self._done.acquire(timeout=PATIENCE_SECONDS):
            raise TimeoutError(f"a schedule came to a stand: {self.trace}")

    def pause(self, what: str) -> None:
        """Called by a task before each call of a service: another one may have its turn first.

        Threads that a task has begun are not interrupted, nor is whoever is no task.
        """
        task = self.current
        if task is None:
            return
        if (following := self._next(task)) is not task:
            assert following is not None
            self._hand_over(following)
            task.turn.acquire()
            self._running = task
        self.trace.append(f"{task.name}: {what}")

    def _next(self, running: Task | None) -> Task | None:
        able = [task for task in self.tasks if not task.over and task is not running]
        if running is not None and not running.over:
            able.insert(0, running)
        if not able:
            return None
        place = self.choose(len(self.widths), list(range(len(able))))
        self.widths.append(len(able))
        return able[place]

    def _begin(self, task: Task | None) -> None:
        if task is None:
            self._done.release()
        else:
            self._hand_over(task)

    def _hand_over(self, task: Task) -> None:
        if task not in self._idents.values():
            thread = threading.Thread(target=self._live, args=(task,), daemon=True)
            thread.start()
            assert thread.ident is not None
            self._idents[thread.ident] = task
        task.turn.release()

    def _live(self, task: Task) -> None:
        task.turn.acquire()
        try:
            task.work()
        except BaseException as error:  # noqa: BLE001
            self.errors.append((task.name, error))
        finally:
            task.over = True
            # Its number may be the next thread's.
            del self._idents[threading.get_ident()]
            self.tasks.remove(task)
            self._begin(self._next(None))


class Delays:
    """The default schedule but for some decisions, each given the place of who has the turn."""

    def __init__(self, delays: Mapping[int, int]) -> None:
        self.delays = delays

    def __call__(self, decision: int, _: list[int]) -> int:
        return self.delays.get(decision, 0)


class Drawn:
    """A schedule drawn by its seed, which changes the task at so large a share of decisions."""

    def __init__(self, seed: int, share: float = 0.15) -> None:
        self.draw = random.Random(seed)
        self.share = share

    def __call__(self, _: int, able: list[int]) -> int:
        return self.draw.choice(able) if self.draw.random() < self.share else 0


def enumerated(
    run: Callable[[Chooser], Scheduler], most_delays: int
) -> Iterator[tuple[Mapping[int, int], Scheduler]]:
    """Run every schedule of at most so many delays; yields each with what became of it."""
    waiting: list[dict[int, int]] = [{}]
    while waiting:
        delays = waiting.pop()
        over = run(Delays(delays))
        yield delays, over
        if len(delays) == most_delays:
            continue
        first = max(delays, default=-1) + 1
        for decision in range(first, len(over.widths)):
            waiting += [{**delays, decision: place} for place in range(1, over.widths[decision])]


class Pausing:
    """A service's client, before each of whose calls the task that makes it may be interrupted."""

    def __init__(self, client: Any, scheduler: Scheduler, name: str) -> None:
        self._client = client
        self._scheduler = scheduler
        self._name = name

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        def paused(**request: Any) -> Any:
            self._scheduler.pause(f"{self._name}.{name}")
            return call(**request)

        return paused
