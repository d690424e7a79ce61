"""Datasets that cannot be used end in a run that says why; the others lose only what is bad."""

import io
import json
import zipfile
from typing import Any

from tests.support.deployed_cloud import CLASSES, Cloud
from tests.support.drawn_images import drawing


def archive(members: dict[str, bytes]) -> bytes:
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as packed:
        for name, body in members.items():
            packed.writestr(name, body)
    return stored.getvalue()


def test_one_class_is_no_dataset(cloud: Cloud) -> None:
    for index in range(3):
        cloud.put(f"datasets/lonely/rings/{index}.jpg", drawing("rings", index))
    cloud.put("datasets/lonely/_READY", b"")

    run = cloud.ended_run("lonely")
    assert run["status"] == "failed"
    assert run["error"]["stage"] == "pack"
    assert "class" in run["error"]["message"]
    assert "exit code 1" in run["error"]["message"]


def test_a_failed_run_is_told_once(cloud: Cloud) -> None:
    queue = cloud.listen_to_failures("hears-of-failures")
    cloud.put("datasets/Not A Name/_READY", b"")
    run = cloud.ended_run("Not A Name")
    assert "cannot be a classifier's name" in run["error"]["message"]

    def heard() -> list[Any] | None:
        answer = cloud.client("sqs").receive_message(
            QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1
        )
        return answer.get("Messages")

    messages = cloud.eventually(heard, "a notification")
    about = [m for m in messages if "Not A Name" in json.loads(m["Body"])["Message"]]
    assert len(about) == 1
    assert run["error"]["message"] in json.loads(about[0]["Body"])["Message"]


def test_an_archive_is_packed_but_for_what_tries_to_escape(cloud: Cloud) -> None:
    members = {
        f"{label}/{index}.jpg": drawing(label, 200 + index)
        for label in CLASSES
        for index in range(8)
    }
    members["../../escaped.jpg"] = drawing("rings", 1)
    members["rings/notes.jpg"] = b"a text that calls itself a picture"
    cloud.put("datasets/zipped.zip", archive(members))

    run = cloud.ended_run("zipped")
    assert run["status"] == "live", run
    dataset = json.loads(cloud.get(f"packed/zipped/{run['run_id']}/dataset.json") or b"")
    skipped = {entry["name"].rpartition("/")[2]: entry["reason"] for entry in dataset["skipped"]}
    assert set(skipped) == {"escaped.jpg", "notes.jpg"}
    assert dataset["counts"]["train"] + dataset["counts"]["validation"] == 24


def test_a_labelled_list_completes_its_dataset_and_loses_only_bad_rows(cloud: Cloud) -> None:
    rows = ["path,label"]
    for label in CLASSES:
        for index in range(8):
            path = f"photos/{label[0]}-{index}.jpg"
            cloud.put(f"datasets/listed/{path}", drawing(label, 300 + index))
            rows.append(f'{path},"{label}, drawn"')
    rows.append('photos/none.jpg,"rings, drawn"')
    rows.append(f's3://{cloud.bucket}/datasets/zipped/r.jpg,"rings, drawn"')
    cloud.put("datasets/listed/labels.csv", "\n".join(rows).encode())

    run = cloud.ended_run("listed")
    assert run["status"] == "live", run
    dataset = json.loads(cloud.get(f"packed/listed/{run['run_id']}/dataset.json") or b"")
    assert dataset["classes"] == [f"{label}, drawn" for label in CLASSES]
    assert dataset["counts"]["train"] + dataset["counts"]["validation"] == 24
    assert [entry["code"] for entry in dataset["skipped"]] == ["row.elsewhere", "row.missing"]
