"""The serving process and clients that are slow, rude or many, faults of its own, and its end."""

import json
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.trainer import (
    LABELS,
    Server,
    ask,
    drawn_records,
    serving,
)
from trainer.serving import server as listen

JPEG = drawn_records(1, first_seed=100)[0][1]
HEAD = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
REQUEST = HEAD + b"Content-Length: %d\r\n\r\n" % len(JPEG) + JPEG
PING = b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def server(probe_base: Path, probe_weights: Path) -> Iterator[Server]:
    with serving(probe_base, probe_weights) as running:
        yield running


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def read_answer(connection: socket.socket) -> tuple[int, Any]:
    """Status and JSON of the next answer on a connection that may carry more of them."""
    with connection.makefile("rb", buffering=0) as stream:
        status = int(stream.readline().split()[1])
        length = 0
        while (header := stream.readline().strip().lower()) != b"":
            name, _, value = header.partition(b":")
            length = int(value) if name == b"content-length" else length
        body = b""
        while len(body) < length:
            body += stream.read(length - len(body)) or b""
    return status, json.loads(body)


def is_well(server: Server) -> bool:
    return ask(server, JPEG, Content_Type="image/jpeg")[0] == 200


def test_a_connection_is_kept_for_further_requests(server: Server) -> None:
    with connect(server.port) as connection:
        for _ in range(3):
            connection.sendall(REQUEST)
            status, answer = read_answer(connection)
            assert (status, len(answer)) == (200, len(LABELS))


def test_requests_sent_in_one_go_are_answered_in_their_order(server: Server) -> None:
    with connect(server.port) as connection:
        connection.sendall(REQUEST + PING + b"GET /gone HTTP/1.1\r\nHost: x\r\n\r\n" + REQUEST)
        answers = [read_answer(connection) for _ in range(4)]
    assert [status for status, _ in answers] == [200, 200, 404, 200]
    assert answers[0] == answers[3]
    assert answers[1][1] == {}


def test_a_client_that_asks_first_whether_to_send_is_told_to(server: Server) -> None:
    with connect(server.port) as connection:
        length = b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(JPEG)
        connection.sendall(HEAD + length)
        assert connection.recv(1024) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(JPEG)
        assert read_answer(connection)[0] == 200


@pytest.mark.parametrize("reset", [False, True])
def test_clients_that_hang_up_in_the_middle_leave_nothing_behind(
    server: Server, *, reset: bool
) -> None:
    for sent in range(0, len(REQUEST), len(REQUEST) // 40):
        with connect(server.port) as connection:
            if reset:
                linger_for_no_time = b"\x01\0\0\0\0\0\0\0"
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_for_no_time)
            connection.sendall(REQUEST[:sent])
    assert is_well(server)
    assert "Traceback" not in "".join(server.lines)


def test_a_client_that_does_not_wait_for_its_answer_harms_nobody(server: Server) -> None:
    for _ in range(20):
        with connect(server.port) as connection:
            connection.sendall(REQUEST)
    assert is_well(server)
    assert "Traceback" not in "".join(server.lines)


