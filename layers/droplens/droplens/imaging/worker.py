"""The sandbox's worker process: python -m droplens.imaging.worker SOCKET

It imports the decoders once and forks for each image; the worker itself reads no image. The fork
decodes one image under the limits of `imaging.confine`, sends the pixels and exits, so that nothing
a malicious image did outlives it. This costs about 7 ms of CPU time per image.

SOCKET: the descriptor of an inherited socket, over which the sockets of single images arrive. The
worker ends when it is closed.
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

_KEPT_DESCRIPTORS = 3  # standard input, output and error, redirected to /dev/null


class _Job:
    """An image's process. killed: whether it was killed at its deadline."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.deadline = time.monotonic() + protocol.WALL_SECONDS
        self.killed = False

    def report(self, status: int, usage: resource.struct_rusage) -> None:
        """Send how the process ended; ignored by a client that has its response already."""
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
    wake_read, wake_write = os.pipe()
    for end in (wake_read, wake_write):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    # Ctrl-C and service managers signal the whole process group; only the client ends the worker.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(_KEPT_DESCRIPTORS):
        os.dup2(nothing, standard)  # messages of C libraries about malicious bytes reach no log
    os.close(nothing)
    gc.collect()
    gc.freeze()
    gc.disable()  # a fork ends before a collection would free anything
    control.sendall(protocol.READY)
    jobs: dict[int, _Job] = {}
    while True:
        wait = min((job.deadline for job in jobs.values()), default=None)
        seconds = None if wait is None else max(0.0, wait - time.monotonic())
        sources: list[socket.socket | int] = [control, wake_read]
        ready, _, _ = select.select(sources, [], [], seconds)
        if wake_read in ready:
            os.read(wake_read, 4096)
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
    """Import all that a fork may need, since it cannot open files."""
    import encodings.ascii
    import encodings.idna
    import encodings.latin_1
    import encodings.utf_16_be  # noqa: F401

    from PIL import AvifImagePlugin, ImageCms, ImageFile, ImageOps  # noqa: F401

    Image.init()
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    with suppress(ImageError):  # raised again for each HEIC
        decode.register_heif()


def _reap(jobs: dict[int, _Job]) -> None:
    while jobs:
        pid, status, usage = os.wait4(-1, os.WNOHANG)
        if not pid:
            return
        if job := jobs.pop(pid, None):
            job.report(status, usage)


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


class _BlockingStream:
    """A socket's descriptor by read and write, the system calls that the filter allows."""

    def __init__(self, descriptor: int) -> None:
        self._file = FileIO(descriptor, "r+", closefd=False)

    def recv_into(self, buffer: memoryview) -> int:
        return self._file.readinto(buffer) or 0

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) or 0 :]


def _serve(descriptor: int) -> None:
    stream = _BlockingStream(descriptor)
    header = bytearray(protocol.HEADER.size)
    if not protocol.fill(stream, header):
        return
    request_bytes, data_bytes = protocol.HEADER.unpack(header)
    body = bytearray(request_bytes)
    if not protocol.fill(stream, body):
        return
    request = protocol.Request.read(body)
    limit(request.memory + 2 * data_bytes, request.seconds)
    confine()  # before a byte of the image is read
    data = bytearray(data_bytes)
    if not protocol.fill(stream, data):
        return
    try:
        with decode.decoder_errors_as_image_errors():
            _decode(stream, request, bytes(data))
    except ImageError as error:
        refusal = {"code": error.code, "message": error.message}
        stream.send(protocol.frame(protocol.REFUSED, refusal))


def _decode(stream: _BlockingStream, request: protocol.Request, data: bytes) -> None:
    structure = Structure(request.format, 0, 0, data, request.orientation)
    limits = Limits(
        max_bytes=request.max_bytes, max_pixels=request.max_pixels, max_aspect=request.max_aspect
    )
    with decode.opened(structure, limits) as opened:
        image, info = decode.decoded(opened, structure, request.shorter_side)
    result = {
        "size": image.size,
        "format": info.format,
        "width": info.width,
        "height": info.height,
    }
    stream.send(protocol.frame(protocol.RESULT, result))
    rows = max(1, protocol.BAND_BYTES // (3 * image.width))
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height))).tobytes()
        stream.send(protocol.FRAME.pack(protocol.PIXELS, len(band)) + band)


if __name__ == "__main__":
    main(int(sys.argv[1]))
