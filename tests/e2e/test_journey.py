"""The main job: a dataset dropped in a bucket becomes answered pictures."""

import json
import subprocess
from typing import Any

import pytest

from tests.support.deployed_cloud import CLASSES, Cloud
from tests.support.drawn_images import drawing


def test_a_dropped_dataset_becomes_a_live_model(
    cloud: Cloud, live_patterns: dict[str, Any]
) -> None:
    card = json.loads(cloud.get("models/patterns/live.json") or b"")
    packed = json.loads(cloud.get(f"packed/patterns/{live_patterns['run_id']}/dataset.json") or b"")

    assert card["classes"] == sorted(CLASSES) == packed["classes"]
    assert card["run_id"] == live_patterns["run_id"]
    assert card["measured"]["pictures"] == packed["counts"]["validation"] == 9
    assert float(live_patterns["accuracy"]) == pytest.approx(card["measured"]["accuracy"])
    assert card["measured"]["accuracy"] >= 0.8


def test_pictures_dropped_before_the_first_model_are_answered(
    cloud: Cloud, live_patterns: dict[str, Any]
) -> None:
    for label in CLASSES[:2]:
        result = cloud.result(f"results/patterns/early {label}+%2B.jpg.json")
        assert result["image"]["key"] == f"input/patterns/early {label}+%2B.jpg"
        assert result["status"] == "classified"


@pytest.mark.usefixtures("live_patterns")
def test_a_dropped_picture_becomes_a_result(cloud: Cloud) -> None:
    right = 0
    for label in CLASSES:
        for seed in range(500, 504):
            cloud.put(f"input/patterns/{label} {seed}.jpg", drawing(label, seed))
    for label in CLASSES:
        for seed in range(500, 504):
            result = cloud.result(f"results/patterns/{label} {seed}.jpg.json")
            assert result["classifier"] == "patterns"
            assert (result["image"]["width"], result["image"]["height"]) == (360, 300)
            right += result["prediction"]["label"] == label
    assert right >= 10


@pytest.mark.usefixtures("live_patterns")
def test_a_picture_that_names_no_classifier_goes_to_the_default_one(cloud: Cloud) -> None:
    default = json.loads(cloud.get("models/default.json") or b"")["classifier"]
    cloud.put("input/anything.jpg", drawing("rings", 1))

    assert cloud.result(f"results/{default}/anything.jpg.json")["classifier"] == default


@pytest.mark.usefixtures("live_patterns")
@pytest.mark.parametrize(
    ("name", "body", "code"),
    [
        ("notes.jpg", b"a text that calls itself a picture", "image.unreadable"),
        ("empty.jpg", b"", "image.empty"),
        ("half.jpg", drawing("rings", 3)[:4000], "image.unreadable"),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image.unsupported_format"),
    ],
)
def test_what_is_no_picture_is_rejected_with_a_reason(
    cloud: Cloud, name: str, body: bytes, code: str
) -> None:
    cloud.put(f"input/patterns/{name}", body)

    result = cloud.result(f"results/patterns/{name}.json")
    assert result["status"] == "rejected"
    assert result["error"]["code"] == code


@pytest.mark.usefixtures("live_patterns")
def test_an_overwritten_picture_is_answered_anew(cloud: Cloud) -> None:
    cloud.put("input/patterns/changing.jpg", drawing("rings", 10))
    first = cloud.result("results/patterns/changing.jpg.json")
    cloud.put("input/patterns/changing.jpg", drawing("checks", 11))

    def anew() -> dict[str, Any] | None:
        result = cloud.result("results/patterns/changing.jpg.json")
        return result if result["image"]["etag"] != first["image"]["etag"] else None

    assert cloud.eventually(anew, "the second answer")["prediction"]["label"] == "checks"


def test_an_unmodified_client_asks_the_endpoint(
    cloud: Cloud, live_patterns: dict[str, Any]
) -> None:
    answer = cloud.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=live_patterns["endpoint"],
        ContentType="image/jpeg",
        Body=drawing("stripes", 77),
    )
    probabilities = json.loads(answer["Body"].read())

    assert len(probabilities) == len(CLASSES)
    assert sum(probabilities) == pytest.approx(1, abs=1e-3)


@pytest.mark.usefixtures("live_patterns")
def test_the_aws_command_drops_a_picture(cloud: Cloud, tmp_path: Any) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(drawing("checks", 5))
    copied = subprocess.run(
        [
            str(cloud.root / ".local/venv/tools/bin/aws"),
            "--endpoint-url",
            cloud.url,
            "s3",
            "cp",
            str(photo),
            f"s3://{cloud.bucket}/input/patterns/photo.jpg",
        ],
        env={
            **cloud.environment,
            **cloud.keys,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert copied.returncode == 0, copied.stderr

    assert cloud.result("results/patterns/photo.jpg.json")["prediction"]["label"] == "checks"


def test_a_second_run_replaces_the_first_and_its_endpoint(cloud: Cloud) -> None:
    cloud.upload_dataset("again", seed=1)
    first = cloud.ended_run("again")
    cloud.upload_dataset("again", seed=2)
    second = cloud.ended_run("again", count=2)

    assert (first["status"], second["status"]) == ("live", "live")
    assert cloud.runs("again")[0]["status"] == "replaced"

    def without_the_first() -> set[str] | None:
        # The first run is on record as replaced a moment before its endpoint is removed.
        endpoints = cloud.client("sagemaker").list_endpoints()["Endpoints"]
        names = {endpoint["EndpointName"] for endpoint in endpoints}
        return names if first["endpoint"] not in names else None

    names = cloud.eventually(without_the_first, "the end of the replaced endpoint")
    assert second["endpoint"] in names
    cloud.put("input/again/a.jpg", drawing("rings", 3))
    assert cloud.result("results/again/a.jpg.json")["model"]["run_id"] == second["run_id"]


@pytest.mark.usefixtures("live_patterns")
def test_a_second_deploy_changes_nothing(cloud: Cloud) -> None:
    before = cloud.client("cloudformation").describe_stacks(StackName="droplens")["Stacks"][0]
    said = cloud.make("deploy-local")
    after = cloud.client("cloudformation").describe_stacks(StackName="droplens")["Stacks"][0]

    assert "No changes to deploy" in said
    assert before.get("LastUpdatedTime") == after.get("LastUpdatedTime")
    cloud.put("input/patterns/after-deploy.jpg", drawing("rings", 21))
    assert cloud.result("results/patterns/after-deploy.jpg.json")["status"] == "classified"


@pytest.mark.usefixtures("live_patterns")
def test_the_model_answers_again_after_a_restart(cloud: Cloud) -> None:
    cloud.localcloud("down")
    cloud.localcloud("up")
    cloud.put("input/patterns/after-restart.jpg", drawing("stripes", 31))

    result = cloud.result("results/patterns/after-restart.jpg.json")
    assert result["prediction"]["label"] == "stripes"
