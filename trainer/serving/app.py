"""Answer pictures over HTTP under the SageMaker container contract.

    SAGEMAKER_BASE_DIR=/opt/ml python -m trainer serve

    GET  /ping                   200 once the model is loaded
    GET  /execution-parameters   how Batch Transform is to call, where its job does not say
    POST /invocations            an encoded picture in, one probability per class out, in the
                                 classes' order: [0.9, 0.1], or {"prediction": [0.9, 0.1]} for
                                 Accept: application/jsonlines
    POST /invocations            as application/jsonlines, {"image": "<base64>"} on every line in,
                                 {"prediction": [0.9, 0.1]} or {"error": {…}} on every line out

Errors are {"error": {"code", "message"}}. Nothing is written, large request bodies aside, which go
through the system's temporary folder.

Each request is run alone, as many at once as there are cores, and each run may use all of them.
Of large pictures only as many are decoded at once as there is memory for (memory.py).
Pictures that arrive together are not put into one batch: on CPUs that was measured to give no more
of them a second than running them side by side (docs/serving.md), and the first would have to wait
for the second.
"""

import base64
import binascii
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from droplens.imaging import prepare
from trainer.artefact import CLASSES_FILE, INT8_FILE, MODEL_FILE, read_classes
from trainer.cpu import cores, open_session
from trainer.data.preprocess import Squash
from trainer.serving.answer import JSON, JSON_LINES, Answer, Refused, told
from trainer.serving.memory import Decoding
from trainer.serving.server import HEALTH_CHECK, Server
from trainer.settings import Folders

log = logging.getLogger(__name__)

PICTURE_TYPES = ("application/x-image", "image/jpeg", "image/png")
MAX_BYTES = prepare.Limits().max_bytes
# Of one request; at some 15 ms each, an answer comes well within InvokeEndpoint's 60 seconds.
MAX_LINES = 1000
# Of all requests that Batch Transform sends at once.
TRANSFORM_MB = 100

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


@dataclass(frozen=True, slots=True)
class Model:
    """The artefact of a training job, loaded. file: the graph that answers."""

    file: str
    session: onnxruntime.InferenceSession
    squash: Squash
    classes: list[str]
    decoding: Decoding

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load and run once, so that the first picture does not wait. Raises ValueError.

        Training keeps the int8 variant only where it is the better one to serve.
        """
        squash = Squash.read(folder)
        file = INT8_FILE if (folder / INT8_FILE).exists() else MODEL_FILE
        session = open_session(folder / file, threads=cores())
        blank = np.zeros((squash.height, squash.width, 3), np.uint8)
        answers = len(_run(session, blank))
        classes = read_classes(folder / CLASSES_FILE)
        # What memory is left is known once the net has run.
        decoding = Decoding(max(squash.width, squash.height))
        model = cls(file, session, squash, classes, decoding)
        if answers != len(model.classes):
            raise ValueError(
                f"{folder}: {file} answers for {answers} classes, {CLASSES_FILE} names "
                f"{len(model.classes)}"
            )
        return model

    def probabilities(self, data: bytes) -> list[float]:
        """One per class, of an encoded picture. Raises pictures.ImageError."""
        with self.decoding.admitted(data):
            pixels = self.squash.pixels(data)
        return _run(self.session, pixels)


def _run(session: onnxruntime.InferenceSession, pixels: NDArray[np.uint8]) -> list[float]:
    answer: list[float] = session.run(None, {"image": pixels[None]})[0][0].tolist()
    return answer


class Application:
    """The WSGI application over one model."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def __call__(self, environ: Mapping[str, Any], start: StartResponse) -> Iterable[bytes]:
        try:
            answer = self._answer(environ)
        except Refused as refused:
            answer = refused.answer()
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            *answer.headers,
        ]
        start(f"{answer.status.value} {answer.status.phrase}", headers)
        return [answer.body]

    def _answer(self, environ: Mapping[str, Any]) -> Answer:
        routes = {
            HEALTH_CHECK: ("GET", self._ping),
            "/execution-parameters": ("GET", self._execution_parameters),
            "/invocations": ("POST", self._invoke),
        }
        path = environ["PATH_INFO"]
        if path not in routes:
            raise Refused(HTTPStatus.NOT_FOUND, "http.path", f"There is no {path!r} here.")
        method, action = routes[path]
        if environ["REQUEST_METHOD"] != method:
            raise Refused(
                HTTPStatus.METHOD_NOT_ALLOWED,
                "http.method",
                f"{path} takes {method} only.",
                ("Allow", method),
            )
        return action(environ)

    def _ping(self, _: Mapping[str, Any]) -> Answer:
        return Answer(HTTPStatus.OK, b"{}")

    def _execution_parameters(self, _: Mapping[str, Any]) -> Answer:
        """https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-batch-code.html"""
        at_once = min(cores(), 16)
        value = {
            "MaxConcurrentTransforms": at_once,
            "BatchStrategy": "SINGLE_RECORD",
            "MaxPayloadInMB": min(MAX_BYTES // 2**20, TRANSFORM_MB // at_once),
        }
        return Answer(HTTPStatus.OK, json.dumps(value).encode())

    def _invoke(self, environ: Mapping[str, Any]) -> Answer:
        sent = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
        accept = environ.get("HTTP_ACCEPT", "")
        if sent == JSON_LINES:
            _negotiate(accept, JSON_LINES)
            return Answer(HTTPStatus.OK, self._answer_lines(_read(environ)), JSON_LINES)
        if sent not in PICTURE_TYPES:
            raise Refused(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "http.content_type",
                f"Content-Type is {sent!r}, expected one of "
                f"{', '.join((*PICTURE_TYPES, JSON_LINES))}.",
            )
        wanted = _negotiate(accept, JSON, JSON_LINES)
        try:
            probabilities = self.model.probabilities(_read(environ))
        except prepare.ImageError as refused:
            raise Refused(HTTPStatus.BAD_REQUEST, refused.code, refused.message) from None
        value = {"prediction": probabilities} if wanted == JSON_LINES else probabilities
        return Answer(HTTPStatus.OK, json.dumps(value).encode(), wanted)

    def _answer_lines(self, body: bytes) -> bytes:
        """A line for every line: a picture that cannot be used does not fail the others."""
        lines = body.removesuffix(b"\n").split(b"\n")
        if len(lines) > MAX_LINES:
            raise Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "http.too_many_lines",
                f"the body has {len(lines):,} lines, the limit is {MAX_LINES:,}",
            )
        return b"".join(json.dumps(self._answer_line(line)).encode() + b"\n" for line in lines)

    def _answer_line(self, line: bytes) -> dict[str, Any]:
        try:
            return {"prediction": self.model.probabilities(_picture_of(line))}
        except _MalformedLine as refused:
            return told("line.malformed", str(refused))
        except prepare.ImageError as refused:
            return told(refused.code, refused.message)


