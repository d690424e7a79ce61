"""Training by several processes: one for each GPU of each of the job's instances.

On each instance, the job's own process decodes the images once, starts a process for each GPU, and
watches them. The instances' watching processes have a store in common, which that of the leader
hosts: through it each learns within seconds that a process failed elsewhere, and within
LOST_SECONDS that an instance no longer responds.
"""

import logging
import multiprocessing
import os
import pickle
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from droplens.inference.cores import cores
from trainer.cluster import Cluster, PeerLost
from trainer.data.decode import decode_into
from trainer.data.features import Channel
from trainer.data.preprocess import Resize
from trainer.job import Job, Outcome, Timings
from trainer.logs import log_to_stdout
from trainer.recipes.finetune.device import find_device, prepare_device
from trainer.recipes.finetune.peers import Peers
from trainer.recipes.finetune.pixels import Pixels, with_margin
from trainer.supervise import end_with_parent

log = logging.getLogger(__name__)

PORT = 29500
# Instances start at different times, and each decodes all images before it trains.
START_TIMEOUT = timedelta(minutes=30)
# The longest that a process waits for the others, as while one fits the classifier.
PEER_TIMEOUT = timedelta(minutes=10)
POLL_SECONDS = 1.0
LOST_SECONDS = 60.0
# So long after a connection broke, the process that broke it may report why.
CAUSE_SECONDS = 10.0

TRAINING, VALIDATION = "training", "validation"

