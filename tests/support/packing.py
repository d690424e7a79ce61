"""Small datasets and the packing job that is run on them."""

import hashlib
import json
import tarfile
import zipfile
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from batch_prep.__main__ import main
from batch_prep.storage.locate import folder_at
from droplens.records.recordio import read_records

BUCKET = "pictures"
Files = dict[str, bytes]
Failure = Callable[..., str]


@cache
def jpeg(number: int, size: tuple[int, int] = (90, 70)) -> bytes:
    """Noise, which is never the same for two numbers."""
    data = BytesIO()
    noise = Image.effect_noise(size, 20 + number)
    Image.merge("RGB", (noise, noise.rotate(90), noise.rotate(180))).save(data, "JPEG")
    return data.getvalue()


def good(classes: str = "ab", each: int = 5) -> dict[str, bytes]:
    return {
        f"{label}/{number}.jpg": jpeg(10 * place + number)
        for place, label in enumerate(classes)
        for number in range(each)
    }


def put(root: Path, files: Files) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(data)
    return root


def zipped(files: Files) -> bytes:
    data = BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def tarred(files: Files, mode: Any = "w") -> bytes:
    data = BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, BytesIO(content))
    return data.getvalue()


def job(source: object, destination: object, *more: str) -> int:
    arguments = ["--source", str(source), "--destination", str(destination)]
    arguments += ["--classifier", "letters", "--run-id", "r1", "--shorter-side", "48"]
    return main([*arguments, *more])


def manifest(url: object) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(folder_at(str(url)).read("dataset.json"))
    return read


CHANNEL_FILES = tuple(
    f"{channel}/{channel}.{suffix}"
    for channel in ("train", "validation")
    for suffix in ("rec", "idx", "lst")
)


def digests(url: object) -> dict[str, str]:
    """The SHA-256 of every file that training reads."""
    place = folder_at(str(url))
    return {path: hashlib.sha256(place.read(path)).hexdigest() for path in CHANNEL_FILES}


def contents(url: object) -> list[tuple[str, str]]:
    """Every packed picture in both channels: its class, and the SHA-256 of its JPEG."""
    place = folder_at(str(url))
    classes = json.loads(place.read("classes.json"))
    return sorted(
        (classes[int(record.label)], hashlib.sha256(record.payload).hexdigest())
        for channel in ("train", "validation")
        for record in read_records(BytesIO(place.read(f"{channel}/{channel}.rec")))
    )
