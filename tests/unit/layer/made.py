"""Runs, cards, pictures and records that the layer's tests are made of."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from droplens import layout
from droplens.card import Measurement, ModelCard
from droplens.cards import Cards
from droplens.pictures import Preprocessing, prepare
from droplens.recordio import RecordWriter
from droplens.runs import RunKey
from droplens.settings import HostingSettings
from tests.unit.layer.account import BUCKET, Cloud

RUN = RunKey("cars", "20261122-120000-1a2b3c")
NAME = "droplens--cars-20261122-120000-1a2b3c"
HOSTING = HostingSettings(
    bucket=BUCKET,
    runs_table="runs",
    stack="droplens",
    failure_topic="topic",
    aws_region="us-east-1",
    sagemaker_role="arn:aws:iam::123456789012:role/droplens-ServingRole",
    kms_key_arn="",
    endpoint_mode="auto",
    endpoint_instance_type="ml.m5.large",
    endpoint_memory_mb=2048,
    endpoint_max_concurrency=5,
)
SIDE = 64


def jpeg(colour: tuple[int, int, int] = (200, 30, 30), size: tuple[int, int] = (80, 70)) -> bytes:
    """A picture of one colour."""
    out = BytesIO()
    Image.new("RGB", size, colour).save(out, "JPEG")
    return out.getvalue()


def redness(picture: bytes) -> list[float]:
    """What a model of two classes, "blue" and "red", says of a picture."""
    with Image.open(BytesIO(picture)) as image:
        red, _, blue = image.convert("RGB").resize((1, 1)).getpixel((0, 0))  # type: ignore[misc]
    share = (red + 1) / (red + blue + 2)
    return [1 - share, share]


def card(run_id: str = RUN.run_id, classifier: str = "cars", **changes: Any) -> ModelCard:
    """A model card of the two classes that `redness` tells apart."""
    values: dict[str, Any] = {
        "classifier": classifier,
        "run_id": run_id,
        "endpoint": f"droplens--{classifier}-{run_id}",
        "trainer": "droplens",
        "classes": ("blue", "red"),
        "preprocessing": Preprocessing(SIDE),
        "measured": Measurement(
            pictures=10, available=10, accuracy=0.9, top5=1.0, latency_ms_p50=5, latency_ms_p95=9
        ),
        "confident_from": 0.8,
        "promoted_at": "2026-11-22T12:30:00+00:00",
    }
    return ModelCard(**{**values, **changes})


def go_live(cards: Cards, model: ModelCard) -> ModelCard:
    """Store the card as a promotion does, and make it live."""
    cards.keep(model)
    return cards.make_live(model)


def pack(
    cloud: Cloud,
    run: RunKey = RUN,
    classes: tuple[str, ...] = ("blue", "red"),
    validation: int = 12,
    wrong: int = 0,
    first_colour: int = 0,
) -> None:
    """Write a packed dataset of red and blue pictures, as batch_prep leaves one.

    wrong: so many of the validation records carry the label of the other colour.
    first_colour: where the row of shades begins; another one gives other pictures.
    """
    prefix = layout.packed_prefix(run.classifier, run.run_id)
    records = {}
    for channel, count in (("train", 20), ("validation", validation)):
        rec, idx, lst = BytesIO(), [], []
        with RecordWriter(rec) as writer:
            for number in range(count):
                truth = number % 2
                shade = 220 - (number + first_colour) % 150
                colour = (shade, 10, 20) if truth else (20, 10, shade)
                picture, _ = prepare(jpeg(colour), Preprocessing(SIDE))
                label = 1 - truth if channel == "validation" and number < wrong else truth
                idx.append(f"{number}\t{writer.write(number, label, picture)}\n")
                lst.append(f"{number}\t{label:f}\t{classes[truth]}/{number:04}.jpg\n")
        records[f"{channel}/{channel}.rec"] = len(rec.getvalue())
        cloud.put(f"{prefix}{channel}/{channel}.rec", rec.getvalue())
        cloud.put(f"{prefix}{channel}/{channel}.idx", "".join(idx).encode())
        cloud.put(f"{prefix}{channel}/{channel}.lst", "".join(lst).encode())
    manifest = {
        "schema": "droplens.dataset.v1",
        "classes": classes,
        "counts": {"train": 20, "validation": validation, "skipped": 0},
        "preprocessing": {"shorter_side": SIDE, "crop": None, "quality": 95},
        "bytes": records,
        "digest": hashlib.sha256(repr((classes, validation)).encode()).hexdigest(),
    }
    cloud.put(f"{prefix}dataset.json", json.dumps(manifest).encode())


def nobody(event: object) -> None:
    """Stands where an invocation would be asked for, and none may be."""
    pytest.fail(f"another invocation was asked for: {event}")


class Crash(Exception):
    """The function died."""


@contextmanager
def crash_in(target: Any, name: str, *, after: bool = False) -> Iterator[None]:
    """Within, whoever calls `target.name` dies: before it has done anything, or after it has."""
    real = getattr(target, name)

    def crash(*args: Any, **kwargs: Any) -> None:
        if after:
            real(*args, **kwargs)
        raise Crash

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, crash, raising=False)
        try:
            yield
        except Crash:
            return
        pytest.fail(f"nothing came as far as {name}")


def recorded(root: Path, name: str) -> dict[str, Any]:
    """One of the events in events/."""
    return dict(json.loads((root / "events" / f"{name}.json").read_text("utf-8")))
