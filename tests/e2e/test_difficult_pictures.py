"""Difficult keys, files and moments, all dropped at once: each gets its one answer, or none."""

import json
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from tests.support.deployed_cloud import Cloud
from tests.support.drawn_images import drawing

pytestmark = pytest.mark.usefixtures("live_patterns")

PREFIX = "input/patterns/difficult/"
LONGEST = PREFIX + "lång/" * 150
LONGEST += "x" * (1024 - len(LONGEST.encode()) - 4) + ".jpg"
KEYS = [
    "a b.jpg",
    " leading and trailing .jpg ",
    "a+b.jpg",
    "a%2Bb.jpg",
    "a%20b.jpg",
    "100%.jpg",
    "%E8%BB%8A.jpg",
    "車.jpg",
    "🚗 🏁.jpg",
    "e\u0301.jpg",
    "\u00e9.jpg",
    "a&b=c?d#e;f:g@h,i$.jpg",
    "quote'\"<tag>`.jpg",
    "back\\slash.jpg",
    "~tilde^[brackets]{braces}|.jpg",
    "double//slash.jpg",
    "no extension",
    ".hidden",
    "UPPER.JPG",
]
HOSTILE = {
    "zero.jpg": (b"", "image.empty"),
    "words.jpg": (b"not a picture at all", "image.unreadable"),
    "page.jpg": (b"<!DOCTYPE html><html></html>", "image.unreadable"),
    "half.jpg": (drawing("rings", 3)[:3000], "image.unreadable"),
    "layers.psd": (b"8BPS\x00\x01" + bytes(60), "image.unsupported_format"),
    "large.jpg": (drawing("rings", 3) + bytes(26 * 1024 * 1024), "image.too_large"),
}


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    data = BytesIO()
    picture.save(data, kind, **options)
    return data.getvalue()


def strange_files() -> dict[str, tuple[bytes, str | None]]:
    """Name to bytes and the code of their rejection, None for pictures that can be answered."""
    rings = Image.open(BytesIO(drawing("rings", 41)))
    bomb = encoded(Image.new("1", (10_001, 10_000)), "PNG")
    files: dict[str, tuple[bytes, str | None]] = {**HOSTILE}
    files["bomb.png"] = (bomb, "image.too_many_pixels")
    files["strip.png"] = (encoded(Image.new("RGB", (900, 9)), "PNG"), "image.too_narrow")
    for kind in ("PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"):
        files[f"picture.{kind.lower()}"] = (encoded(rings, kind), None)
    files["cmyk.jpg"] = (encoded(rings.convert("CMYK"), "JPEG"), None)
    files["progressive.jpg"] = (encoded(rings, "JPEG", progressive=True), None)
    files["png called.jpg"] = (encoded(rings, "PNG"), None)
    return files


def result_of(cloud: Cloud, key: str) -> dict[str, Any]:
    return cloud.result(f"results/{key.removeprefix('input/')}.json")


def queue_is_empty(cloud: Cloud) -> bool | None:
    attributes = cloud.client("sqs").get_queue_attributes(
        QueueUrl=cloud.outputs["PictureQueueUrl"], AttributeNames=["All"]
    )["Attributes"]
    counts = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
    return True if all(attributes[name] == "0" for name in counts) else None


def test_every_key_and_file_gets_its_one_answer(cloud: Cloud) -> None:
    files = strange_files()
    expected = {PREFIX + name: code for name, (_, code) in files.items()}
    for name, (body, _) in files.items():
        cloud.put(PREFIX + name, body)
    for number, name in enumerate(KEYS):
        cloud.put(PREFIX + name, drawing("checks", 800 + number))
        expected[PREFIX + name] = None
    cloud.put(LONGEST, drawing("stripes", 900))
    cloud.put(PREFIX + "a folder/", b"")
    vanishing = PREFIX + "vanishing.jpg"
    cloud.put(vanishing, drawing("rings", 901))
    cloud.client("s3").delete_object(Bucket=cloud.bucket, Key=vanishing)
    for seed in range(5):
        cloud.put(PREFIX + "overwritten.jpg", drawing("rings", 910 + seed))
    cloud.put(PREFIX + "overwritten.jpg", drawing("checks", 920))

    for key, code in expected.items():
        result = result_of(cloud, key)
        assert result["image"]["key"] == key
        if code:
            assert (result["status"], result["error"]["code"]) == ("rejected", code), key
        else:
            assert result["status"] == "classified", key
    cloud.eventually(lambda: queue_is_empty(cloud), "an empty picture queue")

    # One result for each picture, once written, and no other.
    listed = cloud.client("s3").list_objects_v2(
        Bucket=cloud.bucket, Prefix="results/patterns/difficult/"
    )["Contents"]
    results = {entry["Key"]: json.loads(cloud.get(entry["Key"]) or b"") for entry in listed}
    answered = sorted(result["image"]["key"] for result in results.values())
    once = {*expected, LONGEST}
    kept = {PREFIX + "overwritten.jpg"} | ({vanishing} & set(answered))  # it may have been in time
    assert answered == sorted(once | kept)
    for key, result in results.items():
        assert len(key.encode()) <= 1024
        if result["image"]["key"] in once:
            assert cloud.versions(key) == 1, key
    current = cloud.client("s3").head_object(Bucket=cloud.bucket, Key=PREFIX + "overwritten.jpg")
    last = result_of(cloud, PREFIX + "overwritten.jpg")["image"]
    assert last["version_id"] == current["VersionId"]


def test_the_same_bytes_dropped_again_are_answered_again(cloud: Cloud) -> None:
    key = PREFIX + "again.jpg"
    cloud.put(key, drawing("stripes", 930))
    first = result_of(cloud, key)
    cloud.put(key, drawing("stripes", 930))

    def anew() -> bool | None:
        return result_of(cloud, key)["image"]["version_id"] != first["image"]["version_id"] or None

    cloud.eventually(anew, "a second answer")
    assert cloud.versions("results/patterns/difficult/again.jpg.json") == 2


def test_a_picture_that_was_given_up_is_answered_once_it_is_redriven(cloud: Cloud) -> None:
    lambdas, sqs = cloud.client("lambda"), cloud.client("sqs")
    queue = cloud.outputs["PictureQueueUrl"]
    [mapping] = [
        found
        for found in lambdas.list_event_source_mappings()["EventSourceMappings"]
        if ":droplens-PictureQueue" in found["EventSourceArn"]
    ]
    policy = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["RedrivePolicy"])[
        "Attributes"
    ]["RedrivePolicy"]
    assert cloud.make("redrive-local").splitlines()[-1] == "Dead-letter queue is empty"

    # As if it had failed fifty times: nobody takes it, and one time is enough.
    lambdas.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    once = json.dumps({**json.loads(policy), "maxReceiveCount": 1})
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"RedrivePolicy": once})
    try:
        key = PREFIX + "given up.jpg"
        cloud.put(key, drawing("rings", 940))

        def given_up() -> bool | None:
            sqs.receive_message(QueueUrl=queue, VisibilityTimeout=0)
            waiting = sqs.get_queue_attributes(
                QueueUrl=cloud.outputs["PictureDlqUrl"], AttributeNames=["All"]
            )["Attributes"]["ApproximateNumberOfMessages"]
            return True if waiting == "1" else None

        cloud.eventually(given_up, "a dead letter")
    finally:
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={"RedrivePolicy": policy})
        lambdas.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)
    assert cloud.make("redrive-local").splitlines()[-1] == (
        "Pictures sent back from the dead-letter queue: 1"
    )
    assert result_of(cloud, key)["status"] == "classified"
