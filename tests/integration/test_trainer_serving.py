"""The serving entry point over HTTP: the SageMaker contract, and bodies that mean harm."""

import base64
import contextlib
import http.client
import json
import math
import random
import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from tests.support.trainer import (
    LABELS,
    Server,
    ask,
    converse,
    drawn_records,
    serving,
)
from trainer.serving.app import MAX_BYTES, MAX_LINES, Model
from trainer.serving.response import PREDICTION_JSON

PICTURES = drawn_records(2, first_seed=100)
JPEG = PICTURES[0][1]


@pytest.fixture(scope="module")
def server(probe_base: Path, probe_weights: Path) -> Iterator[Server]:
    with serving(probe_base, probe_weights) as running:
        yield running


def encoded(kind: str) -> bytes:
    stored = BytesIO()
    Image.open(BytesIO(JPEG)).save(stored, kind)
    return stored.getvalue()


def test_ping_answers_once_the_model_is_loaded(server: Server) -> None:
    assert ask(server, method="GET", path="/ping")[0] == 200
    assert "serving 3 classes on 127.0.0.1:" in "".join(server.lines)
    assert " by model.onnx after " in "".join(server.lines)


def test_each_picture_is_answered_with_one_probability_per_class(server: Server) -> None:
    right = 0
    for label, payload in PICTURES:
        status, headers, body = ask(server, payload, Content_Type="image/jpeg")
        assert (status, headers["Content-Type"]) == (200, "application/json")
        probabilities = json.loads(body)
        assert len(probabilities) == len(LABELS)
        assert sum(probabilities) == pytest.approx(1, abs=1e-4)
        right += probabilities.index(max(probabilities)) == label
    assert right >= 5


def test_the_answer_over_http_is_the_models(server: Server, probe_base: Path) -> None:
    model = Model.load(probe_base / "model")
    for _, payload in PICTURES:
        body = ask(server, payload, Content_Type="image/jpeg")[2]
        assert json.loads(body) == pytest.approx(model.predict(payload).probabilities, abs=1e-5)


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("image/jpeg", "JPEG"),
        ("IMAGE/JPEG; q=1", "JPEG"),
        ("image/png", "PNG"),
        ("application/x-image", "PNG"),
        ("application/x-image", "WEBP"),
        ("image/jpeg", "PNG"),
    ],
)
def test_pictures_are_taken_under_every_content_type_of_the_contract(
    server: Server, content_type: str, kind: str
) -> None:
    assert ask(server, encoded(kind), Content_Type=content_type)[0] == 200


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("application/json", "application/json"),
        ("*/*", "application/json"),
        ("", "application/json"),
        ("text/html, application/json;q=0.9", "application/json"),
        ("application/jsonlines", "application/jsonlines"),
        ("Application/JSONLines;verbose=true", "application/jsonlines"),
        (f"{PREDICTION_JSON}, application/json", PREDICTION_JSON),
    ],
)
def test_the_responses_form_follows_accept(
    server: Server, probe_base: Path, accept: str, form: str
) -> None:
    status, headers, body = ask(server, JPEG, Content_Type="image/jpeg", Accept=accept)
    assert (status, headers["Content-Type"]) == (200, form)
    expected = Model.load(probe_base / "model").predict(JPEG)
    probabilities = pytest.approx(expected.probabilities, abs=1e-5)
    novelty = pytest.approx(expected.novelty, rel=1e-4)
    assert (
        json.loads(body)
        == {
            "application/json": probabilities,
            "application/jsonlines": {"prediction": probabilities, "novelty": novelty},
            PREDICTION_JSON: {"probabilities": probabilities, "novelty": novelty},
        }[form]
    )


