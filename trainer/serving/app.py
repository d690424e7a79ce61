"""Classify images over HTTP under the SageMaker container contract.

    SAGEMAKER_BASE_DIR=/opt/ml python -m trainer serve

    GET  /ping                   200 once the model is loaded
    GET  /execution-parameters   Batch Transform's defaults for settings that a job does not give
    POST /invocations            an encoded image in, one probability per class out, in the
                                 classes' order: [0.9, 0.1]; by Accept also
        application/jsonlines                          {"prediction": [0.9, 0.1], "novelty": 1.2}
        application/vnd.droplens.prediction+json    {"probabilities": [0.9, 0.1], "novelty": 1.2}
        the same;explain=1    {…, "class_map": {"label": 0, "height": 2, "width": 1, "values": …}}
    POST /invocations            as application/jsonlines, {"image": "<base64>"} on every line in,
                                 {"prediction": [0.9, 0.1], "novelty": 1.2} or {"error": {…}} on
                                 every line out

A model of an earlier version has no novelty: then lines of JSON lack it, and elsewhere it is null.
The class map says which regions of the image speak for its most probable class (nets/class_map.py);
null where the network has none.
Errors are {"error": {"code", "message"}}. Nothing is written to disk except large request bodies,
in the system's temporary folder.

Each image is a run of its own. There are as many runs at once as cores, and each may use all cores.
memory.py bounds how many large images are decoded at once. Concurrent images are not batched: on
CPUs that had no higher throughput than separate runs (docs/serving.md), and the first image of a
batch would wait for the second.
"""

import base64
import binascii
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from droplens.imaging import prepare
from droplens.inference.cores import cores
from droplens.inference.network import Explanation, Network, Prediction
from trainer.artefact import CLASSES_FILE, read_classes, served
from trainer.data.preprocess import Resize
from trainer.serving.memory import DecodingMemory
from trainer.serving.response import (
    JSON,
    JSON_LINES,
    PREDICTION_JSON,
    RequestError,
    Response,
    error_json,
)
from trainer.serving.server import HEALTH_CHECK, Server
from trainer.settings import Folders

log = logging.getLogger(__name__)

IMAGE_TYPES = ("application/x-image", "image/jpeg", "image/png")
MAX_BYTES = prepare.Limits().max_bytes
# Of one request; at some 15 ms each, the response is well within InvokeEndpoint's 60 seconds.
MAX_LINES = 1000
# Of all concurrent requests of Batch Transform.
TRANSFORM_MB = 100

# A parameter of PREDICTION_JSON in an Accept header.
_EXPLAIN = re.compile(rf"{re.escape(PREDICTION_JSON)}\s*;\s*explain=1\b", re.IGNORECASE)

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


@dataclass(frozen=True, slots=True)
class Model:
    """The artefact of a training job, loaded. file: name of the graph in use."""

    file: str
    network: Network
    resize: Resize
    classes: list[str]
    decoding: DecodingMemory

    @classmethod
    def load(cls, folder: Path, threads: int | None = None) -> Self:
        """Load and run once, so that the first request is not slower. Raises ValueError.

        Takes the int8 variant where there is one: training keeps it only where it is better.
        threads: of one run; None: as many as there are cores.
        """
        resize = Resize.read(folder)
        path = served(folder)
        try:
            network = Network.load(path, threads or cores(), (resize.height, resize.width))
        except ValueError as error:
            raise ValueError(f"{path} {error}") from error
        classes = read_classes(folder / CLASSES_FILE)
        # After a run, since free memory is measured without that of the network.
        decoding = DecodingMemory(max(resize.width, resize.height))
        if network.classes != len(classes):
            raise ValueError(
                f"{folder}: {path.name} has outputs for {network.classes} classes, {CLASSES_FILE} "
                f"names {len(classes)}"
            )
        return cls(path.name, network, resize, classes, decoding)

    def predict(self, data: bytes) -> Prediction:
        """The prediction for an encoded image. Raises prepare.ImageError."""
        return self.network.predict(self._pixels(data))

    def explain(self, data: bytes) -> Explanation:
        """As `predict`, with a class map."""
        return self.network.explain(self._pixels(data))

    def _pixels(self, data: bytes) -> NDArray[np.uint8]:
        with self.decoding.admitted(data):
            return self.resize.pixels(data)


