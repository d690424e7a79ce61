"""Serves the console on this machine, until it is interrupted."""

import socket
import threading
import webbrowser

import uvicorn

from droplens_cli.errors import CommandError, ExitCode
from droplens_cli.target import Target
from droplens_console.app import application
from droplens_console.security import Access
from droplens_console.stack import ConsoleStack

HOST = "127.0.0.1"
# Streams of events end within POLL_SECONDS and the time that their last reading takes.
_LAST_SECONDS = 8
_MOST_CONNECTIONS = 100


def serve(target: Target, port: int, *, browser: bool) -> None:
    """Serve the console of the target's stack. port: 0 for a free one; browser: open one.

    Raises CommandError where the port is taken or there is no such stack.
    """
    stack = ConsoleStack(target)
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
        except OSError as error:
            raise CommandError(
                f"the console cannot listen on {HOST}:{port}: {error.strerror}",
                "another --port, or none for a free one",
                ExitCode.USAGE,
            ) from None
        access = Access(listening.getsockname()[1])
        # The address has a token: no log of requests.
        app = application(stack, access)
        config = uvicorn.Config(
            app,
            access_log=False,
            limit_concurrency=_MOST_CONNECTIONS,
            log_level="warning",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_LAST_SECONDS,
            ws="none",
        )
        server = uvicorn.Server(config)
        app.state.ends = lambda: server.should_exit
        listening.listen()
        print(f"Console of {target}:\n\n  {access.address}\n\nCtrl-C ends it.", flush=True)
        if browser:
            # It connects while the server starts: the socket listens already.
            address = access.address_once()
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:
            return
