"""Answer pictures over HTTP under the SageMaker container contract.

    SAGEMAKER_BASE_DIR=/opt/ml python -m trainer serve

    GET  /ping          200 once the model is loaded
    POST /invocations   an encoded picture in, one probability per class out, in the classes' order:
                        [0.9, 0.1], or {"prediction": [0.9, 0.1]} for Accept: application/jsonlines

Errors are {"error": {"code", "message"}}. Nothing is written, large request bodies aside, which go
through the system's temporary folder.
"""

import json
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime
import waitress
from numpy.typing import NDArray
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer
from waitress.task import ErrorTask

from droplens import pictures
from trainer.artefact import CLASSES_FILE, MODEL_FILE, read_classes
from trainer.cpu import cores, open_session
from trainer.preprocess import Squash
from trainer.settings import Folders

log = logging.getLogger(__name__)

PICTURE_TYPES = ("application/x-image", "image/jpeg", "image/png")
JSON, JSON_LINES = "application/json", "application/jsonlines"
# SageMaker stops a container by SIGTERM and kills it 30 seconds later.
DRAIN_SECONDS = 20.0
LOOP_SECONDS = 1.0

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response; `headers` are those beside the content's type and length."""

    status: HTTPStatus
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Model:
    """The artefact of a training job, loaded."""

    session: onnxruntime.InferenceSession
    squash: Squash
    classes: list[str]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load and run once, so that the first picture does not wait. Raises ValueError."""
        squash = Squash.read(folder)
        session = open_session(folder / MODEL_FILE, threads=cores())
        model = cls(session, squash, read_classes(folder / CLASSES_FILE))
        blank = np.zeros((squash.height, squash.width, 3), np.uint8)
        answers = len(model._run(blank))
        if answers != len(model.classes):
            raise ValueError(
                f"{folder}: {MODEL_FILE} answers for {answers} classes, {CLASSES_FILE} names "
                f"{len(model.classes)}"
            )
        return model

    def probabilities(self, data: bytes) -> list[float]:
        """One per class, of an encoded picture. Raises pictures.PictureError."""
        return self._run(self.squash.pixels(data))

    def _run(self, pixels: NDArray[np.uint8]) -> list[float]:
        answer: list[float] = self.session.run(None, {"image": pixels[None]})[0][0].tolist()
        return answer


class Application:
    """The WSGI application over one model."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def __call__(self, environ: Mapping[str, Any], start: StartResponse) -> Iterable[bytes]:
        answer = self._answer(environ)
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            *answer.headers,
        ]
        start(f"{answer.status.value} {answer.status.phrase}", headers)
        return [answer.body]

    def _answer(self, environ: Mapping[str, Any]) -> Answer:
        routes = {"/ping": ("GET", self._ping), "/invocations": ("POST", self._invoke)}
        path = environ["PATH_INFO"]
        if path not in routes:
            return error(HTTPStatus.NOT_FOUND, "http.path", f"There is no {path!r} here.")
        method, action = routes[path]
        if environ["REQUEST_METHOD"] != method:
            return error(
                HTTPStatus.METHOD_NOT_ALLOWED,
                "http.method",
                f"{path} takes {method} only.",
                ("Allow", method),
            )
        return action(environ)

    def _ping(self, _: Mapping[str, Any]) -> Answer:
        return Answer(HTTPStatus.OK, b"{}")

    def _invoke(self, environ: Mapping[str, Any]) -> Answer:
        sent = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
        if sent not in PICTURE_TYPES:
            return error(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "http.content_type",
                f"Content-Type is {sent!r}, expected one of {', '.join(PICTURE_TYPES)}.",
            )
        wanted = _negotiate(environ.get("HTTP_ACCEPT", ""))
        if wanted is None:
            return error(
                HTTPStatus.NOT_ACCEPTABLE, "http.accept", f"Answers are {JSON} or {JSON_LINES}."
            )
        try:
            probabilities = self.model.probabilities(environ["wsgi.input"].read())
        except pictures.PictureError as refused:
            return error(HTTPStatus.BAD_REQUEST, refused.code, refused.message)
        value = {"prediction": probabilities} if wanted == JSON_LINES else probabilities
        return Answer(HTTPStatus.OK, json.dumps(value).encode(), wanted)


