"""Pictures in a folder that names no classifier: by a typo, and before the classifier is there."""

import json
from typing import Any

from tests.support.deployed_cloud import Cloud
from tests.support.drawn_images import drawing


def test_they_wait_and_are_answered_by_their_own_classifier_when_it_goes_live(
    cloud: Cloud, live_patterns: dict[str, Any]
) -> None:
    assert live_patterns["status"] in ("live", "replaced")
    default = json.loads(cloud.get("models/default.json") or b"")["classifier"]
    cloud.put("input/paterns/typo.jpg", drawing("rings", 61))
    cloud.put("input/later/early.jpg", drawing("rings", 62))
    # As the default classifier answered such a picture in earlier versions.
    former = f"results/{default}/later/early.jpg.json"
    wrong = {"classifier": default, "image": {"key": "input/later/early.jpg"}}
    cloud.put(former, json.dumps(wrong).encode())
    # And one that is another picture's, at a place where a picture of "later" had its own.
    cloud.put("input/later/twin.jpg", drawing("checks", 63))
    twin = f"results/{default}/later/twin.jpg.json"
    rightful = {"classifier": default, "image": {"key": f"input/{default}/later/twin.jpg"}}
    cloud.put(twin, json.dumps(rightful).encode())

    said = [" ".join(line.split()) for line in cloud.make("status-local").splitlines()]
    assert "input/paterns/ 1 no classifier has this name; did you mean patterns?" in said
    assert any(line.startswith("input/later/ 2 no classifier has this name") for line in said)

    cloud.upload_dataset("later", seed=6)
    run = cloud.ended_run("later")
    assert run["status"] == "live", run.get("error")
    for name, label in (("early", "rings"), ("twin", "checks")):
        result = cloud.result(f"results/later/{name}.jpg.json")
        assert (result["classifier"], result["prediction"]["label"]) == ("later", label)
    cloud.eventually(lambda: cloud.get(former) is None or None, "the removal of the former result")
    assert json.loads(cloud.get(twin) or b"") == rightful

    def told() -> Any:
        [item] = cloud.runs("later")
        return item.get("unclaimed")

    unclaimed = cloud.eventually(told, "the folders that name no classifier")
    assert {"folder": "paterns", "likely": "patterns"} in unclaimed
    assert cloud.get(f"results/{default}/paterns/typo.jpg.json") is None

    # Whoever moves it gets its answer.
    cloud.put("input/patterns/typo.jpg", drawing("rings", 61))
    assert cloud.result("results/patterns/typo.jpg.json")["prediction"]["label"] == "rings"
