"""The process that decodes what is not plain: python -m droplens.imaging.worker SOCKET

It imports the decoders once, looks at no picture itself, and forks for each. The fork has the one
picture, an empty environment, and what `imaging.confine` leaves; it answers and ends, so that what
a picture may have done to it is gone before the next. That costs some 7 ms of
a core a picture.

SOCKET: the number of an inherited socket. Over it come the sockets of single pictures; its end is
the end of this process.
"""

import gc
import os
import resource
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from io import FileIO

from PIL import Image

from droplens.imaging import decode, protocol
from droplens.imaging.confine import confine, die_with_parent, limit, warm_up
from droplens.imaging.limits import ImageError, Limits
from droplens.imaging.structure import Structure

_KEPT_DESCRIPTORS = 3  # standard input, output and error, which lead nowhere


class _Job:
    """A picture's process. killed: whether it was for its time."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.deadline = time.monotonic() + protocol.WALL_SECONDS
        self.killed = False

    def tell(self, status: int, usage: resource.struct_rusage) -> None:
        """Say how it ended; where it answered, nobody reads that any more."""
        ended = {
            "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
            "code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0,
            "seconds": usage.ru_utime + usage.ru_stime,
            "killed": self.killed,
        }
        try:
            self.connection.setblocking(False)
            self.connection.send(protocol.frame(protocol.ENDED, ended))
        except OSError:
            pass
        self.connection.close()


def main(descriptor: int) -> None:
    """Serve until the other side closes the socket."""
    control = socket.socket(fileno=descriptor)
    _import_decoders()
    warm_up()
    woken, waker = os.pipe()
    for end in (woken, waker):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    # Ctrl-C and a service manager reach the whole group: who asked decides when this ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(_KEPT_DESCRIPTORS):
        os.dup2(nothing, standard)  # what a C library says of hostile bytes is for no log
    os.close(nothing)
    gc.collect()
    gc.freeze()
    gc.disable()  # a fork is over before it would be worth while
    control.sendall(protocol.READY)
    jobs: dict[int, _Job] = {}
    while True:
        wait = min((job.deadline for job in jobs.values()), default=None)
        seconds = None if wait is None else max(0.0, wait - time.monotonic())
        sources: list[socket.socket | int] = [control, woken]
        ready, _, _ = select.select(sources, [], [], seconds)
        if woken in ready:
            os.read(woken, 4096)
        _reap(jobs)
        for pid, job in jobs.items():
            if not job.killed and time.monotonic() >= job.deadline:
                job.killed = True
                os.kill(pid, signal.SIGKILL)
        if control in ready:
            message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
            if not message:
                break
            for number in descriptors:
                _fork(socket.socket(fileno=number), jobs)
    for pid in jobs:
        os.kill(pid, signal.SIGKILL)


def _import_decoders() -> None:
    """All that a fork may need: it can open no file."""
    import encodings.ascii
    import encodings.idna
    import encodings.latin_1
    import encodings.utf_16_be  # noqa: F401

    from PIL import AvifImagePlugin, ImageCms, ImageFile, ImageOps  # noqa: F401

    Image.init()
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    with suppress(ImageError):  # it will be said of each HEIC
        decode.register_heif()


def _reap(jobs: dict[int, _Job]) -> None:
    while jobs:
        pid, status, usage = os.wait4(-1, os.WNOHANG)
        if not pid:
            return
        if job := jobs.pop(pid, None):
            job.tell(status, usage)


def _fork(connection: socket.socket, jobs: dict[int, _Job]) -> None:
    pid = os.fork()
    if pid:
        jobs[pid] = _Job(connection)
        return
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        die_with_parent()
        own = connection.fileno()
        os.closerange(_KEPT_DESCRIPTORS, own)
        os.closerange(own + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        _serve(own)
        code = 0
    finally:
        os._exit(code)


class _Blocking:
    """A socket's descriptor, for which read and write are enough."""

    def __init__(self, descriptor: int) -> None:
        self._file = FileIO(descriptor, "r+", closefd=False)

    def recv_into(self, buffer: memoryview) -> int:
        return self._file.readinto(buffer) or 0

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) or 0 :]


def _serve(descriptor: int) -> None:
    stream = _Blocking(descriptor)
    header = bytearray(protocol.HEADER.size)
    if not protocol.fill(stream, header):
        return
    request_bytes, data_bytes = protocol.HEADER.unpack(header)
    body = bytearray(request_bytes)
    if not protocol.fill(stream, body):
        return
    request = protocol.Request.read(body)
    limit(request.memory + 2 * data_bytes, request.seconds)
    confine()  # before a byte of the picture
    data = bytearray(data_bytes)
    if not protocol.fill(stream, data):
        return
    try:
        with decode.decoder_errors_as_image_errors():
            _answer(stream, request, bytes(data))
    except ImageError as error:
        answer = {"code": error.code, "message": error.message}
        stream.send(protocol.frame(protocol.REFUSED, answer))


def _answer(stream: _Blocking, request: protocol.Request, data: bytes) -> None:
    structure = Structure(request.format, 0, 0, data, request.orientation)
    limits = Limits(
        max_bytes=request.max_bytes, max_pixels=request.max_pixels, max_aspect=request.max_aspect
    )
    with decode.opened(structure, limits) as opened:
        picture, info = decode.decoded(opened, structure, request.shorter_side)
    result = {
        "size": picture.size,
        "format": info.format,
        "width": info.width,
        "height": info.height,
    }
    stream.send(protocol.frame(protocol.RESULT, result))
    rows = max(1, protocol.BAND_BYTES // (3 * picture.width))
    for top in range(0, picture.height, rows):
        band = picture.crop((0, top, picture.width, min(top + rows, picture.height))).tobytes()
        stream.send(protocol.FRAME.pack(protocol.PIXELS, len(band)) + band)


if __name__ == "__main__":
    main(int(sys.argv[1]))