def test_an_explanation_has_a_map_of_the_most_probable_class(
    server: Server, probe_base: Path
) -> None:
    status, _, body = ask(
        server, JPEG, Content_Type="image/jpeg", Accept=f"{PREDICTION_JSON}; explain=1"
    )
    response = json.loads(body)
    found = response.pop("class_map")
    model = Model.load(probe_base / "model")
    assert status == 200
    assert response == {
        "probabilities": pytest.approx(model.predict(JPEG).probabilities, abs=1e-5),
        "novelty": pytest.approx(model.predict(JPEG).novelty, rel=1e-4),
    }
    assert found["label"] == int(np.argmax(response["probabilities"]))
    cells = (math.ceil(side / 16) for side in (model.resize.height, model.resize.width))
    assert (found["height"], found["width"]) == tuple(cells)
    assert np.array(found["values"]).shape == (found["height"], found["width"])
    assert np.ptp(found["values"]) > 0


def test_a_model_of_an_earlier_version_is_served_without_a_novelty(
    probe_base: Path, probe_weights: Path, tmp_path: Path
) -> None:
    shutil.copytree(probe_base / "model", tmp_path / "model")
    graph = onnx.load(str(probe_base / "model/model.onnx"))
    outputs = [each for each in graph.graph.output if each.name == "probabilities"]
    del graph.graph.output[:]
    graph.graph.output.extend(outputs)
    onnx.save(graph, str(tmp_path / "model/model.onnx"))
    with serving(tmp_path, probe_weights) as server:
        for accept, form in (
            (PREDICTION_JSON, "probabilities"),
            ("application/jsonlines", "prediction"),
        ):
            status, _, body = ask(server, JPEG, Content_Type="image/jpeg", Accept=accept)
            response = json.loads(body)
            assert status == 200
            assert len(response.pop(form)) == len(LABELS)
            assert response == ({"novelty": None} if form == "probabilities" else {})
        status, _, body = ask(
            server, JPEG, Content_Type="image/jpeg", Accept=f"{PREDICTION_JSON};explain=1"
        )
        assert (status, json.loads(body)["class_map"]) == (200, None)


def test_a_graph_without_probabilities_is_not_served(probe_base: Path, tmp_path: Path) -> None:
    shutil.copytree(probe_base / "model", tmp_path / "model")
    graph = onnx.load(str(probe_base / "model/model.onnx"))
    del graph.graph.output[0]
    onnx.save(graph, str(tmp_path / "model/model.onnx"))
    with pytest.raises(ValueError, match="has no output probabilities, only novelty"):
        Model.load(tmp_path / "model")