Fit = Callable[[Job, Pixels, Pixels, Peers], Outcome]
# Of a training process: its result on the leader, what it raised, or that a peer left it.
OUTCOME, RAISED, LEFT = "outcome", "raised", "left"
Message = tuple[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """The place of one process in a training.

    local: its number on its instance, which is also its GPU's.
    """

    cluster: Cluster
    per_host: int
    local: int

    @property
    def peers(self) -> Peers:
        """Its rank among all processes."""
        return Peers(
            self.cluster.number * self.per_host + self.local,
            len(self.cluster.hosts) * self.per_host,
        )


def train_together(job: Job, cluster: Cluster, per_host: int, fit: Fit) -> Outcome | None:
    """Call `fit` in `per_host` processes on each instance; its outcome on the leader, else None.

    Raises PeerLost, and what a process on this instance raised.
    """
    log.info("%d instances train, by %d processes each", len(cluster.hosts), per_host)
    others = _Others(cluster)
    with tempfile.TemporaryDirectory(prefix="droplens-") as name:
        folder = Path(name)
        try:
            with job.timings.step("decode"):
                decode_into(folder / TRAINING, job.training, with_margin(job.resize))
                decode_into(folder / VALIDATION, job.validation, job.resize)
            with _started(job, cluster, per_host, folder, fit) as processes:
                result = _watched(processes, others)
            others.end()
        except Exception as error:
            others.report_failure(str(error) or type(error).__name__)
            raise
    if result is None:
        return None
    outcome, timings = result
    job.timings.seconds.update(timings.seconds)
    return outcome


# --- The watching process ---


class _Others:
    """What the watching processes of all instances tell one another."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._store = distributed.TCPStore(
            cluster.leader, _port(), is_master=cluster.leads, timeout=START_TIMEOUT
        )
        self._store.set_timeout(timedelta(seconds=LOST_SECONDS))
        # Of each instance: how many signs of life, and since when there was no other.
        self._signs = dict.fromkeys(range(len(cluster.hosts)), (0, time.monotonic()))
        del self._signs[cluster.number]

    def check(self) -> None:
        """Raise PeerLost if a process failed elsewhere, or an instance no longer responds."""
        if not self._signs:
            return
        try:
            self._store.add(f"signs/{self._cluster.number}", 1)
            failure = self._store.get("failure") if self._store.check(["failure"]) else None
            counts = {number: self._store.add(f"signs/{number}", 0) for number in self._running()}
        except RuntimeError:
            leader = self._cluster.leader
            raise PeerLost(f"Instance {leader} ended or cannot be reached any more.") from None
        if failure is not None:
            raise PeerLost(failure.decode())
        now = time.monotonic()
        for number, count in counts.items():
            before, since = self._signs[number]
            if count != before:
                self._signs[number] = (count, now)
            # Before its first sign, an instance may still be decoding.
            elif count and now - since > LOST_SECONDS:
                host = self._cluster.hosts[number]
                raise PeerLost(f"Instance {host} has not responded for {LOST_SECONDS:.0f} s.")

    def end(self) -> None:
        """End as the others do: the leader waits for them, since it hosts the store."""
        if self._signs:
            self._store.set(f"ended/{self._cluster.number}", "")
            while self._cluster.leads and self._running():
                self.check()
                time.sleep(POLL_SECONDS)

    def report_failure(self, reason: str) -> None:
        """Have the other instances end too. The first reason stands."""
        if not self._signs:
            return
        sentence = f"Training ended on instance {self._cluster.current}: {reason}"
        try:
            self._store.compare_set("failure", "", sentence)
            self._store.set(f"ended/{self._cluster.number}", "")
            deadline = time.monotonic() + LOST_SECONDS
            while self._cluster.leads and self._running() and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
        except RuntimeError:
            log.warning("the other instances cannot be reached")

    def _running(self) -> list[int]:
        """The other instances that have not ended."""
        return [each for each in self._signs if not self._store.check([f"ended/{each}"])]


@contextmanager
def _started(
    job: Job, cluster: Cluster, per_host: int, folder: Path, fit: Fit
) -> Iterator[dict[Connection, Any]]:
    """The processes of this instance, by the connections that their messages come from."""
    context = multiprocessing.get_context("spawn")
    processes = {}
    try:
        for local in range(per_host):
            ours, theirs = context.Pipe(duplex=False)
            place = Place(cluster, per_host, local)
            process = context.Process(target=_main, args=(theirs, job, place, folder, fit))
            process.start()
            theirs.close()
            processes[ours] = process
        yield processes
    finally:
        for process in processes.values():
            process.kill()
        for process in processes.values():
            process.join()


def _watched(processes: dict[Connection, Any], others: _Others) -> tuple[Outcome, Timings] | None:
    """Wait for all processes; what the leading one returned. Raises what one raised."""
    running, result = dict(processes), None
    deadline: float | None = None
    while running or deadline:
        for connection in wait(list(running), POLL_SECONDS):
            assert isinstance(connection, Connection)
            kind, content = _received(connection, running.pop(connection))
            if kind == RAISED:
                raise content
            if kind == LEFT:
                # Whatever ended the other process is the better reason.
                deadline = deadline or time.monotonic() + CAUSE_SECONDS
            elif content is not None:
                result = content
        others.check()
        if deadline and time.monotonic() > deadline:
            raise PeerLost("The connection to another training process was lost.")
        if not running:
            time.sleep(POLL_SECONDS)
    return result


def _received(connection: Connection, process: Any) -> Message:
    try:
        message: Message = connection.recv()
    except EOFError:
        process.join()
        code = process.exitcode
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        memory = ", as when memory runs out" if code == -signal.SIGKILL else ""
        return RAISED, PeerLost(f"A training process was ended by {how}{memory}.")
    return message


# --- A training process ---


def _main(connection: Connection, job: Job, place: Place, folder: Path, fit: Fit) -> None:
    """Train as one of several, and send what came of it to the watching process."""
    end_with_parent()
    log_to_stdout()
    message: Message
    try:
        message = OUTCOME, _train(job, place, folder, fit)
    except Exception as error:  # noqa: BLE001  the watching process raises it
        error.add_note(traceback.format_exc())
        left = isinstance(error, distributed.DistError) or "gloo" in str(error)
        message = (LEFT, str(error)) if left else (RAISED, error)
    try:
        pickle.loads(pickle.dumps(message))  # noqa: S301  our own
    except Exception:  # noqa: BLE001  some exceptions cannot be pickled
        message = RAISED, RuntimeError(repr(message[1]))
    connection.send(message)
    connection.close()


def _train(job: Job, place: Place, folder: Path, fit: Fit) -> tuple[Outcome, Timings] | None:
    device = find_device(job.settings.device, place.local)
    prepare_device(threads=max(1, cores() // place.per_host))
    peers = place.peers
    if place.cluster.interface:
        for library in ("NCCL", "GLOO"):
            os.environ[f"{library}_SOCKET_IFNAME"] = place.cluster.interface
    store = distributed.TCPStore(
        place.cluster.leader, _port(), is_master=False, timeout=START_TIMEOUT
    )
    distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=distributed.PrefixStore("training", store),
        rank=peers.rank,
        world_size=peers.count,
        timeout=PEER_TIMEOUT,
    )
    training = _mapped(folder / TRAINING, job.training, with_margin(job.resize), device)
    validation = _mapped(folder / VALIDATION, job.validation, job.resize, device)
    outcome = fit(job, training, validation, peers)
    # After an exception it might wait for the others, and is left to the end of this process.
    distributed.destroy_process_group()
    return (outcome, job.timings) if peers.leads else None


def _mapped(path: Path, channel: Channel, resize: Resize, device: torch.device) -> Pixels:
    shape = (len(channel), resize.height, resize.width, 3)
    decoded: NDArray[np.uint8] = np.empty(shape, np.uint8)
    if len(channel):
        decoded = np.memmap(path, np.uint8, "r", shape=shape)
    return Pixels.of(decoded, channel.labels, device)


def _port() -> int:
    return int(os.environ.get("MASTER_PORT", PORT))
