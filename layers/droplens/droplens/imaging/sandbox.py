"""Decoding in another process: what a picture does to its decoder, it does to itself only.

One `imaging.worker` is kept for each process that needs one, started at the first picture that is
not plain, and shared by its threads. It needs a socket pair and no shared memory, which Lambda has
none of.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from PIL import Image

from droplens.imaging import protocol
from droplens.imaging.limits import ImageError, ImageInfo, Limits, SandboxError
from droplens.imaging.structure import Structure

# What a decoder and its file's tables take beside the pixels; what each pixel takes.
_MEMORY = 128 * 1024 * 1024
_PIXEL_MEMORY = 12
# A picture's process is killed after WALL_SECONDS; its end is known soon after that.
_ANSWER_SECONDS = protocol.WALL_SECONDS + 10
_START_SECONDS = 60.0
# What the interpreter needs to be found and to find its own libraries.
_KEPT_ENVIRONMENT = ("LD_LIBRARY_PATH", "PATH")
_ATTEMPTS = 3


class _Killed(Exception):
    """A picture's process was killed, and not for anything that it did: memory was short."""


class _Gone(Exception):
    """The worker ended, and nobody is there to say how the picture's process did."""


def decode(
    structure: Structure, limits: Limits, shorter_side: int | None = None
) -> tuple[Image.Image, ImageInfo]:
    """As `imaging.decode.decoded`, in a process of its own.

    Raises ImageError, also for a picture that ends or stalls its process, and SandboxError.
    """
    pixels = structure.weight or limits.max_pixels
    seconds = protocol.cpu_seconds(structure.width * structure.height or limits.max_pixels)
    request = protocol.Request(
        format=structure.format,
        orientation=structure.orientation,
        shorter_side=shorter_side,
        max_bytes=limits.max_bytes,
        max_pixels=limits.max_pixels,
        max_aspect=limits.max_aspect,
        memory=min(protocol.MOST_MEMORY, _MEMORY + _PIXEL_MEMORY * pixels),
        seconds=seconds,
    )
    for _ in range(_ATTEMPTS):
        worker = _worker()
        try:
            with worker.job() as connection:
                return _asked(connection, request, structure.data)
        except _Killed:
            continue
        except _Gone:
            _drop(worker)
    raise ImageError(
        "image.unreadable",
        "the picture's decoder was killed each time, as where memory is short: a packing job's is "
        "the stack's parameter PackingMemoryMiB, an endpoint's EndpointMemoryMb",
    )


def _asked(
    connection: socket.socket, request: protocol.Request, data: bytes
) -> tuple[Image.Image, ImageInfo]:
    connection.settimeout(_ANSWER_SECONDS)
    try:
        connection.sendall(request.header(data))
        connection.sendall(data)
    except BrokenPipeError:
        pass  # it ended while it was being told: why is there to be read
    except TimeoutError:
        raise _stalled() from None
    try:
        return _answer(connection, request.seconds)
    except TimeoutError:
        raise _stalled() from None
    except ConnectionError:
        raise _Gone from None


def _answer(connection: socket.socket, seconds: float) -> tuple[Image.Image, ImageInfo]:
    picture = info = None
    top = 0
    while True:
        kind, body = _frame(connection)
        if kind == protocol.PIXELS and picture is not None:
            rows = len(body) // (3 * picture.width)
            band = Image.frombytes("RGB", (picture.width, rows), bytes(body))
            picture.paste(band, (0, top))
            top += rows
            if top >= picture.height and info is not None:
                return picture, info
            continue
        told = json.loads(body)
        if kind == protocol.RESULT:
            width, height = told["size"]
            picture = Image.new("RGB", (width, height), None)  # each pixel is written next
            info = ImageInfo(told["format"], told["width"], told["height"])
        elif kind == protocol.REFUSED:
            raise ImageError(told["code"], told["message"])
        else:
            raise _ended(told, seconds)


def _frame(connection: socket.socket) -> tuple[bytes, bytearray]:
    header = bytearray(protocol.FRAME.size)
    if not protocol.fill(connection, header):
        raise _Gone
    kind, length = protocol.FRAME.unpack(header)
    body = bytearray(length)
    if not protocol.fill(connection, body):
        raise _Gone
    return kind, body


def _stalled() -> ImageError:
    return ImageError(
        "image.unreadable", f"decoding it takes more than {protocol.WALL_SECONDS:g} seconds"
    )


def _ended(how: dict[str, Any], seconds: float) -> Exception:
    """What is said of a picture whose process ended without an answer."""
    number = int(how["signal"])
    if number in (signal.SIGPROF, signal.SIGXCPU) or how["seconds"] >= seconds:
        return ImageError(
            "image.unreadable",
            f"decoding it takes more than {seconds:.1f} seconds of a core",
        )
    if how["killed"]:
        return _stalled()
    if number == signal.SIGKILL:
        return _Killed()
    name = signal.Signals(number).name if number else f"exit code {how['code']}"
    return ImageError("image.unreadable", f"the picture ends its decoder ({name})")


@dataclass(frozen=True, slots=True)
class _Worker:
    """The process that forks. owner: the process that it was started by, and is for."""

    process: "subprocess.Popen[bytes]"
    control: socket.socket
    owner: int
    sending: threading.Lock

    @classmethod
    def started(cls) -> Self:
        """Raises SandboxError."""
        control, theirs = socket.socketpair()
        environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        # One arena for all threads: each further one reserves 64 MB of what is limited.
        environment |= {"MALLOC_ARENA_MAX": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "droplens.imaging.worker", str(theirs.fileno())],
                env=environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        control.settimeout(_START_SECONDS)
        try:
            if control.recv(len(protocol.READY)) == protocol.READY:
                control.settimeout(None)
                return cls(process, control, os.getpid(), threading.Lock())
        except OSError:
            pass
        process.kill()
        control.close()
        raise SandboxError(f"the sandbox does not start (exit code {process.wait()})")

    @contextmanager
    def job(self) -> Iterator[socket.socket]:
        """A connection to a new fork of it. Raises _Gone."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                try:
                    with self.sending:
                        socket.send_fds(self.control, [b"j"], [theirs.fileno()])
                except OSError:
                    raise _Gone from None
            yield ours

    def stop(self) -> None:
        self.control.close()
        self.process.wait()


_starting = threading.Lock()
_kept: _Worker | None = None


def _worker() -> _Worker:
    """The one of this process, started where it has none or lost it."""
    global _kept
    with _starting:
        if _kept is not None and _kept.owner != os.getpid():
            _kept.control.close()  # a copy of another process's
            _kept = None
        if _kept is not None and _kept.process.poll() is not None:
            _kept.stop()
            _kept = None
        if _kept is None:
            _kept = _Worker.started()
        return _kept


def _drop(worker: _Worker) -> None:
    global _kept
    with _starting:
        if _kept is worker:
            worker.process.kill()
            worker.stop()
            _kept = None


def _in_a_fork() -> None:
    global _starting
    _starting = threading.Lock()  # a thread that is not here may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_a_fork)


def worker_pid() -> int | None:
    """The process that is kept for this one, if there is any."""
    with _starting:
        own = _kept is not None and _kept.owner == os.getpid()
        return _kept.process.pid if _kept is not None and own else None


def stop() -> None:
    """End this process's worker, if it has one; the next picture starts another."""
    global _kept
    with _starting:
        if _kept is not None and _kept.owner == os.getpid():
            _kept.stop()
        _kept = None
