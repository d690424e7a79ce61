"""The flood's judge finds each kind of fault, and none where there is none."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from benchmarks.classify.cloud import Cloud
from benchmarks.classify.containers.oracle.program import foretold
from benchmarks.classify.flood import Dropped, drop, find_faults
from droplens.aws.s3 import Bucket
from droplens.domain import layout, result
from droplens.domain.result import classified_event
from droplens.imaging.prepare import ImageInfo
from tests.support.builders import card

OLDER = replace(card("20261122-120000-00000a"), classes=("a", "b", "c"))
NEWER = replace(card("20261122-130000-00000b"), classes=("c", "b", "a"))
BUCKET = "droplens-bucket"


class Account(Cloud):
    """moto in place of a local cloud."""

    def client(self, service: str) -> Any:
        make: Any = boto3.client
        return make(service)


class Story:
    """Pictures that were dropped, and results as a function would write them, right or wrong."""

    def __init__(self, cloud: Account) -> None:
        self.cloud = cloud
        self.bucket = Bucket(cloud.client("s3"), BUCKET)
        self.told: list[dict[str, Any]] = []
        names = [f"input/cars/{number}.jpg" for number in range(3)]
        self.dropped = drop(cloud, ((name, name.encode()) for name in names))

    def answer(self, picture: Dropped, model: Any = NEWER, *, order: Any = None) -> None:
        """Write the result of `model`, its answer read with the class list `order`."""
        said = foretold(picture.body, model.classes)
        response = result.Response([said[name] for name in model.classes], novelty=None)
        reading = replace(model, classes=order or model.classes)
        document = result.classified(
            BUCKET, self.bucket.head(picture.key), ImageInfo("JPEG", 9, 9), response, reading
        )
        key = layout.result_key(picture.key, "cars")
        self.cloud.client("s3").put_object(
            Bucket=BUCKET, Key=key, Body=result.to_json(document), ContentType="application/json"
        )
        self.told.append(classified_event(document, key, model.generation))

    def faults(self) -> dict[str, int]:
        counts = find_faults(self.cloud, self.dropped, [OLDER, NEWER], self.told).counts()
        return {kind: count for kind, count in counts.items() if count}


@pytest.fixture
def story() -> Iterator[Story]:
    with mock_aws():
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        story = Story(Account(Path(), {}, {"BucketName": BUCKET}))
        for picture in story.dropped[1:]:
            story.answer(picture, OLDER)
            story.answer(picture)
        yield story


def test_one_answer_of_each_model_and_repeated_events_are_no_fault(story: Story) -> None:
    story.answer(story.dropped[0])
    story.told += story.told
    assert story.faults() == {}


@pytest.mark.parametrize(
    ("tell", "found"),
    [
        (lambda *_: None, {"lost": 1}),
        (lambda story, first: (story.answer(first), story.answer(first)), {"doubled": 1}),
        (lambda story, first: (story.answer(first), story.answer(first, OLDER)), {"wrong": 1}),
        (
            lambda story, first: story.answer(first, order=OLDER.classes),
            {"wrong": 1},
        ),
        (lambda story, first: (story.answer(first), story.told.pop()), {"untold": 1}),
        (
            lambda story, first: (
                story.answer(first),
                story.told.append({**story.told[-1], "classifier": "cats"}),
            ),
            {"unfounded": 1},
        ),
    ],
    ids=["lost", "doubled", "older above newer", "other class list", "untold", "unfounded"],
)
def test_a_fault_is_found(
    story: Story, tell: Callable[[Story, Dropped], Any], found: dict[str, int]
) -> None:
    tell(story, story.dropped[0])
    assert story.faults() == found
