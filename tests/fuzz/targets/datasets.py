"""What a packing job reads besides pictures: archives, lists, MATLAB's files, its own records."""

import gzip
import io
import json
import os
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from batch_prep.errors import JobError
from batch_prep.sources.archives import ArchiveLimits, open_archive
from batch_prep.sources.entries import File
from batch_prep.sources.label_files import read_list
from batch_prep.sources.matfile import MatError, read_mat
from batch_prep.storage.local import LocalFolder
from droplens.records.recordio import RecordIOError, RecordWriter, read_index, read_records
from tests.fuzz.engine import Target

_LIMITS = ArchiveLimits(max_members=10_000, max_bytes=2**28)
_MEMBERS = {"a/1.jpg": b"1" * 700, "b/ä 2.jpg": b"2", "b/3.jpg": b"", "a/" + "long" * 40: b"4"}


def _zips() -> Mapping[str, bytes]:
    found = {}
    for name, compression in (("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED)):
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", compression) as archive:
            for member, content in _MEMBERS.items():
                archive.writestr(zipfile.ZipInfo(member), content)
        found[name] = data.getvalue()
    return found


def _tars() -> Mapping[str, bytes]:
    found = {}
    for name, kind in (("pax", tarfile.PAX_FORMAT), ("gnu", tarfile.GNU_FORMAT)):
        data = io.BytesIO()
        with tarfile.open(
            fileobj=data, mode="w", format=kind, pax_headers={"comment": "c"}
        ) as file:
            for member, content in _MEMBERS.items():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
            link = tarfile.TarInfo("a/link.jpg")
            link.type, link.linkname = tarfile.SYMTYPE, "1.jpg"
            file.addfile(link)
        found[name] = data.getvalue()
    block = bytearray(tarfile.TarInfo("a/sparse.jpg").tobuf(tarfile.GNU_FORMAT))
    block[156:157] = b"S"
    found["sparse"] = bytes(block) + found["gnu"]
    return found


def _read_archive(name: str, data: bytes) -> None:
    for entry in open_archive(io.BytesIO(data), name, _LIMITS).entries:
        if isinstance(entry, File):
            entry.read()


def _read_tar(data: bytes) -> None:
    problems = []
    for name, packed in (("x.tar", data), ("x.tgz", gzip.compress(data, 1))):
        try:
            _read_archive(name, packed)
        except JobError as error:
            problems.append(error)
    if problems:
        raise problems[0]


_LISTS = {
    "labels.csv": {
        "header": b'path,label\na/1.jpg,cat\n"b,2.jpg",dog\n',
        "semicolons": "\ufefflabel;path\nKätzchen;a.jpg\n".encode(),
        "plain": b"a.jpg\tcat\nb.jpg\tdog\n",
    },
    "labels.jsonl": {
        "plain": json.dumps({"source-ref": "a.jpg", "class": 1}).encode() + b"\n",
        "truth": json.dumps(
            {
                "source-ref": "s3://bucket/a.jpg",
                "kind": 0,
                "kind-metadata": {
                    "class-name": "cat",
                    "type": "groundtruth/image-classification",
                },
            }
        ).encode(),
    },
    "labels.lst": {"plain": b"0\t1.000000\ta/1.jpg\n1\t0\tb/2.jpg\n"},
}


@cache
def _folder(_process: int) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    (folder / "classes.txt").write_text("cat\ndog\n")
    return folder


def _read_labels(name: str, data: bytes) -> None:
    folder = _folder(os.getpid())
    (folder / name).write_bytes(data)
    read_list(LocalFolder(folder), name, 100_000)


def _mats() -> Mapping[str, bytes]:
    annotations = np.array(
        [("a.jpg", 1.0), ("b.jpg", 2.0)], dtype=[("fname", object), ("class", object)]
    )
    variables: dict[str, Any] = {
        "annotations": annotations,
        "class_names": np.array(["Audi", "BMW"], dtype=object),
        "numbers": np.arange(12, dtype=np.int16).reshape(3, 4),
    }
    found = {}
    for compressed in (False, True):
        data = io.BytesIO()
        scipy.io.savemat(data, variables, do_compression=compressed)
        # The header's text has the date: seeds are the same on every day.
        found[f"compressed {compressed}"] = b"MATLAB 5.0".ljust(116) + data.getvalue()[116:]
    return found


def _read_mat(data: bytes) -> None:
    read_mat(data, ["annotations", "class_names", "numbers"])


def _records() -> Mapping[str, bytes]:
    data = io.BytesIO()
    writer = RecordWriter(data)
    for number in range(3):
        # RecordIO's own magic word within a payload is where records are cut into parts.
        writer.write(number, number, b"\xff\xd8" + b"\x0a\x23\xd7\xce" * number + b"\xff\xd9")
    return {"records": data.getvalue()}


def _read_records(data: bytes) -> None:
    for _ in read_records(io.BytesIO(data)):
        pass


def _read_index(data: bytes) -> None:
    read_index(data.decode("utf-8", "replace"))


TARGETS = [
    Target("zip", _zips, partial(_read_archive, "x.zip"), (JobError,)),
    Target("tar", _tars, _read_tar, (JobError,)),
    *(
        Target(
            name.replace(".", "-"), partial(dict, seeds), partial(_read_labels, name), (JobError,)
        )
        for name, seeds in _LISTS.items()
    ),
    Target("mat", _mats, _read_mat, (MatError,)),
    Target("recordio", _records, _read_records, (RecordIOError,)),
    Target("recordio-index", lambda: {"index": b"0\t0\n1\t40\n"}, _read_index, (RecordIOError,)),
]
