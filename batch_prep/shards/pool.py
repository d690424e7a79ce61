"""Work spread over processes, each with an interpreter and its lock of its own."""

import fcntl
import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Generic, Self, TypeVar

from batch_prep.errors import JobError, out_of_memory

Item = TypeVar("Item")
Result = TypeVar("Result")


# An item whose process is gone is tried once more: whoever is short of memory may end any of them.
_ATTEMPTS = 2

# How far ahead of the others a process may be: Linux gives a pipe 64 KiB, fewer than two pictures,
# and up to this much to whoever asks.
_PIPE_BYTES = 1024 * 1024


class WorkerPool(Generic[Item, Result]):
    """So many processes beside this one, started before it is known what they shall work at.

    Leaving the context ends them.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Generator[Result, None, None]],
        processes: int,
        *,
        forked: bool = False,
        fallback: Callable[[Item, str], Result] | None = None,
    ) -> None:
        """work: is pickled, and gives the results of items, in their order.

        lost: what stands for the result of an item that ends its process, and did so again in a
            new one; it is given the item and how that ended. Without it, that is a JobError.
        forked: the processes begin as copies of this one, at once and with all that it has
            imported. Only for one that has no threads yet, such as an S3 client's: a copy would
            wait for them forever. If there is a core for each, it keeps to it: one that moves
            leaves its caches behind, which cost a twelfth of the time.
        """
        self._work = work
        self._processes = processes
        self._forked = forked
        self._fallback = fallback
        self._workers: list[_Worker] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._workers.clear()

    def start(self) -> None:
        """Start the processes; those that are not forked import what they need meanwhile."""
        cores = sorted(os.sched_getaffinity(0)) if self._forked else []
        while (place := len(self._workers)) < self._processes:
            core = cores[place] if len(cores) == self._processes else None
            self._workers.append(_Worker(self._work, self._stack, self._forked, core))

    @property
    def is_started(self) -> bool:
        """Whether there is any process to spread work over."""
        return bool(self._workers)

    def map(self, items: Sequence[Item]) -> Iterator[Result]:
        """`work` of every item, in the order of the items, by all the processes.

        One that is ahead of the others waits once its pipe is full. What `work` raises is raised
        here. A process that is gone is replaced, and goes on with what it had left.
        """
        count = len(self._workers)
        for number in range(count):
            self._send(number, items[number::count])
        for place in range(len(items)):
            number = place % count
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    result = self._workers[number].receive()
                    break
                except _WorkerEnded as gone:
                    if self._fallback is None:
                        raise gone.failure() from None
                    self._replace(number)
                    # Results come in order: this is the item that it was at.
                    if attempt < _ATTEMPTS:
                        self._send(number, items[place::count])
                        continue
                    result = self._fallback(items[place], gone.how)
                    self._send(number, items[place + count :: count])
            yield result

    def _send(self, number: int, items: Sequence[Item]) -> None:
        try:
            self._workers[number].send(items)
        except _WorkerEnded as gone:
            if self._fallback is None:
                raise gone.failure() from None
            self._replace(number)  # it ended before there was anything to do
            self._workers[number].send(items)

    def _replace(self, number: int) -> None:
        # Started anew: by now this process may have threads, and a copy would wait for them.
        self._workers[number] = _Worker(self._work, self._stack, forked=False, core=None)


class _WorkerEnded(Exception):
    """A process ended before its work did. how: in a few words; killed: by SIGKILL, which nobody
    sends but the kernel, where memory is at its end."""

    def __init__(self, how: str, *, killed: bool) -> None:
        super().__init__(how)
        self.how = how
        self.killed = killed

    def failure(self) -> JobError:
        if self.killed:
            return out_of_memory("a process that prepares pictures was killed")
        return JobError(f"A process that prepares pictures ended early ({self.how}).")


class _Worker:
    """A process, and the ends of the two pipes between this one and it."""

    def __init__(
        self,
        work: Callable[[Any], Generator[Any, None, None]],
        stack: ExitStack,
        forked: bool,
        core: int | None,
    ) -> None:
        context: Any = get_context("fork" if forked else "spawn")
        their_items, self._items = context.Pipe(duplex=False)
        self._results, their_results = context.Pipe(duplex=False)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            fcntl.fcntl(their_results.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        for ours in (self._items, self._results):
            stack.enter_context(ours)
        # With a copy of these ends it would not notice that this process is gone.
        copied = (self._items, self._results) if forked else ()
        self._process = context.Process(
            target=_serve, args=(their_items, their_results, work, copied, core), daemon=True
        )
        with their_items, their_results:
            self._process.start()
        stack.callback(self._process.join)
        stack.callback(self._process.terminate)

    def send(self, items: Sequence[Any]) -> None:
        """Raises _Gone."""
        try:
            self._items.send(items)
        except BrokenPipeError:
            raise self._ended() from None

    def receive(self) -> Any:
        """Raises _Gone, and what the work raised."""
        try:
            result = self._results.recv()
        except (EOFError, ConnectionResetError):
            raise self._ended() from None
        if isinstance(result, Exception):
            raise result
        return result

    def _ended(self) -> "_WorkerEnded":
        self._process.join()
        code = self._process.exitcode
        return _WorkerEnded(f"exit code {code}", killed=code == -signal.SIGKILL)


def _serve(
    items: Connection,
    results: Connection,
    work: Callable[[Any], Generator[Any, None, None]],
    copied: Sequence[Connection],
    core: int | None,
) -> None:
    if core is not None:
        os.sched_setaffinity(0, {core})
    for connection in copied:
        connection.close()
    # Ctrl-C reaches the whole group: the job itself ends, and this process with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A copy of the job would otherwise heed SIGTERM as the job does.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        while True:
            for result in work(items.recv()):
                results.send(result)
    except (EOFError, BrokenPipeError):
        return  # nobody waits for it any more
    except JobError as error:
        results.send(error)
    except MemoryError:
        results.send(out_of_memory("a process that prepares pictures was given no more"))
    except Exception as error:  # noqa: BLE001  whatever it is: the job has to say so
        results.send(JobError(f"Packing failed unexpectedly: {error!r}."))
