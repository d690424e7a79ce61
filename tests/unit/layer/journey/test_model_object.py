"""A model archive's network is published if it is one of ours, else refused with the reason."""

import hashlib

import pytest

from droplens.domain.card import ModelObject
from droplens.domain.errors import UserError
from droplens.journey import model_object
from droplens.journey.model_object import publish_model
from tests.support.aws_account import BUCKET, Cloud
from tests.support.builders import artefact, model_data
from tests.support.networks import HEIGHT, WIDTH, archive, colours, preprocessing

ARCHIVE = model_data()
KEY = ARCHIVE.removeprefix(f"s3://{BUCKET}/")
PUBLISHED = KEY.replace("model.tar.gz", "model.onnx")


def test_the_network_lies_beside_its_archive_with_its_digest(cloud: Cloud) -> None:
    cloud.put(KEY, archive())
    network = colours().SerializeToString()
    model = publish_model(cloud.bucket, ARCHIVE)
    assert model == ModelObject(
        key=PUBLISHED,
        sha256=hashlib.sha256(network).hexdigest(),
        bytes=len(network),
        height=HEIGHT,
        width=WIDTH,
    )
    assert cloud.bucket.read(PUBLISHED)[0] == network
    assert publish_model(cloud.bucket, ARCHIVE) == model


def test_the_int8_variant_is_preferred_wherever_it_stands_in_the_archive(cloud: Cloud) -> None:
    int8 = colours(swapped=True).SerializeToString()
    cloud.put(KEY, archive(model_int8_onnx=int8))
    publish_model(cloud.bucket, ARCHIVE)
    assert cloud.bucket.read(PUBLISHED)[0] == int8


def unknown() -> bytes:
    model = colours()
    model.graph.node[0].op_type = "Loop"
    return archive(model)


NETWORK = colours().SerializeToString()


@pytest.mark.parametrize(
    ("content", "code", "what"),
    [
        (unknown(), "model.refused", "has operators that no network of ours has: Loop"),
        (artefact(("model.onnx", b"no network")), "model.refused", "it is no"),
        (artefact(("classes.json", b"[]")), "model.missing", "holds no model.onnx"),
        (b"no archive", "model.refused", "no complete archive"),
        (archive()[:300], "model.refused", "no complete archive"),
        (artefact(("model.onnx", NETWORK)), "model.preprocessing", "missing"),
        (
            archive(preprocessing_json=preprocessing(resize="crop")),
            "model.preprocessing",
            "expects images as no network of ours",
        ),
        (
            archive(preprocessing_json=preprocessing(height=HEIGHT + 1)),
            "model.preprocessing",
            "expects images as no network of ours",
        ),
        (archive(preprocessing_json=b"{"), "model.preprocessing", "as no network of ours"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_anything_else_is_refused_by_name(
    cloud: Cloud, content: bytes, code: str, what: str
) -> None:
    cloud.put(KEY, content)
    with pytest.raises(UserError, match=what) as refused:
        publish_model(cloud.bucket, ARCHIVE)
    assert refused.value.code == code
    assert KEY in refused.value.message
    published = cloud.keys()
    assert PUBLISHED not in published


def test_a_missing_archive_is_named(cloud: Cloud) -> None:
    with pytest.raises(UserError, match="is not in the bucket"):
        publish_model(cloud.bucket, ARCHIVE)


def test_a_network_beyond_the_memory_for_models_is_refused(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(model_object._MAX_BYTES, "model.onnx", 100)
    cloud.put(KEY, archive())
    with pytest.raises(UserError, match="another EndpointMode") as refused:
        publish_model(cloud.bucket, ARCHIVE)
    assert refused.value.code == "model.too_large"
