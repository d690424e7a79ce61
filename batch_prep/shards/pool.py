"""A pool of worker processes, each with its own interpreter lock, that keeps the items' order."""

import fcntl
import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Generic, Self, TypeVar

from batch_prep.errors import JobError, out_of_memory

Item = TypeVar("Item")
Result = TypeVar("Result")


# An item whose process ended is tried once more: when memory runs out, the kernel may kill another
# process than the one that needs too much.
_ATTEMPTS = 2

# How much a process may be ahead of the others. A pipe's default in Linux is 64 KiB, less than two
# images; this is the most that an unprivileged process may set.
_PIPE_BYTES = 1024 * 1024


class WorkerPool(Generic[Item, Result]):
    """Worker processes, which can be started before their items are known; a context manager.

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
        """work: yields the results of items, in their order; it is pickled.

        fallback: called with an item that ended its process twice, and how the process ended; it
            returns the result for that item. Without it, a process that ends is a JobError.
        forked: start by fork, which is immediate and keeps all imports. Only while this process
            has no threads, such as an S3 client's: a lock that one of them holds would stay locked
            in the child. Where there is a core for each process, each is pinned to one, since
            moving between cores and their caches cost a twelfth of the time.
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
        """Start the processes, without waiting until they have imported their modules."""
        cores = sorted(os.sched_getaffinity(0)) if self._forked else []
        while (index := len(self._workers)) < self._processes:
            core = cores[index] if len(cores) == self._processes else None
            self._workers.append(_Worker(self._work, self._stack, self._forked, core))

    @property
    def is_started(self) -> bool:
        """Whether `map` can be called: there is at least one process."""
        return bool(self._workers)

    def map(self, items: Sequence[Item]) -> Iterator[Result]:
        """The result of `work` for every item, in the order of the items.

        A process that is ahead of the others blocks once its pipe is full. What `work` raises is
        raised here. A process that ended is replaced by one that gets its remaining items.
        """
        count = len(self._workers)
        for number in range(count):
            self._send(number, items[number::count])
        for index in range(len(items)):
            number = index % count
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    result = self._workers[number].receive()
                    break
                except _WorkerEnded as ended:
                    if self._fallback is None:
                        raise ended.failure() from None
                    self._replace(number)
                    # Results arrive in order, so this item is the one that the process worked on.
                    if attempt < _ATTEMPTS:
                        self._send(number, items[index::count])
                        continue
                    result = self._fallback(items[index], ended.how)
                    self._send(number, items[index + count :: count])
            yield result

    def _send(self, number: int, items: Sequence[Item]) -> None:
        try:
            self._workers[number].send(items)
        except _WorkerEnded as ended:
            if self._fallback is None:
                raise ended.failure() from None
            self._replace(number)  # it ended before it had any item
            self._workers[number].send(items)

    def _replace(self, number: int) -> None:
        # Not forked: this process may have threads by now.
        self._workers[number] = _Worker(self._work, self._stack, forked=False, core=None)


class _WorkerEnded(Exception):
    """A process ended before it returned all results.

    how: in a few words; killed: by SIGKILL, which the kernel sends when memory runs out.
    """

    def __init__(self, how: str, *, killed: bool) -> None:
        super().__init__(how)
        self.how = how
        self.killed = killed

    def failure(self) -> JobError:
        if self.killed:
            return out_of_memory("a process that prepares pictures was killed")
        return JobError(f"A process that prepares pictures ended early ({self.how}).")


class _Worker:
    """A worker process, with this process's ends of the two pipes to it."""

    def __init__(
        self,
        work: Callable[[Any], Generator[Any, None, None]],
        stack: ExitStack,
        forked: bool,
        core: int | None,
    ) -> None:
        context: Any = get_context("fork" if forked else "spawn")
        worker_items, self._items = context.Pipe(duplex=False)
        self._results, worker_results = context.Pipe(duplex=False)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            fcntl.fcntl(worker_results.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        for end in (self._items, self._results):
            stack.enter_context(end)
        # If the worker kept a copy of these ends, it would not notice that this process ended.
        copied = (self._items, self._results) if forked else ()
        self._process = context.Process(
            target=_serve, args=(worker_items, worker_results, work, copied, core), daemon=True
        )
        with worker_items, worker_results, _held(signal.SIGTERM):
            self._process.start()
            stack.callback(self._process.join)
            stack.callback(self._process.terminate)

    def send(self, items: Sequence[Any]) -> None:
        """Raises _WorkerEnded."""
        try:
            self._items.send(items)
        except BrokenPipeError:
            raise self._ended() from None

    def receive(self) -> Any:
        """Raises _WorkerEnded, and whatever the work raised."""
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


@contextmanager
def _held(number: signal.Signals) -> Iterator[None]:
    """Keep a signal until the end of the context, also from processes that are started in it.

    The job's handler of SIGTERM raises. What is raised in a callback of fork is lost, and logging's
    leaves its lock locked: the job would go on, until a thread that logs waits forever.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
    # Ctrl-C is sent to the whole process group; the job handles it and ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A forked process would inherit the job's handler of SIGTERM.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    try:
        while True:
            for result in work(items.recv()):
                results.send(result)
    except (EOFError, BrokenPipeError):
        return  # the job ended or closed the pool
    except JobError as error:
        results.send(error)
    except MemoryError:
        results.send(out_of_memory("a process that prepares pictures was given no more"))
    except Exception as error:  # noqa: BLE001  any error is reported by the job
        results.send(JobError(f"Packing failed unexpectedly: {error!r}."))
