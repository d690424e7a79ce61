"""A relay that makes a server on this machine seem as far away as S3 is.

    python -m benchmarks.packing.latency PORT MILLISECONDS

Prints the port that it listens on. What a client sends arrives that much later, in order and with
no loss of throughput; responses are not delayed.
"""

import asyncio
import sys
from functools import partial


class _End(asyncio.Protocol):
    """One end of a relayed connection. `other` is set once both ends are open."""

    transport: asyncio.Transport
    other: "_End"

    def __init__(self, delay: float) -> None:
        self._delay = delay

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self._delay:
            asyncio.get_running_loop().call_later(self._delay, self.other.transport.write, data)
        else:
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's
        if hasattr(self, "other"):
            asyncio.get_running_loop().call_later(self._delay, self.other.transport.close)

    def pause_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.resume_reading()


class _Accepted(_End):
    """The client's end: opens the way to the server before it reads."""

    def __init__(self, delay: float, port: int) -> None:
        super().__init__(delay)
        self._port = port
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.pause_reading()
        self._opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        _, self.other = await loop.create_connection(partial(_End, 0), "127.0.0.1", self._port)
        self.other.other = self
        for data in self._early:
            super().data_received(data)
        self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        # In Python 3.11.2 a transport that is paused as soon as it is made reads all the same.
        if hasattr(self, "other"):
            super().data_received(data)
        else:
            self._early.append(data)


async def _serve(port: int, delay: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(partial(_Accepted, delay, port), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2]) / 1000))