class Application:
    """The WSGI application over one model."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def __call__(self, environ: Mapping[str, Any], start: StartResponse) -> Iterable[bytes]:
        try:
            response = self._respond(environ)
        except RequestError as error:
            response = error.response()
        headers = [
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
            *response.headers,
        ]
        start(f"{response.status.value} {response.status.phrase}", headers)
        return [response.body]

    def _respond(self, environ: Mapping[str, Any]) -> Response:
        routes = {
            HEALTH_CHECK: ("GET", self._ping),
            "/execution-parameters": ("GET", self._execution_parameters),
            "/invocations": ("POST", self._invoke),
        }
        path = environ["PATH_INFO"]
        if path not in routes:
            raise RequestError(HTTPStatus.NOT_FOUND, "http.path", f"There is no {path!r} here.")
        method, action = routes[path]
        if environ["REQUEST_METHOD"] != method:
            raise RequestError(
                HTTPStatus.METHOD_NOT_ALLOWED,
                "http.method",
                f"{path} takes {method} only.",
                ("Allow", method),
            )
        return action(environ)

    def _ping(self, _: Mapping[str, Any]) -> Response:
        return Response(HTTPStatus.OK, b"{}")

    def _execution_parameters(self, _: Mapping[str, Any]) -> Response:
        """https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-batch-code.html"""
        at_once = min(cores(), 16)
        value = {
            "MaxConcurrentTransforms": at_once,
            "BatchStrategy": "SINGLE_RECORD",
            "MaxPayloadInMB": min(MAX_BYTES // 2**20, TRANSFORM_MB // at_once),
        }
        return Response(HTTPStatus.OK, json.dumps(value).encode())

    def _invoke(self, environ: Mapping[str, Any]) -> Response:
        sent = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
        accept = environ.get("HTTP_ACCEPT", "")
        if sent == JSON_LINES:
            _negotiate(accept, JSON_LINES)
            return Response(HTTPStatus.OK, self._predict_lines(_read(environ)), JSON_LINES)
        if sent not in IMAGE_TYPES:
            raise RequestError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "http.content_type",
                f"Content-Type is {sent!r}, expected one of "
                f"{', '.join((*IMAGE_TYPES, JSON_LINES))}.",
            )
        accepted = _negotiate(accept, JSON, JSON_LINES, PREDICTION_JSON)
        explains = accepted == PREDICTION_JSON and _EXPLAIN.search(accept)
        predict = self.model.explain if explains else self.model.predict
        try:
            prediction = predict(_read(environ))
        except prepare.ImageError as error:
            raise RequestError(HTTPStatus.BAD_REQUEST, error.code, error.message) from None
        value = _FORMS[accepted](prediction)
        return Response(HTTPStatus.OK, json.dumps(value).encode(), accepted)

    def _predict_lines(self, body: bytes) -> bytes:
        """A line of JSON for every line; one that cannot be used does not fail the others."""
        lines = body.removesuffix(b"\n").split(b"\n")
        if len(lines) > MAX_LINES:
            raise RequestError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "http.too_many_lines",
                f"the body has {len(lines):,} lines, the limit is {MAX_LINES:,}",
            )
        return b"".join(json.dumps(self._predict_line(line)).encode() + b"\n" for line in lines)

    def _predict_line(self, line: bytes) -> dict[str, Any]:
        try:
            return _line(self.model.predict(_image_of(line)))
        except _MalformedLine as error:
            return error_json("line.malformed", str(error))
        except prepare.ImageError as error:
            return error_json(error.code, error.message)


def _line(prediction: Prediction) -> dict[str, Any]:
    """As the built-in algorithm returns it, and with the novelty where the model has it."""
    line: dict[str, Any] = {"prediction": prediction.probabilities}
    if prediction.novelty is not None:
        line["novelty"] = prediction.novelty
    return line


def _object(prediction: Prediction) -> dict[str, Any]:
    """All of it; an explanation's class map as an object with its class's number."""
    value: dict[str, Any] = {
        "probabilities": prediction.probabilities,
        "novelty": prediction.novelty,
    }
    if isinstance(prediction, Explanation):
        value["class_map"] = None
        if (found := prediction.class_map) is not None:
            value["class_map"] = {
                "label": int(np.argmax(prediction.probabilities)),
                "height": found.shape[0],
                "width": found.shape[1],
                "values": found.tolist(),
            }
    return value


_FORMS: dict[str, Callable[[Prediction], Any]] = {
    JSON: lambda prediction: prediction.probabilities,
    JSON_LINES: _line,
    PREDICTION_JSON: _object,
}


class _MalformedLine(ValueError):
    """A line of a JSON Lines body without an image."""


def _image_of(line: bytes) -> bytes:
    """The bytes in a line's `image`; other fields are ignored."""
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
    """The request's body. Raises RequestError where it is larger than the limit."""
    length = int(environ.get("CONTENT_LENGTH") or 0)  # also set for a complete chunked body
    if length > MAX_BYTES:
        raise RequestError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "http.too_large",
            f"the body has {length:,} bytes, the limit is {MAX_BYTES:,}",
        )
    body: bytes = environ["wsgi.input"].read()
    return body


def _negotiate(accept: str, *offered: str) -> str:
    """The first offered type in an Accept header, whose weights are ignored."""
    for part in accept.split(","):
        accepted = part.partition(";")[0].strip().lower()
        if accepted in ("", "*/*", "application/*"):
            return offered[0]
        if accepted in offered:
            return accepted
    raise RequestError(
        HTTPStatus.NOT_ACCEPTABLE, "http.accept", f"Answers are {', '.join(offered)}."
    )


def main() -> int:
    """Serve and return the exit code: 0 after a signal, 1 where the model cannot be loaded."""
    # It warns of every request that is queued, which the latency metric covers.
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
    server.stop_on_signals()  # before the log line that it serves
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
