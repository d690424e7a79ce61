"""Work spread over processes, each with an interpreter and its lock of its own."""

import signal
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

from batch_prep.errors import JobError

Item = TypeVar("Item")
Result = TypeVar("Result")

# A forked process would wait forever for threads of the S3 client that were not forked with it.
_CONTEXT = get_context("spawn")


def spread(
    work: Callable[[Sequence[Item]], Generator[Result, None, None]],
    items: Sequence[Item],
    processes: int,
) -> Generator[Result, None, None]:
    """`work` of every item, in the order of the items, by so many processes, this one among them.

    work: is pickled, and gives the result of each of the items that it is called with, working
    ahead by itself. A process that is ahead of the others waits once its pipe is full. What `work`
    raises is raised here; JobError where a process is gone.
    """
    with ExitStack() as stack:
        own = work(items[::processes])
        crew = [own]
        for number in range(1, processes):
            receiver, sender = _CONTEXT.Pipe(duplex=False)
            stack.enter_context(receiver)
            process = _CONTEXT.Process(
                target=_work, args=(sender, work, items[number::processes]), daemon=True
            )
            with sender:
                process.start()
            stack.callback(process.join)
            stack.callback(process.terminate)
            crew.append(_received(receiver, process))
        stack.enter_context(closing(own))
        for place in range(len(items)):
            yield next(crew[place % processes])


def _received(receiver: Connection, process: SpawnProcess) -> Generator[Any, None, None]:
    while True:
        try:
            result = receiver.recv()
        except EOFError:
            process.join()
            raise JobError(
                f"A process that prepares pictures ended early (exit code {process.exitcode}); "
                "it may have run out of memory."
            ) from None
        if isinstance(result, Exception):
            raise result
        yield result


def _work(
    sender: Connection, work: Callable[[Sequence[Any]], Generator[Any, None, None]], items: Any
) -> None:
    # Ctrl-C reaches the whole group: the job itself ends, and this process with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for result in work(items):
            sender.send(result)
    except BrokenPipeError:
        return  # nobody waits for it any more
    except JobError as error:
        sender.send(error)
    except Exception as error:  # noqa: BLE001  whatever it is: the job has to say so
        sender.send(JobError(f"Packing failed unexpectedly: {error!r}."))