def line(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def picture_line(payload: bytes, **more: object) -> bytes:
    return line(image=base64.b64encode(payload).decode(), **more)


def test_every_line_of_json_lines_is_answered_and_none_fails_another(
    server: Server, probe_base: Path
) -> None:
    first, last = PICTURES[0][1], PICTURES[-1][1]
    lines = {
        "first": picture_line(first, id=7),
        "line.malformed": b"{not json",
        "no object": b"[]",
        "no picture": line(id=8),
        "no text": line(image=7),
        "no base64": line(image="a%20b"),
        "blank": b"",
        "image.unreadable": picture_line(b"no"),
        "image.empty": picture_line(b""),
        "last": picture_line(last) + b"\r",
    }
    body = b"\n".join(lines.values()) + b"\n"
    status, headers, text = ask(server, body, Content_Type="application/jsonlines", Accept="*/*")
    assert (status, headers["Content-Type"]) == (200, "application/jsonlines")
    answers = dict(zip(lines, map(json.loads, text.decode().splitlines()), strict=True))
    model = Model.load(probe_base / "model")
    for name, payload in (("first", first), ("last", last)):
        expected = model.predict(payload)
        assert answers.pop(name) == {
            "prediction": pytest.approx(expected.probabilities, abs=1e-5),
            "novelty": pytest.approx(expected.novelty, rel=1e-4),
        }
    for name, answer in answers.items():
        code = name if "." in name else "line.malformed"
        assert answer["error"]["code"] == code
        assert answer["error"]["message"]


def test_batch_transform_is_told_what_may_be_sent_at_once(server: Server) -> None:
    status, _, body = ask(server, method="GET", path="/execution-parameters")
    told = json.loads(body)
    assert (status, told["BatchStrategy"]) == (200, "SINGLE_RECORD")
    # SageMaker's own bounds, and ours.
    assert 1 <= told["MaxConcurrentTransforms"] <= 100
    assert 1 <= told["MaxPayloadInMB"] <= MAX_BYTES / 2**20
    assert told["MaxConcurrentTransforms"] * told["MaxPayloadInMB"] <= 100


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "code"),
    [
        ("POST", "/invocations", {"Content_Type": "text/csv"}, JPEG, 415, "http.content_type"),
        ("POST", "/invocations", {}, JPEG, 415, "http.content_type"),
        (
            "POST",
            "/invocations",
            {"Content_Type": "image/jpeg", "Accept": "text/html"},
            JPEG,
            406,
            "http.accept",
        ),
        ("POST", "/invocations", {"Content_Type": "image/jpeg"}, b"", 400, "image.empty"),
        ("POST", "/invocations", {"Content_Type": "image/png"}, b"no", 400, "image.unreadable"),
        (
            "POST",
            "/invocations",
            {"Content_Type": "image/jpeg"},
            JPEG[: len(JPEG) // 2],
            400,
            "image.unreadable",
        ),
        ("GET", "/invocations", {}, b"", 405, "http.method"),
        ("POST", "/ping", {}, b"", 405, "http.method"),
        ("PUT", "/invocations", {"Content_Type": "image/jpeg"}, JPEG, 405, "http.method"),
        ("POST", "/execution-parameters", {}, b"", 405, "http.method"),
        (
            "POST",
            "/invocations",
            {"Content_Type": "application/jsonlines", "Accept": "application/json"},
            b"{}",
            406,
            "http.accept",
        ),
        (
            "POST",
            "/invocations",
            {"Content_Type": "application/jsonlines"},
            b"{}\n" * (MAX_LINES + 1),
            413,
            "http.too_many_lines",
        ),
        ("GET", "/", {}, b"", 404, "http.path"),
        ("GET", "/invocations/../etc", {}, b"", 404, "http.path"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_a_reason(
    server: Server,
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes,
    status: int,
    code: str,
) -> None:
    got, answered, text = ask(server, body, method, path, **headers)
    assert (got, answered["Content-Type"]) == (status, "application/json")
    error = json.loads(text)["error"]
    assert error["code"] == code
    assert error["message"]
    if status == 405:
        assert answered["Allow"] in ("GET", "POST")


def test_a_body_over_the_limit_is_refused_before_it_is_sent(server: Server) -> None:
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
    reply = converse(server, head + b"Content-Length: 99999999999\r\n\r\n")
    headers, _, body = reply.partition(b"\r\n\r\n")
    assert headers.startswith(b"HTTP/1.1 413 ")
    assert json.loads(body)["error"] == {
        "code": "http.too_large",
        "message": "the body has more than 104,857,600 bytes",
    }


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("size", "status", "code"),
    [(MAX_BYTES, 400, "image.unreadable"), (MAX_BYTES + 1, 413, "http.too_large")],
)
def test_a_body_at_the_limit_is_read_and_one_above_is_refused_when_it_was_sent(
    server: Server, size: int, status: int, code: str, *, chunked: bool
) -> None:
    body = b"x" * size
    got, _, text = ask(server, iter([body]) if chunked else body, Content_Type="image/jpeg")
    assert (got, json.loads(text)["error"]["code"]) == (status, code)


def test_a_chunked_body_is_read(server: Server) -> None:
    head = (
        b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
        b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    reply = converse(server, head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(JPEG), JPEG))
    assert reply.startswith(b"HTTP/1.1 200 ")
    assert len(json.loads(reply.partition(b"\r\n\r\n")[2])) == len(LABELS)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\xff\xfe\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nContent-Length: minus one\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /ping HTTP/1.1\r\nno colon here\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nA : b\r\n\r\n",
        b"POST /%ff%fe%00 HTTP/1.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ],
)
def test_malformed_requests_get_a_4xx_in_json(server: Server, sent: bytes) -> None:
    reply = converse(server, sent)
    assert reply.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), reply[:200]
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["error"]["message"]
    assert ask(server, method="GET", path="/ping")[0] == 200