def error(status: HTTPStatus, code: str, message: str, *headers: tuple[str, str]) -> Answer:
    """A refusal as JSON, noted in the log."""
    log.info("refused status=%d code=%s: %s", status, code, message)
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    return Answer(status, body, JSON, headers)


def _negotiate(accept: str) -> str | None:
    """The first type of an Accept header that can be had; weights are not looked at."""
    for part in accept.split(","):
        wanted = part.partition(";")[0].strip().lower()
        if wanted in ("", "*/*", "application/*", JSON):
            return JSON
        if wanted == JSON_LINES:
            return JSON_LINES
    return None


class _JsonErrorTask(ErrorTask):
    """What waitress refuses by itself (malformed or too large), told as JSON too."""

    def execute(self) -> None:
        refused = self.request.error
        status = HTTPStatus(refused.code)
        code = {
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "image.too_large",
            HTTPStatus.INTERNAL_SERVER_ERROR: "server.fault",
        }.get(status, "http.malformed")
        message = f"{status.phrase}: {refused.body}."
        if status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            message = f"the body has more than {pictures.Limits().max_bytes:,} bytes"
        answer = error(status, code, message)
        self.status = f"{status.value} {status.phrase}"
        self.response_headers = [("Content-Type", answer.content_type)]
        self.content_length = len(answer.body)
        self.set_close_on_finish()
        self.write(answer.body)


class _JsonErrorChannel(HTTPChannel):
    error_task_class = _JsonErrorTask


def create_server(model: Model, host: str, port: int) -> BaseWSGIServer:
    """A bound and listening server; `server.effective_port` tells the port where 0 was asked."""
    server = waitress.create_server(
        Application(model),
        host=host,
        port=port,
        threads=max(2, cores()),
        max_request_body_size=pictures.Limits().max_bytes + 1,
        ident=None,
        asyncore_use_poll=True,
    )
    server.channel_class = _JsonErrorChannel
    return server


def run(server: BaseWSGIServer) -> None:
    """Serve until SIGTERM or SIGINT, then answer what has arrived and return."""
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True
        server.pull_trigger()  # wakes the loop

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    while not stopping:
        _turn(server)
    server.del_channel()
    server.socket.close()
    deadline = time.monotonic() + DRAIN_SECONDS
    while time.monotonic() < deadline and _is_busy(server):
        _turn(server, 0.05)
    server.task_dispatcher.shutdown()


def _turn(server: BaseWSGIServer, seconds: float = LOOP_SECONDS) -> None:
    server.asyncore.loop(timeout=seconds, use_poll=True, map=server._map, count=1)


def _is_busy(server: BaseWSGIServer) -> bool:
    channels = list(server.active_channels.values())
    return any(c.request or c.requests or c.total_outbufs_len for c in channels)


def main() -> int:
    """Serve and return the exit code: 0 after a signal, 1 where the model cannot be loaded."""
    # It warns of every request that waits its turn; how long they wait is what latency tells.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    folder = Folders.from_environment().model
    started = time.monotonic()
    try:
        model = Model.load(folder)
    except Exception:
        log.exception("cannot load the model in %s", folder)
        return 1
    host = os.environ.get("SERVE_HOST", "127.0.0.1")
    port = int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))
    server = create_server(model, host, port)
    log.info(
        "serving %d classes on %s:%s after %.2f s",
        len(model.classes),
        host,
        server.effective_port,
        time.monotonic() - started,
    )
    run(server)
    log.info("stopped")
    return 0