class _MalformedLine(ValueError):
    """A line of a JSON Lines body that holds no picture."""


def _picture_of(line: bytes) -> bytes:
    """The bytes in a line's `image`; its other fields are the caller's own."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise _MalformedLine("the line is not JSON") from None
    if not (isinstance(value, dict) and isinstance(value.get("image"), str)):
        raise _MalformedLine('the line is not an object with "image", a picture in base64')
    try:
        return base64.b64decode(value["image"], validate=True)
    except (binascii.Error, ValueError):
        raise _MalformedLine('"image" is not base64') from None


def _read(environ: Mapping[str, Any]) -> bytes:
    """The request's body. Raises Refused where it is over the limit."""
    length = int(environ.get("CONTENT_LENGTH") or 0)  # of a chunked body, too, once it is whole
    if length > MAX_BYTES:
        raise Refused(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "http.too_large",
            f"the body has {length:,} bytes, the limit is {MAX_BYTES:,}",
        )
    body: bytes = environ["wsgi.input"].read()
    return body


def _negotiate(accept: str, *offered: str) -> str:
    """The first type of an Accept header that can be had; weights are not looked at."""
    for part in accept.split(","):
        wanted = part.partition(";")[0].strip().lower()
        if wanted in ("", "*/*", "application/*"):
            return offered[0]
        if wanted in offered:
            return wanted
    raise Refused(HTTPStatus.NOT_ACCEPTABLE, "http.accept", f"Answers are {' or '.join(offered)}.")


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
    server = Server(Application(model), host, port)
    server.stop_on_signals()  # before anybody is told that it serves
    log.info(
        "serving %d classes on %s:%s by %s after %.2f s",
        len(model.classes),
        host,
        server.effective_port,
        model.file,
        time.monotonic() - started,
    )
    if (free := model.decoding.free) is not None:
        log.info(
            "pictures are decoded in %d MiB of memory at most; a serverless endpoint's is its "
            "stack's parameter EndpointMemoryMb",
            free >> 20,
        )
    server.run()
    log.info("stopped")
    return 0
