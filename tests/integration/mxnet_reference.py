"""MXNet's own reader and writer, run in the environment that has it (Python 3.11, mxnet 1.9.1).

    python mxnet_reference.py write PAYLOADS REC IDX   one record per payload, by mx.recordio
    python mxnet_reference.py index REC IDX            what MXIndexedRecordIO reads, as JSON
    python mxnet_reference.py iterate REC IDX SIDE     what ImageRecordIter reads, as JSON

PAYLOADS is a JSON list of [id, label, payload in hexadecimal].
"""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import mxnet as mx


def write(payloads: str, rec: str, idx: str) -> None:
    """Write every payload the way im2rec does."""
    records = mx.recordio.MXIndexedRecordIO(idx, rec, "w")
    for id_, label, payload in json.loads(Path(payloads).read_text()):
        header = mx.recordio.IRHeader(0, label, id_, 0)
        records.write_idx(id_, mx.recordio.pack(header, bytes.fromhex(payload)))
    records.close()


def index(rec: str, idx: str) -> list[list[object]]:
    """[key, id, label, SHA-256 of the payload] of every record, read backwards by its key."""
    records = mx.recordio.MXIndexedRecordIO(idx, rec, "r")
    found: list[list[object]] = []
    for key in reversed(records.keys):
        header, payload = mx.recordio.unpack(records.read_idx(key))
        found.append([key, header.id, float(header.label), hashlib.sha256(payload).hexdigest()])
    records.close()
    return found


def iterate(rec: str, idx: str, side: str) -> list[list[float]]:
    """[label, mean level of the middle square of `side` pixels] of every picture, in order."""
    pictures = mx.io.ImageRecordIter(
        path_imgrec=rec,
        path_imgidx=idx,
        data_shape=(3, int(side), int(side)),
        batch_size=1,
        shuffle=False,
        preprocess_threads=1,
    )
    return [
        [float(batch.label[0].asscalar()), float(batch.data[0].asnumpy().mean())]
        for batch in pictures
    ]


if __name__ == "__main__":
    commands: dict[str, Callable[..., object]] = {
        "write": write,
        "index": index,
        "iterate": iterate,
    }
    result = commands[sys.argv[1]](*sys.argv[2:])
    sys.stdout.write(json.dumps(result) + "\n")
