"""Pictures dropped at once, and what became of each: answered, lost, answered twice or wrongly."""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from benchmarks.classify.cloud import Cloud, eventually
from benchmarks.classify.containers.oracle.program import foretold
from droplens import layout
from droplens.card import ModelCard
from droplens.result import TOP

THREADS = 8


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
    the result says of this very picture. untold: a result that no event told of. unfounded: ids of
    events that tell of no result, or that carry different contents.
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
    """Put all pictures, from several threads at once."""
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


def answer_all(cloud: Cloud, classifier: str, count: int, patience: float) -> None:
    """Wait until `count` results of the classifier stand and nothing is on its way any more."""
    s3 = cloud.client("s3")
    prefix = f"{layout.RESULTS}{classifier}/"

    def done() -> bool:
        if cloud.waiting() != (0, 0):
            return False
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=cloud.bucket, Prefix=prefix)
        return sum(page["KeyCount"] for page in pages) >= count

    eventually(done, f"{count} results below {prefix}", patience)


def find_faults(
    cloud: Cloud,
    dropped: Iterable[Dropped],
    cards: Iterable[ModelCard],
    told: Iterable[Mapping[str, Any]] | None = None,
) -> Faults:
    """Hold every version of every result of one classifier against what was promised.

    told: the details of all "Image Classified" events that came; None: nobody listened.
    """
    models = {card.run_id: card for card in cards}
    [classifier] = {card.classifier for card in models.values()}
    pictures = {layout.result_key(one.key, classifier): one for one in dropped}
    faults, identities = Faults(), {}
    for key, results in _versions(cloud, f"{layout.RESULTS}{classifier}/").items():
        picture = pictures.pop(key, None)
        by_run = Counter(result["model"]["run_id"] for result in results)
        if picture is None or max(by_run.values()) > 1:
            faults.doubled.append(key)
        for result in results:
            run = result["model"]["run_id"]
            identities[(key, result["image"]["etag"], run)] = result
            if picture is None or not _right(result, picture, models.get(run)):
                faults.wrong.append(key)
    faults.lost.extend(picture.key for picture in pictures.values())
    if told is not None:
        _compare_events(faults, identities, told)
    return faults


def _right(result: Mapping[str, Any], picture: Dropped, card: ModelCard | None) -> bool:
    """Whether the result is that of this very picture by the model and classes that it names."""
    if card is None or result["status"] != "classified":
        return False
    expected = foretold(picture.body, card.classes)
    best = sorted(expected, key=lambda name: -expected[name])[:TOP]
    top = [(entry["label"], entry["probability"]) for entry in result["top"]]
    return (
        top == [(name, round(expected[name], 6)) for name in best]
        and result["prediction"]["label"] == best[0]
        and result["model"]["endpoint"] == card.endpoint
        and result["image"]["etag"] == picture.message["detail"]["object"]["etag"]
    )


def _versions(cloud: Cloud, prefix: str) -> dict[str, list[dict[str, Any]]]:
    """Every version of every result below `prefix`, by key."""
    s3 = cloud.client("s3")
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=cloud.bucket, Prefix=prefix)
    listed = [
        (entry["Key"], entry["VersionId"]) for page in pages for entry in page.get("Versions", [])
    ]

    def read(version: tuple[str, str]) -> tuple[str, dict[str, Any]]:
        key, version_id = version
        answer = s3.get_object(Bucket=cloud.bucket, Key=key, VersionId=version_id)
        return key, json.loads(answer["Body"].read())

    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with ThreadPoolExecutor(THREADS) as pool:
        for key, result in pool.map(read, listed):
            found[key].append(result)
    return found


def _compare_events(
    faults: Faults,
    results: Mapping[tuple[str, str, str], Mapping[str, Any]],
    told: Iterable[Mapping[str, Any]],
) -> None:
    """Every result was told of, and nothing else; one id always says the same."""
    by_id: dict[str, Mapping[str, Any]] = {}
    heard = set()
    for detail in told:
        identity = (detail["result"]["key"], detail["image"]["etag"], detail["model"]["run_id"])
        heard.add(identity)
        result = results.get(identity)
        if by_id.setdefault(detail["id"], detail) != detail or (
            result is None or result["prediction"] != detail.get("prediction")
        ):
            faults.unfounded.append(detail["id"])
    faults.untold.extend(key for key, etag, run in results if (key, etag, run) not in heard)
