"""Our record files against MXNet's own reader and writer, each in its own environment."""

import hashlib
import json
import random
import struct
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageStat

from batch_prep.__main__ import main
from droplens.records.recordio import MAGIC, Record, RecordWriter, read_index, read_records
from tests.support import needs

MAGIC_BYTES = struct.pack("<I", MAGIC)
SCRIPT = Path(__file__).with_name("mxnet_reference.py")


@pytest.fixture(scope="module")
def mxnet() -> Path:
    """The interpreter of the environment that holds mxnet."""
    return needs.environment("mxnet")


def reference(python: Path, *arguments: object) -> Any:
    done = subprocess.run(
        [python, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def awkward_payloads() -> list[bytes]:
    """Payloads with the magic at every alignment, alone, doubled, cut short, and in noise.

    The 24 bytes of the image header in front are a multiple of 4, so alignment counts from 0.
    """
    payloads = [
        b"\0" * before + MAGIC_BYTES + b"\1" * after for before in range(9) for after in range(5)
    ]
    payloads += [b"x" * length for length in range(9)]
    payloads += [MAGIC_BYTES * times + tail for times in (2, 3, 7) for tail in (b"", b"a", b"abcd")]
    payloads += [b"abcd" + MAGIC_BYTES[:cut] for cut in range(4)]
    payloads += [MAGIC_BYTES[cut:] + MAGIC_BYTES * 2 for cut in range(4)]
    noise = random.Random(0)
    pieces = [MAGIC_BYTES, MAGIC_BYTES[:2], MAGIC_BYTES[2:], b"\0", b"\xce", b"quux", b"\n"]
    payloads += [b"".join(noise.choices(pieces, k=noise.randrange(30))) for _ in range(1000)]
    payloads.append(noise.randbytes(200_000) + MAGIC_BYTES + noise.randbytes(100_000))
    return payloads


def test_our_files_are_byte_for_byte_those_of_mxnet(mxnet: Path, tmp_path: Path) -> None:
    records = [
        Record(float(number % 196), 3 * number + 1, payload)
        for number, payload in enumerate(awkward_payloads())
    ]
    (tmp_path / "payloads.json").write_text(
        json.dumps([[record.id, record.label, record.payload.hex()] for record in records])
    )
    theirs_rec, theirs_idx = tmp_path / "theirs.rec", tmp_path / "theirs.idx"
    reference(mxnet, "write", tmp_path / "payloads.json", theirs_rec, theirs_idx)

    rec = BytesIO()
    with RecordWriter(rec) as writer:
        places = [
            (record.id, writer.write(record.id, record.label, record.payload)) for record in records
        ]

    assert rec.getvalue() == theirs_rec.read_bytes()
    assert places == read_index(theirs_idx.read_text())
    with theirs_rec.open("rb") as file:
        assert list(read_records(file)) == records


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of eight pictures each, packed by the job; the classes differ in brightness."""
    folder = tmp_path_factory.mktemp("packed")
    for label, level in enumerate((40, 128, 220)):
        for number in range(8):
            # Noise about a level of the class's own, in sizes above and below the records'.
            picture = Image.effect_noise((60 + 9 * number, 90 + label), 8)
            shift = level - 128
            picture = picture.point(lambda value, shift=shift: value + shift).convert("RGB")
            path = folder / "source" / f"class {'abc'[label]}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
    arguments = ["--source", folder / "source", "--destination", folder / "out"]
    arguments += ["--classifier", "levels", "--run-id", "r1", "--shorter-side", "64"]
    assert main([str(argument) for argument in arguments]) == 0
    return folder / "out"


@pytest.mark.parametrize("channel", ["train", "validation"])
def test_mxnet_finds_every_record_by_its_id(mxnet: Path, packed: Path, channel: str) -> None:
    rec, idx = (packed / channel / f"{channel}{suffix}" for suffix in (".rec", ".idx"))
    with rec.open("rb") as file:
        ours = [
            [record.id, record.id, record.label, hashlib.sha256(record.payload).hexdigest()]
            for record in read_records(file)
        ]
    assert [row[0] for row in ours] == [id_ for id_, _ in read_index(idx.read_text())]
    assert reference(mxnet, "index", rec, idx) == ours[::-1]


@pytest.mark.parametrize("channel", ["train", "validation"])
def test_mxnet_trains_on_the_right_pictures_under_the_right_labels(
    mxnet: Path, packed: Path, channel: str
) -> None:
    rec, idx, lst = (packed / channel / f"{channel}{suffix}" for suffix in (".rec", ".idx", ".lst"))
    seen = reference(mxnet, "iterate", rec, idx, 64)
    with rec.open("rb") as file:
        records = list(read_records(file))
    assert [label for label, _ in seen] == [record.label for record in records]
    for (_, mean), record in zip(seen, records, strict=True):
        with Image.open(BytesIO(record.payload)) as picture:
            left, top = (picture.width - 64) // 2, (picture.height - 64) // 2
            middle = picture.crop((left, top, left + 64, top + 64))
            assert abs(mean - sum(ImageStat.Stat(middle).mean) / 3) < 1
            assert abs(mean - (40, 128, 220)[int(record.label)]) < 10
    names = [line.split("\t") for line in lst.read_text().splitlines()]
    assert [(int(id_), float(label)) for id_, label, _ in names] == [
        (record.id, record.label) for record in records
    ]
    assert all(name.startswith(f"class {'abc'[int(float(label))]}/") for _, label, name in names)
