"""Decoding of untrusted images in a confined process per image.

Each process that needs one keeps one `imaging.worker`, started at the first image that is not
plain and shared by its threads. It uses a socket pair, since Lambda has no shared memory.
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
from droplens.imaging.preprocess import jpeg_reduction
from droplens.imaging.structure import Structure

# Bytes for a decoder and the file's tables; bytes for each pixel.
_MEMORY = 128 * 1024 * 1024
_PIXEL_MEMORY = 12
# An image's process is killed after WALL_SECONDS, and reported soon after.
_REPLY_SECONDS = protocol.WALL_SECONDS + 10
_START_SECONDS = 60.0
# The interpreter and its shared libraries are found by these.
_KEPT_ENVIRONMENT = ("LD_LIBRARY_PATH", "PATH")
_ATTEMPTS = 3


class _OutOfMemory(Exception):
    """The kernel killed an image's process because the machine was short of memory."""


class _WorkerEnded(Exception):
    """The worker ended, so that no end of the image's process is reported."""


def decode(
    structure: Structure, limits: Limits, shorter_side: int | None = None
) -> tuple[Image.Image, ImageInfo]:
    """As `imaging.decode.decoded`, in a process of its own.

    Raises ImageError, also for an image that crashes its decoder or exceeds the time, and
    SandboxError.
    """
    pixels = structure.weight or limits.max_pixels
    seconds = protocol.cpu_seconds(_sent(structure, shorter_side) or limits.max_pixels)
    request = protocol.Request(
        format=structure.format,
        orientation=structure.orientation,
        shorter_side=shorter_side,
        max_bytes=limits.max_bytes,
        max_pixels=limits.max_pixels,
        max_aspect=limits.max_aspect,
        memory=min(protocol.MAX_MEMORY, _MEMORY + _PIXEL_MEMORY * pixels),
        seconds=seconds,
    )
    for _ in range(_ATTEMPTS):
        worker = _worker()
        try:
            with worker.job() as connection:
                return _exchange(connection, request, structure.data)
        except _OutOfMemory:
            continue
        except _WorkerEnded:
            _drop(worker)
    raise ImageError(
        "image.unreadable",
        "the picture's decoder was killed each time, as where memory is short: a packing job's is "
        "the stack's parameter PackingMemoryMiB, an endpoint's EndpointMemoryMb",
    )


def _sent(structure: Structure, shorter_side: int | None) -> int:
    """The number of pixels that the process sends, 0 where only a decoder finds it.

    A JPEG of 100 megapixels is mostly decoded to two, but if it is progressive, that takes a second
    and more: all of its coefficients are kept until the last scan.
    """
    if structure.format != "JPEG":
        return structure.width * structure.height
    divisor = jpeg_reduction(structure.width, structure.height, shorter_side)
    return -(-structure.width // divisor) * -(-structure.height // divisor)


def _exchange(
    connection: socket.socket, request: protocol.Request, data: bytes
) -> tuple[Image.Image, ImageInfo]:
    connection.settimeout(_REPLY_SECONDS)
    try:
        connection.sendall(request.header(data))
        connection.sendall(data)
    except BrokenPipeError:
        pass  # it ended before it had read everything: its end is reported on the same socket
    except TimeoutError:
        raise _stalled() from None
    try:
        return _receive(connection, request.seconds)
    except TimeoutError:
        raise _stalled() from None
    except ConnectionError:
        raise _WorkerEnded from None


def _receive(connection: socket.socket, seconds: float) -> tuple[Image.Image, ImageInfo]:
    image = info = None
    top = 0
    while True:
        kind, body = _frame(connection)
        if kind == protocol.PIXELS and image is not None:
            rows = len(body) // (3 * image.width)
            band = Image.frombytes("RGB", (image.width, rows), bytes(body))
            image.paste(band, (0, top))
            top += rows
            if top >= image.height and info is not None:
                return image, info
            continue
        reply = json.loads(body)
        if kind == protocol.RESULT:
            width, height = reply["size"]
            image = Image.new("RGB", (width, height), None)  # uninitialised: every pixel follows
            info = ImageInfo(reply["format"], reply["width"], reply["height"])
        elif kind == protocol.REFUSED:
            raise ImageError(reply["code"], reply["message"])
        else:
            raise _ended(reply, seconds)


def _frame(connection: socket.socket) -> tuple[bytes, bytearray]:
    header = bytearray(protocol.FRAME.size)
    if not protocol.fill(connection, header):
        raise _WorkerEnded
    kind, length = protocol.FRAME.unpack(header)
    body = bytearray(length)
    if not protocol.fill(connection, body):
        raise _WorkerEnded
    return kind, body


def _stalled() -> ImageError:
    return ImageError(
        "image.unreadable", f"decoding it takes more than {protocol.WALL_SECONDS:g} seconds"
    )


def _ended(how: dict[str, Any], seconds: float) -> Exception:
    """The error for an image whose process ended without a response."""
    number = int(how["signal"])
    if number in (signal.SIGPROF, signal.SIGXCPU) or how["seconds"] >= seconds:
        return ImageError(
            "image.unreadable",
            f"decoding it takes more than {seconds:.1f} seconds of a core",
        )
    if how["killed"]:
        return _stalled()
    if number == signal.SIGKILL:
        return _OutOfMemory()
    name = signal.Signals(number).name if number else f"exit code {how['code']}"
    return ImageError("image.unreadable", f"the picture ends its decoder ({name})")


@dataclass(frozen=True, slots=True)
class _Worker:
    """The process that forks for each image. owner: pid of the process that started it."""

    process: "subprocess.Popen[bytes]"
    control: socket.socket
    owner: int
    sending: threading.Lock

    @classmethod
    def started(cls) -> Self:
        """Start a worker. Raises SandboxError."""
        control, theirs = socket.socketpair()
        environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        # One malloc arena for all threads: each further one reserves 64 MB of address space, which
        # is limited.
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
        """A connection to a new fork of the worker. Raises _WorkerEnded."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                try:
                    with self.sending:
                        socket.send_fds(self.control, [b"j"], [theirs.fileno()])
                except OSError:
                    raise _WorkerEnded from None
            yield ours

    def stop(self) -> None:
        self.control.close()
        self.process.wait()


_starting = threading.Lock()
_current: _Worker | None = None


def _worker() -> _Worker:
    """This process's worker, started if there is none or it has ended."""
    global _current
    with _starting:
        if _current is not None and _current.owner != os.getpid():
            _current.control.close()  # inherited by a fork
            _current = None
        if _current is not None and _current.process.poll() is not None:
            _current.stop()
            _current = None
        if _current is None:
            _current = _Worker.started()
        return _current


def _drop(worker: _Worker) -> None:
    global _current
    with _starting:
        if _current is worker:
            worker.process.kill()
            worker.stop()
            _current = None


def _reset_after_fork() -> None:
    global _starting
    _starting = threading.Lock()  # a thread of the parent may hold the old one


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)


def worker_pid() -> int | None:
    """The pid of this process's worker, or None."""
    with _starting:
        own = _current is not None and _current.owner == os.getpid()
        return _current.process.pid if _current is not None and own else None


def stop() -> None:
    """End this process's worker, if it has one; the next image starts another."""
    global _current
    with _starting:
        if _current is not None and _current.owner == os.getpid():
            _current.stop()
        _current = None
