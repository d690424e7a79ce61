"""The stack deployed again with other parameters: what it keeps, and what it does from then on."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.deployed_cloud import Cloud
from tests.support.drawn_images import drawing

CHANGED = {"StopIdleEndpointHours": "1", "MaxDatasetPictures": "40", "Epochs": "3"}


def update(cloud: Cloud, changed: dict[str, str]) -> dict[str, str]:
    """Deploy with these parameters in place of what they were; returns what they were."""
    formation = cloud.client("cloudformation")
    [stack] = formation.describe_stacks(StackName="droplens")["Stacks"]
    before = {one["ParameterKey"]: one["ParameterValue"] for one in stack["Parameters"]}
    kept = [{"ParameterKey": key, "UsePreviousValue": True} for key in before.keys() - changed]
    formation.update_stack(
        StackName="droplens",
        UsePreviousTemplate=True,
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        Parameters=kept
        + [{"ParameterKey": key, "ParameterValue": value} for key, value in changed.items()],
    )

    def updated() -> str | None:
        [stack] = formation.describe_stacks(StackName="droplens")["Stacks"]
        status: str = stack["StackStatus"]
        return None if status.endswith("IN_PROGRESS") else status

    assert cloud.eventually(updated, "the update") == "UPDATE_COMPLETE"
    return {key: before[key] for key in changed}


def kept(cloud: Cloud) -> dict[str, Any]:
    """All that a user would miss: runs, and every object but the images' sources."""
    pages = cloud.client("s3").get_paginator("list_object_versions").paginate(Bucket=cloud.bucket)
    return {
        "runs": cloud.runs("patterns"),
        "objects": {
            (one["Key"], one["VersionId"])
            for page in pages
            for one in page["Versions"]
            if not one["Key"].startswith("build/")
        },
    }


@pytest.fixture(scope="module")
def redeployed(cloud: Cloud, live_patterns: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What there was before the stack was deployed with other parameters."""
    for early in ("checks", "rings"):
        cloud.result(f"results/patterns/early {early}+%2B.jpg.json")
    before = kept(cloud)
    changed = update(cloud, CHANGED)
    yield before
    update(cloud, changed)


def test_a_deployment_with_other_parameters_keeps_runs_results_and_the_live_model(
    cloud: Cloud, redeployed: dict[str, Any]
) -> None:
    assert len(redeployed["objects"]) > 20
    sources = cloud.client("s3").list_object_versions(Bucket=cloud.bucket, Prefix="build/")
    assert "Versions" not in sources  # erased once the images were built
    assert "DeleteMarkers" not in sources
    assert kept(cloud) == redeployed
    settings = cloud.client("lambda").get_function_configuration(
        FunctionName="droplens-classify-image"
    )["Environment"]["Variables"]
    assert settings["STOP_IDLE_ENDPOINT_HOURS"] == "1"
    cloud.put("input/patterns/redeployed.jpg", drawing("rings", 501))
    result = cloud.result("results/patterns/redeployed.jpg.json")
    assert result["prediction"]["label"] == "rings"
    assert result["model"]["run_id"] == redeployed["runs"][-1]["run_id"]


@pytest.mark.usefixtures("redeployed")
def test_a_dataset_larger_than_the_new_limit_is_refused_before_a_training(cloud: Cloud) -> None:
    cloud.upload_dataset("too-large")
    run = cloud.ended_run("too-large")
    assert run["status"] == "failed"
    assert run["error"]["code"] == "packing.dataset"
    assert "more than 40 pictures" in run["error"]["message"]
    assert "MaxDatasetPictures" in run["error"]["message"]
    jobs = cloud.client("sagemaker").list_training_jobs()["TrainingJobSummaries"]
    assert not [job for job in jobs if "too-large" in job["TrainingJobName"]]
    assert cloud.get(f"packed/too-large/{run['run_id']}/train/train.rec") is None


@pytest.mark.usefixtures("redeployed")
def test_a_picture_has_a_paused_endpoint_back_and_is_answered_once(cloud: Cloud) -> None:
    pause = cloud.client("lambda").invoke(
        FunctionName="droplens-pause-endpoint", Payload=json.dumps({"source": "aws.events"})
    )
    # A serverless one, so that it stays: but it was looked at, and the function may do that.
    assert json.load(pause["Payload"]) == {"paused": []}
    card = json.loads(cloud.get("models/patterns/live.json") or b"")
    sagemaker = cloud.client("sagemaker")
    sagemaker.delete_endpoint(EndpointName=card["endpoint"])

    def gone() -> bool | None:
        names = [one["EndpointName"] for one in sagemaker.list_endpoints()["Endpoints"]]
        return None if card["endpoint"] in names else True

    cloud.eventually(gone, "an endpoint that is paused")
    labels = ("checks", "rings", "stripes")
    for label in labels:
        cloud.put(f"input/patterns/waking {label}.jpg", drawing(label, 502))
    for label in labels:
        key = f"results/patterns/waking {label}.jpg.json"
        assert cloud.result(key)["prediction"]["label"] == label
        assert cloud.versions(key) == 1
    assert json.loads(cloud.get("models/patterns/live.json") or b"") == card
    assert cloud.runs("patterns")[-1]["status"] == "live"
