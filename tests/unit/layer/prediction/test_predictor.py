"""A network inside Lambda sees the pixels that training saw."""

import hashlib
from functools import partial

import numpy as np
import pytest
from cykooz_resizer import FilterType

from droplens.domain.card import ModelObject
from droplens.domain.result import UnexpectedResponse
from droplens.imaging.prepare import ImageError, Limits, Preprocessing, prepare_with
from droplens.imaging.vector_resize import resized
from droplens.prediction.loaded_models import LoadedModels
from droplens.prediction.predictor import Decoding, InProcessPredictor
from tests.support.aws_account import Cloud
from tests.support.builders import jpeg
from tests.support.drawn_images import drawing
from tests.support.networks import HEIGHT, WIDTH, colours
from trainer.data.preprocess import Resize

LANCZOS = partial(resized, kind=FilterType.lanczos3)


def predictor(
    cloud: Cloud,
    preprocessing: Preprocessing,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    classes: int = 2,
) -> InProcessPredictor:
    """Of a network whose input has this height and width."""
    body = colours(*size).SerializeToString()
    cloud.put("model.onnx", body)
    model = ModelObject(
        key="model.onnx",
        sha256=hashlib.sha256(body).hexdigest(),
        bytes=len(body),
        height=size[0],
        width=size[1],
    )
    return LoadedModels(cloud.bucket).predictor("cars", model, preprocessing, classes)


@pytest.mark.parametrize("size", [(64, 64), (48, 80), (96, 64), (16, 24)])
@pytest.mark.parametrize("crop", [None, 128])
def test_a_record_has_the_very_pixels_that_training_had(
    cloud: Cloud, size: tuple[int, int], crop: int | None
) -> None:
    """Also where a small network has the record scaled down while it is decoded."""
    preprocessing = Preprocessing(128, crop)
    record, _, _ = prepare_with(drawing("rings", 3, (400, 300)), preprocessing, Limits(), LANCZOS)
    trained = Resize(width=size[1], height=size[0]).pixels(record)
    found, info = predictor(cloud, preprocessing, size).prepare(record, Decoding())
    assert np.array_equal(found, trained)
    assert (info.width, info.height) == ((128, 128) if crop else (171, 128))


def test_a_dropped_image_has_the_pixels_that_packing_had_before_its_jpeg(cloud: Cloud) -> None:
    preprocessing, image = Preprocessing(128), drawing("checks", 5, (400, 300))
    _, _, packed = prepare_with(image, preprocessing, Limits(), LANCZOS)
    expected = np.asarray(resized(packed, (WIDTH, HEIGHT), FilterType.bilinear), np.uint8)
    found, info = predictor(cloud, preprocessing).prepare(image, Decoding())
    assert np.array_equal(found, expected)
    assert (info.width, info.height) == (400, 300)


def test_decoding_in_the_sandbox_gives_the_same_pixels(cloud: Cloud) -> None:
    images = predictor(cloud, Preprocessing(128))
    image = drawing("stripes", 5, (400, 300))
    beside, _ = images.prepare(image, Decoding())
    apart, _ = images.prepare(image, Decoding(isolated=True))
    assert np.array_equal(beside, apart)


def test_what_is_no_image_is_refused_as_elsewhere(cloud: Cloud) -> None:
    with pytest.raises(ImageError, match="0 bytes"):
        predictor(cloud, Preprocessing(128)).prepare(b"", Decoding())


def test_a_network_of_other_classes_than_the_card_s_is_an_error(cloud: Cloud) -> None:
    images = predictor(cloud, Preprocessing(128), classes=3)
    prepared, _ = images.prepare(jpeg(), Decoding())
    with pytest.raises(UnexpectedResponse, match="2 probabilities for 3 classes"):
        images.predict(prepared)


def test_a_network_without_class_maps_explains_nothing(cloud: Cloud) -> None:
    found = predictor(cloud, Preprocessing(128)).explain(jpeg((220, 10, 20)))
    assert found.class_map is None
    assert found.probabilities[1] > 0.99
