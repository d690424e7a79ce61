"""Nothing goes live unmeasured, and what was live can be had back."""

import json
import random
from typing import Any

import pytest

from droplens.domain import layout
from droplens.domain.review import Review
from tests.support.deployed_cloud import CLASSES, Cloud
from tests.support.drawn_images import drawing


@pytest.fixture(scope="module")
def two_runs(cloud: Cloud) -> list[dict[str, Any]]:
    """The runs of a classifier "guarded", of which the second has replaced the first."""
    for seed in (1, 2):
        cloud.upload_dataset("guarded", seed=seed)
        run = cloud.ended_run("guarded", count=seed)
        assert run["status"] == "live", run.get("error")
    return cloud.runs("guarded")


def live(cloud: Cloud, classifier: str) -> dict[str, Any]:
    card: dict[str, Any] = json.loads(cloud.get(f"models/{classifier}/live.json") or b"{}")
    return card


def answered_by(cloud: Cloud, picture: str, run: dict[str, Any]) -> bool:
    cloud.put(f"input/guarded/{picture}.jpg", drawing("rings", 70))
    result = cloud.result(f"results/guarded/{picture}.jpg.json")
    assert result["prediction"]["label"] == "rings"
    return bool(result["model"]["run_id"] == run["run_id"])


def test_a_measured_model_shows_its_evidence(cloud: Cloud, two_runs: list[dict[str, Any]]) -> None:
    second = two_runs[1]
    reports = f"reports/guarded/{second['run_id']}/"
    evaluation = json.loads(cloud.get(f"{reports}evaluation.json") or b"")
    assert evaluation["pictures"] == len(evaluation["answers"]) == 9
    assert evaluation["comparison"]["run_id"] == two_runs[0]["run_id"]
    assert (cloud.get(f"{reports}index.html") or b"").startswith(b"<!doctype html>")
    registered = cloud.client("sagemaker").describe_model_package(
        ModelPackageName=second["model_package"]
    )
    packed = json.loads(cloud.get(f"packed/guarded/{second['run_id']}/dataset.json") or b"")
    assert registered["ModelApprovalStatus"] == "Approved"
    assert registered["CustomerMetadataProperties"]["dataset-digest"] == packed["digest"]


def test_a_candidate_that_learned_nonsense_is_refused_and_the_live_one_goes_on(
    cloud: Cloud, two_runs: list[dict[str, Any]]
) -> None:
    labels = [label for label in CLASSES for _ in range(14)]
    random.Random(5).shuffle(labels)
    for number, label in enumerate(labels):
        key = f"datasets/guarded/{CLASSES[number // 14]}/{number % 14:02}.jpg"
        cloud.put(key, drawing(label, 3000 + number))
    cloud.put("datasets/guarded/_READY", b"")
    refused = cloud.ended_run("guarded", count=3)
    assert refused["status"] == "refused", refused
    assert refused["error"]["code"] == "accuracy.too_low"

    def removed() -> bool | None:  # deleting an endpoint takes a while
        found = cloud.client("sagemaker").list_endpoints()["Endpoints"]
        return refused["endpoint"] not in [one["EndpointName"] for one in found] or None

    assert cloud.eventually(removed, "the removal of the candidate's endpoint")
    assert answered_by(cloud, "after the refusal", two_runs[1])


def test_what_a_model_is_unsure_of_waits_for_one_person(
    cloud: Cloud, two_runs: list[dict[str, Any]]
) -> None:
    """Nine validation pictures prove no threshold, so that no prediction is confident."""
    key, picture = "input/guarded/for a person.jpg", drawing("rings", 71)
    cloud.put(key, picture)
    assert (
        cloud.result(f"{key.replace('input', 'results')}.json")["prediction"]["confident"] is False
    )
    reviews = cloud.reviews

    def claimed() -> Review | None:
        return next((one for one in reviews.claim("guarded", "ann", 100) if one.key == key), None)

    review = cloud.eventually(claimed, "the review of the picture")
    assert review.model == two_runs[1]["run_id"]
    assert reviews.claim("guarded", "bob", 100) == []
    decided = reviews.decide(review, "stripes", "ann")
    correction = layout.correction_key("guarded", "stripes", key)
    assert cloud.get(correction) == picture
    assert reviews.decisions("guarded").reviews == [decided]
    reviews.undo(decided, "ann")
    assert cloud.get(correction) is None


def test_an_earlier_model_comes_back_by_one_command(
    cloud: Cloud, two_runs: list[dict[str, Any]]
) -> None:
    first, second = two_runs
    said = cloud.make("rollback-local", "CLASSIFIER=guarded")
    assert f"Roll back to run {first['run_id']}" in said
    assert f"run {first['run_id']} is live" in said
    card = live(cloud, "guarded")
    assert (card["run_id"], card["replaces"]) == (first["run_id"], second["run_id"])
    assert card["endpoint"] != first["endpoint"]  # it was removed, and made again
    assert answered_by(cloud, "after the rollback", first)

    def settled() -> bool | None:
        status = {run["run_id"]: run["status"] for run in cloud.runs("guarded")}
        return (status[first["run_id"]], status[second["run_id"]]) == ("live", "replaced") or None

    cloud.eventually(settled, "the replaced model's record")
