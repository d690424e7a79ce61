"""Stanford Cars as a training job gets them: a fifth of every model held out, always the same."""

import hashlib
import json
import tarfile
from collections import defaultdict
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image

from benchmarks.harness import CARS
from droplens.records.recordio import RecordWriter

ARCHIVE = "cars196-224px.tar"
HELD_OUT = 5


def pack(base: Path, most: int, split: int = 0) -> dict[str, Any]:
    """The records of both channels, of whole classes until there are `most` pictures.

    split: which fifth is held out, 0 to 4.
    """
    archive = CARS / ARCHIVE
    if not archive.is_file():
        raise SystemExit(f"There is no {archive}: name its folder in DROPLENS_CARS.")
    classes: defaultdict[str, list[tuple[str, bytes]]] = defaultdict(list)
    with tarfile.open(archive) as tar:
        for member in sorted((each for each in tar if each.isfile()), key=lambda each: each.name):
            content = tar.extractfile(member)
            assert content is not None
            classes[Path(member.name).parent.name].append((member.name, content.read()))
    taken: list[str] = []
    for name in sorted(classes):
        if taken and sum(len(classes[each]) for each in [*taken, name]) > most:
            break
        taken.append(name)
    channels: dict[str, list[tuple[int, bytes]]] = {"train": [], "validation": []}
    for label, name in enumerate(taken):
        # In the order of a hash: by chance, and the same wherever this runs.
        shuffled = sorted(classes[name], key=lambda each: hashlib.sha256(each[0].encode()).digest())
        for number, (_, payload) in enumerate(shuffled):
            channel = "validation" if number % HELD_OUT == split else "train"
            channels[channel].append((label, payload))
    for channel, records in channels.items():
        folder = base / "input/data" / channel
        folder.mkdir(parents=True)
        with (folder / f"{channel}.rec").open("wb") as rec, RecordWriter(rec) as writer:
            for number, (label, payload) in enumerate(records):
                writer.write(number, label, payload)
    (base / "input/data/classes").mkdir()
    (base / "input/data/classes/classes.json").write_text(json.dumps(taken), "utf-8")
    shapes = [
        Image.open(BytesIO(payload)).size for each in channels.values() for _, payload in each
    ]
    counts = {channel: len(records) for channel, records in channels.items()}
    return {
        "said": f"Stanford Cars at 224 px: {len(taken)} of {len(classes)} models, "
        f"{counts['train']} pictures to train on, {counts['validation']} held out",
        "classes": len(taken),
        "aspect_ratio": round(median(width / height for width, height in shapes), 3),
        **counts,
    }
