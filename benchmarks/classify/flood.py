"""Images uploaded at once, and the fault of each result: missing, duplicated or wrong."""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from benchmarks.classify.cloud import Cloud, eventually
from benchmarks.classify.containers.oracle.program import foretold
from benchmarks.classify.pictures import bare
from droplens.domain import layout
from droplens.domain.card import ModelCard
from droplens.domain.result import TOP
from tools.contract import validate_named

THREADS = 8

# The classes that a model gives for a picture's bytes, best first, with their probabilities.
Top = list[tuple[str, float]]
Expected = Callable[[ModelCard, bytes], Top]


@dataclass(frozen=True)
class Dropped:
    """A picture as it was dropped. message: S3's event of it, as far as S3's answer tells it."""

    key: str
    body: bytes
    message: dict[str, Any]


@dataclass(frozen=True)
class Faults:
    """Keys of pictures with something wrong; all empty is what is promised.

    lost: no result. doubled: more than one result of one model. wrong: not what the model named in
    the result says of this very picture, or an older model's result above a newer one's. untold: a
    result that stands and that no event told of. unfounded: ids of events that tell of no result,
    or that come with different contents.
    """

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)
    unfounded: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """How many there are of each kind."""
        kinds = ("lost", "doubled", "wrong", "untold", "unfounded")
        return {kind: len(getattr(self, kind)) for kind in kinds}


def drop(cloud: Cloud, pictures: Iterable[tuple[str, bytes]]) -> list[Dropped]:
    """Upload all images, from several threads."""
    s3 = cloud.client("s3")

    def put(picture: tuple[str, bytes]) -> Dropped:
        key, body = picture
        answer = s3.put_object(Bucket=cloud.bucket, Key=key, Body=body)
        stored = {
            "key": key,
            "size": len(body),
            "etag": answer["ETag"].strip('"'),
            "version-id": answer["VersionId"],
            "sequencer": f"{time.time_ns():018X}",
        }
        detail = {"version": "0", "bucket": {"name": cloud.bucket}, "object": stored}
        message = {"source": "aws.s3", "detail-type": "Object Created", "detail": detail}
        return Dropped(key, body, message)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(put, pictures))


def answered(cloud: Cloud, classifier: str) -> int:
    """How many results of the classifier stand."""
    pages = cloud.client("s3").get_paginator("list_objects_v2")
    prefix = f"{layout.RESULTS}{classifier}/"
    return sum(page["KeyCount"] for page in pages.paginate(Bucket=cloud.bucket, Prefix=prefix))


def patience(count: int) -> float:
    """Seconds to wait for `count` answers; far more than a noisy machine takes."""
    return 300 + count * 0.5


def await_answers(cloud: Cloud, classifier: str, count: int, seconds: float) -> None:
    """Wait until `count` results of the classifier stand and nothing is on its way any more."""
    eventually(
        lambda: cloud.waiting() == (0, 0) and answered(cloud, classifier) >= count,
        f"{count} results of {classifier}",
        seconds,
        every=0.2 if count < 1000 else 1.0,  # looking costs the local cloud more, the more wait
    )


def foretold_top(card: ModelCard, picture: bytes) -> Top:
    """What an oracle that serves the card's classes gives."""
    expected = foretold(bare(picture), card.classes)
    best = sorted(expected, key=lambda name: -expected[name])[:TOP]
    return [(name, round(expected[name], 6)) for name in best]


def find_faults(
    cloud: Cloud,
    dropped: Iterable[Dropped],
    cards: Iterable[ModelCard],
    told: Iterable[Mapping[str, Any]] | None = None,
    expected: Expected = foretold_top,
) -> Faults:
    """Compare every version of every result of one classifier with the contract.

    Raises jsonschema.ValidationError for one that is not as the published schema says.

    dropped: all pictures of the classifier. told: the details of all "Image Classified" events
    received; None: there was no listener.
    """
    models = {card.run_id: card for card in cards}
    [classifier] = {card.classifier for card in models.values()}

    def right(one: Mapping[str, Any], picture: Dropped) -> bool:
        card = models.get(one["model"]["run_id"])
        return card is not None and _right(one, picture, card, expected)

    pictures = {layout.result_key(one.key, classifier): one for one in dropped}
    faults = Faults()
    stored = _versions(cloud, f"{layout.RESULTS}{classifier}/")
    for key, results in stored.items():
        picture = pictures.pop(key, None)
        runs = Counter(result["model"]["run_id"] for result in results)
        if picture is None or max(runs.values()) > 1:
            faults.doubled.append(key)
        if (
            picture is None
            or results[0]["model"]["run_id"] != max(runs)
            or not all(right(one, picture) for one in results)
        ):
            faults.wrong.append(key)
    faults.lost.extend(picture.key for picture in pictures.values())
    if told is not None:
        _compare_events(faults, stored, told)
    return faults


def _right(
    result: Mapping[str, Any], picture: Dropped, card: ModelCard, expected: Expected
) -> bool:
    """Whether the result is that of this very picture by the model and classes that it names."""
    if result["status"] != "classified":
        return False
    top = expected(card, picture.body)
    return (
        [(entry["label"], entry["probability"]) for entry in result["top"]] == top
        and result["prediction"]["label"] == top[0][0]
        and result["model"]["endpoint"] == card.endpoint
        and result["image"]["etag"] == picture.message["detail"]["object"]["etag"]
    )


def _versions(cloud: Cloud, prefix: str) -> dict[str, list[dict[str, Any]]]:
    """Every version of every result below `prefix`, by key, the newest first."""
    s3 = cloud.client("s3")
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=cloud.bucket, Prefix=prefix)
    listed = [
        (entry["Key"], entry["VersionId"]) for page in pages for entry in page.get("Versions", [])
    ]

    def read(version: tuple[str, str]) -> tuple[str, dict[str, Any]]:
        key, version_id = version
        answer = s3.get_object(Bucket=cloud.bucket, Key=key, VersionId=version_id)
        result = json.loads(answer["Body"].read())
        validate_named(result)
        return key, result

    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with ThreadPoolExecutor(THREADS) as pool:
        for key, result in pool.map(read, listed):
            found[key].append(result)
    return found


def _compare_events(
    faults: Faults,
    stored: Mapping[str, list[dict[str, Any]]],
    told: Iterable[Mapping[str, Any]],
) -> None:
    """Each current result has an event, no other event exists, and equal ids have equal details."""

    def identity(key: str, document: Mapping[str, Any]) -> tuple[str, str, str]:
        return key, document["image"]["etag"], document["model"]["run_id"]

    results = {identity(key, one): one for key, versions in stored.items() for one in versions}
    by_id: dict[str, Mapping[str, Any]] = {}
    heard = set()
    for detail in told:
        validate_named(detail)
        about = identity(detail["result"]["key"], detail)
        heard.add(about)
        if (
            by_id.setdefault(detail["id"], detail) != detail
            or about not in results
            or results[about]["prediction"] != detail.get("prediction")
        ):
            faults.unfounded.append(detail["id"])
    faults.untold.extend(
        key for key, versions in stored.items() if identity(key, versions[0]) not in heard
    )