def hostile_bodies() -> Iterator[bytes]:
    """Noise, cut and overwritten pictures of every kind; the same on every run."""
    choose = random.Random(7)
    for size in (1, 2, 3, 16, 1000, 100_000):
        yield choose.randbytes(size)
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"):
        whole = encoded(kind)
        for _ in range(12):
            yield whole[: choose.randrange(len(whole))]
            damaged = bytearray(whole)
            for _ in range(choose.choice((1, 5, 50))):
                # Most faults hide in the headers.
                place = choose.randrange(choose.choice((40, len(whole))))
                damaged[place] = choose.randrange(256)
            yield bytes(damaged)


def test_no_body_brings_the_server_down_or_to_a_500(server: Server) -> None:
    bodies = list(hostile_bodies())

    def send(body: bytes) -> tuple[int, bytes]:
        status, _, text = ask(server, body, Content_Type="application/x-image")
        return status, text

    with ThreadPoolExecutor(4) as executor:
        answers = list(executor.map(send, bodies))
    assert {status for status, _ in answers} == {200, 400}
    for status, text in answers:
        if status == 400:
            assert json.loads(text)["error"]["code"].startswith("image.")
    assert "Traceback" not in "".join(server.lines)
    assert ask(server, JPEG, Content_Type="image/jpeg")[0] == 200


def test_a_model_that_does_not_fit_its_classes_is_not_served(
    probe_base: Path, probe_weights: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for path in (probe_base / "model").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "classes.json").write_text('["one", "two"]', "utf-8")
    with pytest.raises(ValueError, match="outputs for 3 classes"):
        Model.load(folder)
    with (
        pytest.raises(AssertionError, match="outputs for 3 classes"),
        serving(tmp_path, probe_weights),
    ):
        pass


def test_starting_needs_neither_the_fitting_libraries_nor_the_weights(probe_base: Path) -> None:
    nowhere = probe_base / "no-weights"
    with serving(probe_base, nowhere, PYTHONPROFILEIMPORTTIME="1") as server:
        assert ask(server, method="GET", path="/ping")[0] == 200
        imported = {line.rsplit("|")[-1].strip() for line in server.lines if "import time" in line}
    assert "onnxruntime" in imported
    assert not {"scipy", "onnx", "onnxruntime.quantization"} & imported


@pytest.mark.parametrize("begun", [b"", b"POST /invocations HTTP/1.1\r\nX-Slow: "])
def test_a_health_check_is_answered_beside_hundreds_of_slow_connections(
    server: Server, begun: bytes
) -> None:
    """SageMaker waits two seconds. Once 500 are accepted, nobody more is before some are closed,
    which took 20 seconds and more."""
    with contextlib.ExitStack() as opened:
        for _ in range(520):
            line = opened.enter_context(
                socket.create_connection(("127.0.0.1", server.port), timeout=10)
            )
            line.sendall(begun)
        for _ in range(3):
            health = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            with contextlib.closing(health):
                health.request("GET", "/ping")
                assert health.getresponse().status == 200
        assert ask(server, JPEG, Content_Type="image/jpeg")[0] == 200


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"]
)
def test_what_a_web_page_may_send_without_asking_is_not_answered(server: Server, kind: str) -> None:
    """Of a local cloud's endpoints the port is open to every page on this machine. Any other type
    than these a browser sends after a preflight only: https://fetch.spec.whatwg.org/."""
    assert ask(server, JPEG, Content_Type=kind)[0] == 415
    status, headers, _ = ask(server, method="OPTIONS", Content_Type="image/jpeg")
    assert status == 405
    assert not [name for name in headers if name.lower().startswith("access-control")]
