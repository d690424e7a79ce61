"""A model archive is read once, within bounds, and believed only where it is as expected."""

import io
import json
import tarfile
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from droplens.domain.errors import RetryLater
from droplens.evaluation.artefact import (
    MAX_BYTES,
    MAX_FILES,
    Artefact,
    Suspect,
    named_suspects,
    read_artefact,
)
from droplens.state.packed import read_packed
from tests.support.aws_account import BUCKET, Cloud
from tests.support.builders import RUN, artefact, pack

KEY = f"training/cars/{RUN.run_id}/job/output/model.tar.gz"
URI = f"s3://{BUCKET}/{KEY}"
LINE = {"record": 3, "label": 1, "likely": 0, "probability": 0.01, "likely_probability": 1}


def read(cloud: Cloud, archive: bytes) -> Artefact:
    cloud.put(KEY, archive)
    return read_artefact(cloud.bucket, URI, 2)


def line(**changes: Any) -> bytes:
    return json.dumps({**LINE, **changes}).encode() + b"\n"


def test_both_reports_are_read_in_one_pass(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    stream = cloud.bucket.stream

    def counted(key: str) -> Any:
        opened.append(key)
        return stream(key)

    monkeypatch.setattr(cloud.bucket, "stream", counted)
    for order in (1, -1):
        files = [("model.onnx", b"x" * 9999), ("training.json", b"{}"), ("suspects.jsonl", line())]
        found = read(cloud, artefact(*files[::order]))
        assert found == Artefact({}, (Suspect(3, 1, 0, 0.01, 1),))
    assert opened == [KEY] * 2


def test_an_archive_without_reports_has_none(cloud: Cloud) -> None:
    assert read(cloud, artefact(("model.params", b"x"))) == Artefact()
    assert read_artefact(cloud.bucket, f"s3://{BUCKET}/training/cars/none", 2) == Artefact()
    assert read(cloud, artefact(("suspects.jsonl", b""))) == Artefact(None, ())


@pytest.mark.parametrize(
    "broken",
    [
        b"not an archive",
        artefact(("training.json", b"{")),
        artefact(("training.json", b"[1]")),
        artefact(("training.json", b"[" * 100_000)),
        artefact(("model.onnx", b"\0" * 5000))[:200],
        artefact(("training.json", b" " * (MAX_BYTES["training.json"] + 1))),
        artefact(*[(f"{n}.bin", b"") for n in range(MAX_FILES)], ("training.json", b"{}")),
    ],
)
def test_an_archive_that_cannot_be_read_tells_nothing(cloud: Cloud, broken: bytes) -> None:
    assert read(cloud, broken) == Artefact()


def test_a_link_is_not_followed(cloud: Cloud) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("training.json")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    assert read(cloud, packed.getvalue()) == Artefact()


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b"[]",
        b"\n",
        line(record=-1),
        line(record=1.5),
        line(record=True),
        line(label=2),
        line(likely=2),
        line(likely=1),
        line(label="1"),
        line(probability=-0.1),
        line(probability=1.1),
        line(probability=None),
        line(likely_probability=float("nan")),
        line() * 10_001,
    ],
)
def test_suspects_that_are_malformed_are_left_out(cloud: Cloud, text: bytes) -> None:
    found = read(cloud, artefact(("training.json", b"{}"), ("suspects.jsonl", text)))
    assert found == Artefact({}, None)


def test_a_transient_failure_of_s3_is_no_archive_without_reports(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stream(_: str) -> Any:
        raise ReadTimeoutError(endpoint_url="https://s3")

    monkeypatch.setattr(cloud.bucket, "stream", stream)
    with pytest.raises(RetryLater):
        read_artefact(cloud.bucket, URI, 2)


def test_names_may_hold_whatever_separates_lines_elsewhere(cloud: Cloud) -> None:
    pack(cloud)
    listing = "3\t1.000000\tred/a\u2028b\x0c.jpg\n4\t0.000000\tblue/c.jpg\n"
    cloud.put(f"packed/cars/{RUN.run_id}/train/train.lst", listing.encode())
    suspects = (Suspect(3, 1, 0, 0.1, 0.9), Suspect(4, 1, 0, 0.1, 0.9), Suspect(5, 1, 0, 0.1, 0.9))
    [found] = named_suspects(cloud.bucket, read_packed(cloud.bucket, RUN), suspects)
    assert (found["record"], found["name"]) == (3, "red/a\u2028b\x0c.jpg")
