"""An endpoint is asked with the pixels that its model was trained on, whatever the file was.

For each picture: the record that batch_prep packs, the body that classify_image sends, and what
becomes of both in front of the network, for both trainers.
"""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from moto import mock_aws
from numpy.typing import NDArray
from PIL import Image

from batch_prep.shards.files import PackedImage, Shard
from batch_prep.storage.folder import Span
from batch_prep.storage.locate import folder_at
from droplens.aws.events import ObjectCreated
from droplens.aws.s3 import Bucket
from droplens.classify.classify import Classification
from droplens.classify.routing import Router
from droplens.imaging import prepare
from droplens.imaging.prepare import Preprocessing
from droplens.imaging.weighted_semaphore import WeightedSemaphore
from droplens.journey.promote import sender_preprocessing
from droplens.journey.train import BUILTIN, DROPLENS
from droplens.prediction.loaded_models import LoadedModels
from droplens.records.recordio import parse_record
from droplens.state.cards import CachedCards, Cards
from tests.support.aws_fakes import FakeRuntime
from tests.support.builders import card, go_live, redness
from tests.support.packing import job, put
from tests.support.photos import ORIENTATION, SWAPPED, encode, heic, photo
from trainer.data.preprocess import Resize

# The one tolerance: how far the network's two views of a picture may be apart, in levels of 255.
# A crop of a JPEG and the JPEG of a crop have other blocks, and packing may resize with other
# vector instructions than answering.
MEAN_LEVELS = 2.0
SHORTER_SIDE, NETWORK = 256, 224