def test_slow_clients_hold_up_nobody_and_are_cut_off_in_the_end(
    probe_base: Path, probe_weights: Path
) -> None:
    soon = "import trainer.serving.server; trainer.serving.server.REQUEST_SECONDS = 2"
    with ExitStack() as stack:
        server = stack.enter_context(serving(probe_base, probe_weights, soon))
        # Far more of them than threads; some have sent a part of the head, some all but the end.
        slow = [stack.enter_context(connect(server.port)) for _ in range(60)]
        for number, connection in enumerate(slow):
            connection.sendall(REQUEST[: 1 + number * (len(REQUEST) - 60) // len(slow)])
        assert is_well(server)
        silent, dripping = slow[::2], set(slow[1::2])
        while dripping:
            for connection in list(dripping):
                try:
                    connection.send(b"-")
                    cut_off = select.select([connection], [], [], 0.01)[0]
                except ConnectionError:  # a byte that comes after the end resets the connection
                    cut_off = [connection]
                dripping.difference_update(cut_off)
        for connection in silent:
            status, answer = read_answer(connection)
            assert (status, answer["error"]["code"]) == (408, "http.too_slow")
            assert connection.recv(1) == b""
        assert is_well(server)
        assert "Traceback" not in "".join(server.lines)


class Held:
    """An application that answers a picture when it may, and notes what it was asked."""

    def __init__(self) -> None:
        self.may = threading.Semaphore(0)
        self.asked = threading.Semaphore(0)
        self.answered: list[str] = []

    def __call__(
        self, environ: Mapping[str, Any], start: Callable[[str, list[tuple[str, str]]], Any]
    ) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        self.asked.release()
        if path != "/ping":
            assert self.may.acquire(timeout=60)
        self.answered.append(path)
        start("200 OK", [("Content-Length", "2"), ("Content-Type", "application/json")])
        return [b"{}"]


def test_a_health_check_is_answered_while_every_thread_has_a_picture() -> None:
    application = Held()
    server = listen.Server(application, "127.0.0.1", 0)
    stopped = threading.Event()

    def loop() -> None:
        while not stopped.is_set():
            server._turn(0.05)

    looping = threading.Thread(target=loop)
    looping.start()
    threads = len(server.task_dispatcher.threads)
    try:
        with ExitStack() as stack:
            pictures = [
                stack.enter_context(connect(server.effective_port)) for _ in range(threads + 3)
            ]
            for connection in pictures:
                connection.sendall(REQUEST)
            for _ in range(threads):  # each thread has one, the rest waits
                assert application.asked.acquire(timeout=60)
            check = stack.enter_context(connect(server.effective_port))
            check.sendall(PING)
            assert read_answer(check) == (200, {})
            assert application.answered == ["/ping"]
            for _ in pictures:
                application.may.release()
            assert [read_answer(connection)[0] for connection in pictures] == [200] * len(pictures)
    finally:
        stopped.set()
        looping.join()
        server.task_dispatcher.shutdown()
        server.close()


def test_a_fault_of_our_own_is_a_500_and_the_server_lives_on(
    probe_base: Path, probe_weights: Path
) -> None:
    faulty = """
import trainer.serving.app as serve
def fail(model, data, _sound=serve.Model.predict):
    return 1 / 0 if data == b"boom" else _sound(model, data)
serve.Model.predict = fail
"""
    with serving(probe_base, probe_weights, faulty) as server:
        for _ in range(8):  # more than threads
            status, headers, body = ask(server, b"boom", Content_Type="image/jpeg")
            assert (status, headers["Content-Type"]) == (500, "application/json")
            assert json.loads(body)["error"]["code"] == "server.fault"
            assert b"ZeroDivision" not in body
        assert is_well(server)
    assert "ZeroDivisionError" in "".join(server.lines)


def test_a_request_under_way_is_answered_when_the_server_is_stopped(
    probe_base: Path, probe_weights: Path
) -> None:
    with serving(probe_base, probe_weights) as server:
        with connect(server.port) as raw:
            raw.sendall(REQUEST[:-100])
            # The server turns to a second connection only after it has read the first one's bytes.
            assert ask(server, method="GET", path="/ping")[0] == 200
            server.process.send_signal(signal.SIGTERM)
            raw.sendall(REQUEST[-100:])
            assert read_answer(raw)[0] == 200
        assert server.process.wait(60) == 0
    assert "stopped" in "".join(server.lines)
    with pytest.raises(ConnectionRefusedError):
        connect(server.port)


def test_all_who_have_asked_are_answered_when_the_server_is_stopped(
    probe_base: Path, probe_weights: Path
) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(serving(probe_base, probe_weights))
        connections = [stack.enter_context(connect(server.port)) for _ in range(40)]
        for connection in connections:
            connection.sendall(REQUEST)
        server.process.send_signal(signal.SIGTERM)
        assert [read_answer(connection)[0] for connection in connections] == [200] * 40
        assert server.process.wait(60) == 0
        assert "Traceback" not in "".join(server.lines)


def test_who_has_connected_may_ask_for_a_moment_after_the_stop(
    probe_base: Path, probe_weights: Path
) -> None:
    """As when the kernel is slow to deliver what was sent before."""
    with serving(probe_base, probe_weights) as server, connect(server.port) as connection:
        server.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        connection.sendall(REQUEST)
        assert read_answer(connection)[0] == 200
        assert server.process.wait(60) == 0


# As if the process had been stopped by a busy machine just after it said that it serves.
LATE = """
import time
from trainer.serving import server as http
run = http.Server.run
def late(server):
    time.sleep(1)
    run(server)
http.Server.run = late
"""


def test_a_server_can_be_stopped_as_soon_as_it_says_that_it_serves(
    probe_base: Path, probe_weights: Path
) -> None:
    with serving(probe_base, probe_weights, LATE) as server, connect(server.port) as connection:
        connection.sendall(REQUEST)
        server.process.send_signal(signal.SIGTERM)
        assert read_answer(connection)[0] == 200
        assert server.process.wait(60) == 0


# Python tells an audit hook of every file that is opened and of every change of a folder.
WATCH = """
import os
os.environ.pop("HOME", None)
changes = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate")
def watch(event, values):
    writes = event == "open" and values[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if writes or event in changes:
        print("changes", values[0], flush=True)
sys.addaudithook(watch)
"""


def test_serving_writes_only_large_bodies_and_those_to_the_temporary_folder(
    probe_base: Path, probe_weights: Path, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in probe_base.rglob("*")}
    more = {"TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    with serving(probe_base, probe_weights, WATCH, **more) as server:
        assert is_well(server)
        assert not [line for line in server.lines if line.startswith("changes")]
        assert ask(server, b"x" * 2**20, Content_Type="image/jpeg")[0] == 400
    changed = {line.split()[1] for line in server.lines if line.startswith("changes")}
    assert changed
    assert all(Path(path).is_relative_to(tmp_path) for path in changed)
    assert list(tmp_path.iterdir()) == []
    assert {path: path.stat().st_mtime_ns for path in probe_base.rglob("*")} == before
