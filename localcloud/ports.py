"""Free TCP ports of this machine."""

import socket
from contextlib import ExitStack

from localcloud.settings import HOST


def free_ports(count: int) -> list[int]:
    """`count` different ports of 127.0.0.1 on which no process listens now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]


def free_port() -> int:
    """A port of 127.0.0.1 on which no process listens now."""
    return free_ports(1)[0]
