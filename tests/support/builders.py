"""Builders of runs, cards, images and records for the layer's tests."""

import hashlib
import json
import tarfile
from io import BytesIO
from typing import Any

from PIL import Image

from droplens.domain import layout
from droplens.domain.card import Measurement, ModelCard
from droplens.domain.run import RunKey
from droplens.imaging.prepare import Preprocessing, prepare
from droplens.records.recordio import RecordWriter
from droplens.runtime.settings import HostingSettings
from droplens.state.cards import Cards
from tests.support.aws_account import BUCKET, JOURNEY, Cloud

RUN = RunKey("cars", "20261122-120000-1a2b3c")
NAME = "droplens--cars-20261122-120000-1a2b3c"
REPOSITORY = "123456789012.dkr.ecr.us-east-1.amazonaws.com/droplens/trainer"
IMAGE = f"{REPOSITORY}:1a2b3c"
HOSTING = HostingSettings(
    **JOURNEY,
    aws_region="us-east-1",
    url_suffix="amazonaws.com",
    trainer_repository=REPOSITORY,
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


def model_data(run: RunKey = RUN, bucket: str = BUCKET) -> str:
    """Where SageMaker leaves what the run's job has trained."""
    name = f"droplens--{run.classifier}-{run.run_id}"
    prefix = layout.training_prefix(run.classifier, run.run_id)
    return f"s3://{bucket}/{prefix}{name}/output/model.tar.gz"


def artefact(*files: tuple[str, bytes]) -> bytes:
    """As SageMaker packs what the trainer left."""
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
    return packed.getvalue()


def pack(
    cloud: Cloud,
    run: RunKey = RUN,
    classes: tuple[str, ...] = ("blue", "red"),
    validation: int = 12,
    wrong: int = 0,
    first_colour: int = 0,
    test: int = 0,
) -> None:
    """Write a packed dataset of red and blue pictures, as batch_prep leaves one.

    wrong: so many of the validation records carry the label of the other colour.
    first_colour: where the row of shades begins; another one gives other pictures. test: records
    of a test split, every fourth of them with the label of the other colour.
    """
    prefix = layout.packed_prefix(run.classifier, run.run_id)
    records = {}
    counts = {"train": 20, "validation": validation, **({"test": test} if test else {})}
    for channel, count in counts.items():
        rec, idx, lst = BytesIO(), [], []
        with RecordWriter(rec) as writer:
            for number in range(count):
                truth = number % 2
                shade = 220 - (number + first_colour) % 150
                colour = (shade, 10, 20) if truth else (20, 10, shade)
                picture, _ = prepare(jpeg(colour), Preprocessing(SIDE))
                is_wrong = {"validation": number < wrong, "test": number % 4 == 3}
                label = 1 - truth if is_wrong.get(channel) else truth
                idx.append(f"{number}\t{writer.write(number, label, picture)}\n")
                lst.append(f"{number}\t{label:f}\t{classes[truth]}/{number:04}.jpg\n")
        records[f"{channel}/{channel}.rec"] = len(rec.getvalue())
        cloud.put(f"{prefix}{channel}/{channel}.rec", rec.getvalue())
        cloud.put(f"{prefix}{channel}/{channel}.idx", "".join(idx).encode())
        cloud.put(f"{prefix}{channel}/{channel}.lst", "".join(lst).encode())
    manifest = {
        "schema": "droplens.dataset.v1",
        "classes": classes,
        "counts": {**counts, "skipped": 0},
        "preprocessing": {"shorter_side": SIDE, "crop": None, "quality": 95},
        "bytes": records,
        "digest": hashlib.sha256(repr((classes, validation)).encode()).hexdigest(),
    }
    cloud.put(f"{prefix}dataset.json", json.dumps(manifest).encode())
