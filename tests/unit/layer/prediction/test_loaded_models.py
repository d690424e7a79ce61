"""Models in memory: the right one, read once, within the memory for them."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from droplens.domain.card import ModelObject
from droplens.imaging.prepare import Preprocessing
from droplens.prediction.loaded_models import LoadedModels, ModelUnusable
from droplens.prediction.predictor import Decoding
from tests.support.aws_account import Cloud
from tests.support.builders import SIDE, jpeg
from tests.support.networks import HEIGHT, WIDTH, colours

RED = jpeg((220, 10, 20))


def published(cloud: Cloud, name: str = "a", **changes: Any) -> ModelObject:
    """A network in the bucket; `name` gives it other bytes."""
    model = colours(**changes)
    model.doc_string = name
    body = model.SerializeToString()
    key = f"training/cars/{name}/output/model.onnx"
    cloud.put(key, body)
    return ModelObject(
        key=key,
        sha256=hashlib.sha256(body).hexdigest(),
        bytes=len(body),
        height=HEIGHT,
        width=WIDTH,
    )


def redness(models: LoadedModels, model: ModelObject, classifier: str = "cars") -> float:
    predictor = models.predictor(classifier, model, Preprocessing(SIDE), 2)
    prepared, info = predictor.prepare(RED, Decoding())
    assert (info.format, prepared.shape) == ("JPEG", (HEIGHT, WIDTH, 3))
    return predictor.predict(prepared).probabilities[1]


class Reads:
    """Counts the reads of a bucket."""

    def __init__(self, cloud: Cloud) -> None:
        self.name = cloud.bucket.name
        self.bucket = cloud.bucket
        self.keys: list[str] = []

    def read(self, key: str) -> Any:
        self.keys.append(key)
        return self.bucket.read(key)


def test_a_model_is_read_once_by_all_threads(cloud: Cloud) -> None:
    model, bucket = published(cloud), Reads(cloud)
    models = LoadedModels(bucket)  # type: ignore[arg-type]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: redness(models, model), range(16)))
    assert found[0] > 0.99
    assert set(found) == {found[0]}
    assert bucket.keys == [model.key]


def test_another_model_of_the_classifier_takes_the_place_of_the_first(cloud: Cloud) -> None:
    first, second = published(cloud, "a"), published(cloud, "b", swapped=True)
    other, bucket = published(cloud, "other"), Reads(cloud)
    models = LoadedModels(bucket)  # type: ignore[arg-type]
    redness(models, other, "bikes")
    assert redness(models, first) > 0.99
    assert redness(models, second) < 0.01
    assert redness(models, second) < 0.01
    assert redness(models, first) > 0.99
    redness(models, other, "bikes")
    assert bucket.keys == [other.key, first.key, second.key, first.key]


def test_the_least_recently_used_model_leaves_where_memory_is_short(cloud: Cloud) -> None:
    a, b, c = (published(cloud, name) for name in "abc")
    bucket = Reads(cloud)
    models = LoadedModels(bucket, most_bytes=2 * a.bytes)  # type: ignore[arg-type]
    for model, classifier in ((a, "a"), (b, "b"), (a, "a"), (c, "c"), (a, "a"), (b, "b")):
        redness(models, model, classifier)
    assert bucket.keys == [a.key, b.key, c.key, b.key]


def test_an_object_that_is_not_the_card_s_is_not_loaded(cloud: Cloud) -> None:
    model = published(cloud)
    cloud.put(model.key, colours(swapped=True).SerializeToString())
    with pytest.raises(ModelUnusable, match="not the one that the model card names"):
        redness(LoadedModels(cloud.bucket), model)


def test_a_missing_object_is_reported_and_read_again(cloud: Cloud) -> None:
    model = published(cloud)
    body = cloud.bucket.read(model.key)[0]
    models = LoadedModels(cloud.bucket)
    cloud.s3.delete_object(Bucket=cloud.bucket.name, Key=model.key)
    with pytest.raises(ModelUnusable, match=f"{model.key}: its object is not in the bucket"):
        redness(models, model)
    cloud.put(model.key, body)
    assert redness(models, model) > 0.99


def test_bytes_that_are_no_network_are_an_error_of_ours(cloud: Cloud) -> None:
    body = b"no network"
    cloud.put("model.onnx", body)
    digest = hashlib.sha256(body).hexdigest()
    model = ModelObject(key="model.onnx", sha256=digest, bytes=len(body), height=1, width=1)
    predictor = LoadedModels(cloud.bucket).predictor("cars", model, Preprocessing(SIDE), 2)
    with pytest.raises(ModelUnusable, match="cannot be loaded"):
        predictor.predict(predictor.prepare(RED, Decoding())[0])
