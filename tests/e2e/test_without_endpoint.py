"""A model answers inside classify_image; beside it, others answer by their endpoints."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.deployed_cloud import CLASSES, Cloud
from tests.support.drawn_images import drawing

# Of a function's code with its layers, unzipped: Lambda refuses 250 MB.
MOST_BYTES = 200_000_000
# HEIC's decoder, which the layer has where Python is 3.12 or newer.
PILLOW_HEIF_BYTES = 28_000_000


@pytest.fixture(scope="module")
def inside(cloud: Cloud) -> dict[str, Any]:
    """The live run of a classifier "inside", deployed as with EndpointMode=lambda."""
    functions, name = cloud.client("lambda"), "droplens-deploy-endpoint"
    before = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    changed = {"Variables": {**before, "ENDPOINT_MODE": "lambda"}}
    functions.update_function_configuration(FunctionName=name, Environment=changed)
    try:
        cloud.upload_dataset("inside")
        run = cloud.ended_run("inside")
    finally:
        functions.update_function_configuration(
            FunctionName=name, Environment={"Variables": before}
        )
    assert run["status"] == "live", run
    return run


def test_its_pictures_are_answered_without_an_endpoint(
    cloud: Cloud, inside: dict[str, Any]
) -> None:
    listed = cloud.client("sagemaker").list_endpoints()["Endpoints"]
    assert inside["endpoint"] not in {endpoint["EndpointName"] for endpoint in listed}
    card = json.loads(cloud.get("models/inside/live.json") or b"")
    assert card["model"]["sha256"] == inside["model"]["sha256"]
    right = 0
    for label in CLASSES:
        cloud.put(f"input/inside/{label}.jpg", drawing(label, 800))
    for label in CLASSES:
        result = cloud.result(f"results/inside/{label}.jpg.json")
        assert result["model"]["run_id"] == inside["run_id"]
        right += result["prediction"]["label"] == label
    assert right >= 2


def test_the_functions_that_run_models_fit_into_lambda(cloud: Cloud) -> None:
    build = Path(cloud.environment["DROPLENS_LOCAL"]) / "sam" / ".aws-sam" / "build"
    sizes = {
        part: sum(file.stat().st_size for file in (build / part).rglob("*") if file.is_file())
        for part in ("ClassifyImage", "Layer", "InferenceLayer")
    }
    assert min(sizes.values()) > 0
    assert sum(sizes.values()) + PILLOW_HEIF_BYTES < MOST_BYTES, sizes