def lying(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encode(photo(600, 400), "JPEG", exif=exif)


def sixteen_bits() -> bytes:
    levels = np.linspace(0, 65535, 400 * 300, dtype=np.uint16).reshape(300, 400)
    return encode(Image.fromarray(levels), "PNG")


def see_through() -> Image.Image:
    picture = photo(400, 300).convert("RGBA")
    picture.putalpha(Image.radial_gradient("L").resize((400, 300)))
    return picture


def films(kind: str) -> bytes:
    return encode(photo(), kind, save_all=True, append_images=[Image.new("RGB", (320, 240))])


DIFFICULT: dict[str, Callable[[], bytes]] = {
    "large.jpg": lambda: encode(photo(2600, 1900), "JPEG"),
    "not-so-large.jpg": lambda: encode(photo(1023, 767), "JPEG"),
    "progressive.jpg": lambda: encode(photo(1500, 1100), "JPEG", progressive=True),
    "full-chroma.jpg": lambda: encode(photo(700, 500), "JPEG", subsampling="4:4:4"),
    "grey.jpg": lambda: encode(photo(700, 500).convert("L"), "JPEG"),
    "cmyk.jpg": lambda: encode(photo(700, 500).convert("CMYK"), "JPEG"),
    "own-colours.jpg": lambda: encode(photo(700, 500), "JPEG", icc_profile=SWAPPED),
    "prepared.jpg": lambda: encode(photo(400, SHORTER_SIDE), "JPEG", quality=95),
    "square.jpg": lambda: encode(photo(SHORTER_SIDE, SHORTER_SIDE), "JPEG", quality=95),
    "tiny.jpg": lambda: encode(photo(40, 30), "JPEG"),
    "odd.jpg": lambda: encode(photo(333, 257), "JPEG"),
    "panorama.jpg": lambda: encode(photo(3000, 200), "JPEG"),
    "tower.jpg": lambda: encode(photo(200, 2500), "JPEG"),
    **{f"lying-{turn}.jpg": lambda turn=turn: lying(turn) for turn in (3, 6, 7)},  # type: ignore[misc]
    "sixteen-bits.png": sixteen_bits,
    "see-through.png": lambda: encode(see_through(), "PNG"),
    "see-through.webp": lambda: encode(see_through(), "WEBP"),
    "palette.png": lambda: encode(photo().quantize(64), "PNG", transparency=3),
    "film.gif": lambda: films("GIF"),
    "film.webp": lambda: films("WEBP"),
    "pages.tif": lambda: films("TIFF"),
    "plain.bmp": lambda: encode(photo(), "BMP"),
    "new.avif": lambda: encode(photo(), "AVIF"),
    "phone.heic": lambda: heic("corners"),
}


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """The difficult pictures, by name."""
    return {name: make() for name, make in DIFFICULT.items()}


@pytest.fixture(scope="module")
def records(files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What batch_prep packs of them, before pictures that look alike are kept apart."""
    root: Path = tmp_path_factory.mktemp("parity")
    classes = ("odd", "even")
    named = {f"{classes[n % 2]}/{name}": data for n, (name, data) in enumerate(files.items())}
    one_shard = ("--step", "pack", "--shards", "1", "--shard", "0")
    put(root / "in", named)
    assert job(root / "in", root / "out", "--shorter-side", str(SHORTER_SIDE), *one_shard) == 0
    shard, out = Shard(0, 1), folder_at(str(root / "out"))
    packed = {}
    for row in shard.report(out):
        assert isinstance(row, PackedImage), row
        framed = out.read_span(Span(shard.path(f"{row.channel}.rec"), row.start, row.end))
        packed[row.name.partition("/")[2]] = parse_record(framed).payload
    return packed


@pytest.fixture
def bodies(request: pytest.FixtureRequest, files: dict[str, bytes]) -> dict[str, bytes]:
    """What classify_image sends of them to the endpoint of a model of `request.param`."""
    preprocessing: Preprocessing = request.param
    sent: list[bytes] = []

    def model(body: bytes) -> list[float]:
        sent.append(body)
        return redness(body)

    with mock_aws():
        s3 = boto3.Session("test", "test", region_name="us-east-1").client("s3")
        s3.create_bucket(Bucket="parity")
        bucket = Bucket(s3, "parity")
        cards = Cards(bucket)
        go_live(cards, card(preprocessing=preprocessing))
        runtime: Any = FakeRuntime(model)
        tools = Classification(
            bucket=bucket,
            cards=CachedCards(cards),
            router=Router(lambda _: True, lambda: None),
            is_stranded=lambda _: False,
            runtime=runtime,
            decoding=WeightedSemaphore(10**8),
            endpoint_calls=WeightedSemaphore(1),
            models=LoadedModels(bucket),
        )
        for name, data in files.items():
            key = f"input/cars/{name}"
            etag = s3.put_object(Bucket="parity", Key=key, Body=data)["ETag"].strip('"')
            tools.classify(ObjectCreated("parity", key, etag, None, len(data)))
    assert len(sent) == len(files)
    return dict(zip(files, sent, strict=True))


def apart(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Mean difference in levels."""
    assert one.shape == other.shape
    return float(np.abs(one.astype(np.int16) - other.astype(np.int16)).mean())


def pixels(jpeg: bytes) -> NDArray[np.uint8]:
    """A plain decoder's view, without any care of ours."""
    with Image.open(BytesIO(jpeg)) as picture:
        return np.asarray(picture.convert("RGB"))


class _Dataset:
    """As much of a packed dataset as decides how pictures are sent."""

    shorter_side = SHORTER_SIDE


def sent_to(trainer: str) -> Preprocessing:
    dataset: Any = _Dataset()
    return sender_preprocessing(dataset, trainer, NETWORK)


@pytest.mark.parametrize("bodies", [sent_to(DROPLENS)], indirect=True)
def test_our_own_trainer_sees_the_same_in_training_and_in_serving(
    records: dict[str, bytes], bodies: dict[str, bytes]
) -> None:
    resize = Resize(width=NETWORK, height=NETWORK)
    assert records.keys() == bodies.keys()
    for name, record in records.items():
        assert apart(resize.pixels(record), resize.pixels(bodies[name])) <= MEAN_LEVELS, name
        assert apart(pixels(record), pixels(bodies[name])) <= MEAN_LEVELS, name


@pytest.mark.parametrize("bodies", [sent_to(BUILTIN)], indirect=True)
def test_the_builtin_algorithm_sees_the_same_in_training_and_in_serving(
    records: dict[str, bytes], bodies: dict[str, bytes]
) -> None:
    """It trains on the centre of each record, and squashes what it is sent when it serves."""
    for name, record in records.items():
        whole = pixels(record)
        top, left = ((side - NETWORK) // 2 for side in whole.shape[:2])
        trained = whole[top : top + NETWORK, left : left + NETWORK]
        with Image.open(BytesIO(bodies[name])) as body:
            served = np.asarray(body.convert("RGB").resize((NETWORK, NETWORK)))
        assert apart(trained, served) <= MEAN_LEVELS, name


def test_the_tolerance_tells_a_wrong_crop_from_a_right_one(records: dict[str, bytes]) -> None:
    whole = pixels(records["odd.jpg"])
    height, width = whole.shape[:2]
    top, left = (height - NETWORK) // 2, (width - NETWORK) // 2
    middle = whole[top : top + NETWORK, left : left + NETWORK]
    aside = whole[top : top + NETWORK, left - 2 : left - 2 + NETWORK]
    resized_image = Image.fromarray(whole).resize((NETWORK, NETWORK))
    assert apart(middle, aside) > MEAN_LEVELS
    assert apart(middle, np.asarray(resized_image)) > MEAN_LEVELS


@pytest.mark.parametrize("name", ["large.jpg", "lying-6.jpg", "cmyk.jpg", "see-through.png"])
def test_a_client_that_sends_the_file_itself_gets_the_same_from_our_image(
    files: dict[str, bytes], records: dict[str, bytes], name: str
) -> None:
    """It may be asked without classify_image, and decodes with the same function."""
    resize = Resize(width=NETWORK, height=NETWORK)
    assert apart(resize.pixels(files[name]), resize.pixels(records[name])) <= MEAN_LEVELS
    assert prepare.decode(files[name])[1].format == name.rpartition(".")[2].upper().replace(
        "JPG", "JPEG"
    )
