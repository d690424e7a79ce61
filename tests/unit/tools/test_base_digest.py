"""The base images' digest comes from their registry, by the protocol that registries have."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tools.base_digest import DOCKERFILES, ROOT, main

OLD, NEW = "sha256:" + "0" * 64, "sha256:" + "1" * 64
INDEX = "application/vnd.oci.image.index.v1+json"


class Registry(ThreadingHTTPServer):
    """One repository, for whoever brings the token that it gives to anybody."""

    kind = INDEX

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.address = f"127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    server: Registry

    def do_HEAD(self) -> None:
        authorized = self.headers.get("Authorization") == "Bearer anonymous"
        found = self.path == "/v2/docker/library/python/manifests/3.13-slim"
        self.send_response(404 if not found else 200 if authorized else 401)
        if not authorized:
            realm = f"http://{self.server.address}/token/"
            challenge = f'Bearer realm="{realm}",service="here",scope="repository:x:pull"'
            self.send_header("WWW-Authenticate", challenge)
        self.send_header("Docker-Content-Digest", NEW)
        self.send_header("Content-Type", self.server.kind)
        self.end_headers()

    def do_GET(self) -> None:
        assert self.path == "/token/?service=here&scope=repository%3Ax%3Apull"
        body = json.dumps({"token": "anonymous"}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def registry() -> Iterator[Registry]:
    server = Registry()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def dockerfiles(registry: Registry, tmp_path: Path) -> Path:
    for name in DOCKERFILES:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(
            f"ARG BASE_REGISTRY={registry.address}/docker/library\n"
            f"FROM ${{BASE_REGISTRY}}/python:3.13-slim@{OLD}\nRUN true\n"
        )
    return tmp_path


def test_an_older_digest_is_replaced_everywhere(dockerfiles: Path) -> None:
    assert main(["--check"], dockerfiles) == 1
    assert all(OLD in (dockerfiles / name).read_text() for name in DOCKERFILES)
    assert main([], dockerfiles) == 0
    assert all(f"@{NEW}\nRUN true" in (dockerfiles / name).read_text() for name in DOCKERFILES)
    assert main(["--check"], dockerfiles) == 0


def test_what_is_no_index_of_platforms_is_not_taken(
    registry: Registry, dockerfiles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.kind = "application/vnd.oci.image.manifest.v1+json"
    assert main([], dockerfiles) == 2
    assert "no index of platforms" in capsys.readouterr().err


def test_a_registry_that_does_not_answer_is_named(
    dockerfiles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in DOCKERFILES:
        path = dockerfiles / name
        path.write_text(path.read_text().replace("docker/library", "elsewhere"))
    assert main([], dockerfiles) == 2
    assert "/v2/elsewhere/python/manifests/3.13-slim: HTTP Error 404" in capsys.readouterr().err


def test_both_images_start_from_the_same_base() -> None:
    starts = {
        tuple(
            line
            for line in (ROOT / name).read_text("utf-8").splitlines()
            if line.startswith(("ARG BASE_REGISTRY=", "FROM "))
        )
        for name in DOCKERFILES
    }
    [(registry, base)] = starts
    assert registry == "ARG BASE_REGISTRY=public.ecr.aws/docker/library"
    assert base.startswith("FROM ${BASE_REGISTRY}/python:3.13-slim@sha256:")
