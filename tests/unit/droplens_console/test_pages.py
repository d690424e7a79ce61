"""The pages show what is in the stack, and change it only as a person has asked for."""

import json
import time
from typing import Any

import pytest
from starlette.testclient import TestClient

from droplens.domain import layout
from droplens.domain.card import Measurement
from droplens.domain.run import RunKey, Stage, Status
from droplens.report.page import render
from droplens.state.cards import Cards
from droplens_cli.stack import Stack
from droplens_cli.target import Target
from droplens_cli.training_log import GROUP
from droplens_console.data.readers import Readers
from droplens_console.stack import ConsoleStack
from tests.support.aws_fakes import refusal
from tests.support.builders import card, go_live
from tests.support.console import console, deployed  # noqa: F401  fixtures
from tests.support.deployed_stack import ROLLBACK, Deployed
from tests.support.evaluations import SCRIPT, class_names, dataset, evaluation
from tests.support.reviews import review

OLD, NEW = "20261122-120000-1a2b3c", "20261123-120000-1a2b3c"
# But for the one that is no UTF-8, which no class can have.
NAMES = [name for name in class_names(13) if name.isprintable() or "\ud800" not in name]
NEWER = "20261124-120000-1a2b3c"
PACKAGE = "arn:aws:sagemaker:us-east-1:000000000000:model-package/droplens--cars/2"


def measured(right: int) -> Measurement:
    return Measurement(
        pictures=100,
        available=100,
        accuracy=right / 100,
        top5=1,
        latency_ms_p50=5,
        latency_ms_p95=9,
    )


def evaluated(stack: Deployed, run_id: str, right: int, seed: int = 0, **facts: Any) -> RunKey:
    """A run of "cars" whose model was evaluated, with its card, evaluation and report."""
    key = RunKey("cars", run_id)
    stack.runs.open(key, {"version": run_id, "key": "datasets/cars/"})
    for stage in Stage:
        assert stack.runs.claim(key, stage)
        if stage is not Stage.PROMOTE:
            stack.runs.finish(key, stage)
    found = evaluation(NAMES, per_class=10, seed=seed) | {"run_id": run_id}
    stack.put(layout.evaluation_key("cars", run_id), json.dumps(found).encode())
    stack.put(layout.report_key("cars", run_id), render(found))
    stack.put(
        f"{layout.packed_prefix('cars', run_id)}dataset.json", json.dumps(dataset(NAMES)).encode()
    )
    model = card(run_id, classes=tuple(NAMES), measured=measured(right), coverage=0.8)
    Cards(stack.bucket).keep(model)
    report = layout.report_key("cars", run_id)
    stack.runs.note(key, report=report, endpoint=f"droplens--cars-{run_id}", **facts)
    return key


def live(stack: Deployed, run_id: str, right: int, seed: int = 0) -> RunKey:
    key = evaluated(stack, run_id, right, seed)
    cards = Cards(stack.bucket)
    go_live(cards, card(run_id, classes=tuple(NAMES), measured=measured(right)))
    cards.make_default_if_first("cars")
    stack.runs.end(key, Status.LIVE, accuracy=right / 100, generation=1)
    return key


def awaiting(stack: Deployed) -> RunKey:
    key = evaluated(stack, NEW, 85, accuracy=0.85, model_package=PACKAGE)
    stack.runs.wait(key)
    return key


class Registry:
    """SageMaker's Model Registry, as far as the console calls it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.updated: list[dict[str, Any]] = []
        others = Stack.client
        monkeypatch.setattr(
            Stack,
            "client",
            lambda stack, name: self if name == "sagemaker" else others(stack, name),
        )

    def update_model_package(self, **request: Any) -> None:
        self.updated.append(request)


def test_a_new_stack_says_how_to_begin(console: TestClient) -> None:  # noqa: F811
    assert "droplens upload FOLDER --as cars" in console.get("/").text
    for path in ("/runs", "/models"):
        answer = console.get(path)
        assert (answer.status_code, "None yet" in answer.text) == (200, True)


def test_the_overview_has_models_the_newest_run_and_what_waits(
    deployed: Deployed,  # noqa: F811
    console: TestClient,  # noqa: F811
) -> None:
    live(deployed, OLD, 90)
    key = RunKey("cars", NEW)
    deployed.runs.open(key, {"version": "w"})
    assert deployed.runs.claim(key, Stage.PACK)
    deployed.runs.note(key, progress={"stage": "packing", "done": 1200, "total": 5000})
    deployed.put("results/cars/a.jpg.json", b"{}")
    text = console.get("/").text
    assert "90.0 %" in text
    assert "90 of 100; 82.6 to 94.5" in text
    assert f'href="/runs/cars/{NEW}"' in text
    assert '<progress max="5000" value="1200"' in text
    assert "1,200 of 5,000 pictures" in text
    assert '<dt>pictures answered</dt><dd class="figure">1</dd>' in text
    assert "<p>Nothing.</p>" in text


def test_reviewed_spot_checks_give_the_live_accuracy_and_others_wait(
    deployed: Deployed,  # noqa: F811
    console: TestClient,  # noqa: F811
) -> None:
    live(deployed, OLD, 90)
    reviews = ConsoleStack(Target(region="us-east-1")).reviews
    assert reviews is not None
    assert "known when spot checks are reviewed" in console.get("/").text
    for number in range(12):
        spot = review(number, model=OLD, sampled=0.01)
        reviews.enter(spot)
        if number < 10:
            reviews.decide(spot, "red" if number else "blue", "ann")
    console.app.state.readers = Readers.of(ConsoleStack(Target(region="us-east-1")))  # type: ignore[attr-defined]
    text = console.get("/").text
    assert '<span class="count">2</span> <a href="/review/cars">pictures of cars to review' in text
    assert text.partition("live accuracy (")[0].count('<p class="figure">90.0 %</p>') == 2
    assert "by 10 reviewed spot checks" in text
    assert "90.0 % (" in console.get("/models/cars").text.partition("Live accuracy")[2]


def test_a_run_has_its_stages_with_times_dataset_and_curves(
    deployed: Deployed,  # noqa: F811
    console: TestClient,  # noqa: F811
) -> None:
    key = live(deployed, OLD, 90)
    deployed.runs.note(
        key,
        training_job="droplens--cars-1",
        begun_pack="2026-11-22T12:00:00+00:00",
        begun_train="2026-11-22T12:05:00+00:00",
        begun_deploy="2026-11-22T14:05:00+00:00",
        begun_promote="2026-11-22T14:09:00+00:00",
        ended_at="2026-11-22T14:09:42+00:00",
    )
    logs = deployed.session.client("logs")
    logs.create_log_group(logGroupName=GROUP)
    stream = "droplens--cars-1/algo-1"
    logs.create_log_stream(logGroupName=GROUP, logStreamName=stream)
    now = int(1000 * time.time())
    lines = [
        f"INFO Epoch[{epoch}] {channel}-accuracy=0.{epoch + 5}"
        for epoch in range(3)
        for channel in ("Train", "Validation")
    ]
    logs.put_log_events(
        logGroupName=GROUP,
        logStreamName=stream,
        logEvents=[{"timestamp": now, "message": line} for line in lines],
    )
    text = console.get(f"/runs/cars/{OLD}").text
    for took in ("5 min", "2 h", "4 min", "42 s"):
        assert f'<span class="stage-time">{took}</span>' in text
    assert text.count("<polyline") == 2
    assert "Accuracy 70.0 % train, 70.0 % validation" in text
    assert "12 classes" in text
    assert SCRIPT not in text
    assert "validation accuracy 90.0 %" in text


def test_who_may_not_read_logs_sees_a_run_without_its_training(
    deployed: Deployed,  # noqa: F811
    console: TestClient,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = RunKey("cars", OLD)
    deployed.runs.open(key, {"version": "v"})
    assert deployed.runs.claim(key, Stage.TRAIN, training_job="droplens--cars-1")

    class Logs:
        def describe_log_streams(self, **_: str) -> None:
            raise refusal("AccessDeniedException", "DescribeLogStreams")

    others = Stack.client
    monkeypatch.setattr(
        Stack, "client", lambda stack, name: Logs() if name == "logs" else others(stack, name)
    )
    for path in ("/", f"/runs/cars/{OLD}"):
        answer = console.get(path)
        assert (answer.status_code, "training" in answer.text) == (200, True)


def test_a_failed_run_says_why_and_what_to_do_and_can_be_retried(
    deployed: Deployed,  # noqa: F811
    console: TestClient,  # noqa: F811
) -> None:
    key = RunKey("cars", OLD)
    deployed.runs.open(key, {"version": "v"})
    error = {"stage": "train", "code": "account.quota", "message": f"no quota {SCRIPT}"}
    deployed.runs.end(key, Status.FAILED, error=error)
    text = console.get(f"/runs/cars/{OLD}").text
    assert "account.quota: no quota &lt;script&gt;" in text
    assert "Ask for a larger quota" in text
    assert "Retry now" in text
    assert f'<a href="/runs/cars/{OLD}">run of cars failed</a>' in console.get("/").text
    functions = deployed.answering(
        {"run": key.as_key(), "stage": "train"},
        {"errorMessage": "it would fail again", "errorType": "UserError"},
    )
    answer = console.post(f"/runs/cars/{OLD}/resume", json={})
    assert answer.json() == {"location": f"/runs/cars/{OLD}"}
    assert functions.asked[0][1] == key.as_key()
    answer = console.post(
        f"/runs/cars/{OLD}/resume", json={}, headers={"Accept": "application/json"}
    )
    assert (answer.status_code, answer.json()["error"]) == (409, "resume: it would fail again")


def test_a_run_that_does_not_exist_is_named(
    deployed: Deployed,  # noqa: F811
    console: TestClient,  # noqa: F811
) -> None:
    sentence = f"there is no run {OLD} of cars"
    for path in ("runs/cars/{}", "suspects/cars/{}", "models/cars/{}/rollback"):
        answer = console.get(path.format(OLD))
        assert (answer.status_code, sentence in answer.text) == (404, True)
    answer = console.post(f"/models/cars/{OLD}/rollback", json={"reclassify": "all"})
    assert (answer.status_code, sentence in answer.text) == (404, True)
    answer = console.get("/models/cars")
    assert (answer.status_code, "there is no run of cars" in answer.text) == (404, True)
    deployed.runs.open(RunKey("cars", OLD), {"version": "v"})
    answer = console.get(f"/models/cars/{OLD}/decision")
    assert (answer.status_code, "has no evaluated model" in answer.text) == (404, True)


def test_what_a_page_shows_is_text_and_never_markup(
    deployed: Deployed,  # noqa: F811
    console: TestClient,  # noqa: F811
) -> None:
    key = RunKey("cars", OLD)
    deployed.runs.open(key, {"version": "v", "key": f"datasets/{SCRIPT}"})
    error = {"stage": SCRIPT, "code": SCRIPT, "message": SCRIPT}
    deployed.runs.end(key, Status.FAILED, error=error)
    deployed.put(f"input/{SCRIPT}/a.jpg")
    for path in ("/", "/runs", "/models", f"/runs/cars/{OLD}", f"/runs/{SCRIPT}/x", "/models/cars"):
        text = console.get(path).text
        assert SCRIPT not in text
    assert "&lt;script&gt;" in console.get("/").text


def test_a_model_is_promoted_or_rejected_once_with_the_person_s_reason(
    deployed: Deployed,  # noqa: F811
    console: TestClient,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    live(deployed, OLD, 90)
    awaiting(deployed)
    deployed.runs.open(RunKey("cars", NEWER), {"version": "x"})  # a newer run hides none
    registry = Registry(monkeypatch)
    page = f"/models/cars/{NEW}/decision"
    assert f'href="{page}"' in console.get("/models/cars").text
    assert '"/models/cars">model of cars to promote or reject' in console.get("/").text
    text = console.get(page).text
    assert f"in place of run {OLD}" in text
    assert f"run {OLD} stays live" in text
    assert console.post(page, json={"decision": "maybe"}).status_code == 409
    assert console.post(page, content=b"decision=promote").status_code == 400
    assert registry.updated == []
    answer = console.post(page, json={"decision": "promote", "reason": "looks\ngood"})
    assert answer.json() == {"location": f"/runs/cars/{NEW}"}
    console.post(page, json={"decision": "reject", "reason": ""})
    assert registry.updated == [
        {
            "ModelPackageArn": PACKAGE,
            "ModelApprovalStatus": "Approved",
            "ApprovalDescription": "looks good",
        },
        {"ModelPackageArn": PACKAGE, "ModelApprovalStatus": "Rejected"},
    ]
    deployed.runs.end(RunKey("cars", NEW), Status.REFUSED)
    assert console.post(page, json={"decision": "promote"}).status_code == 409
    assert len(registry.updated) == 2
    assert '<span class="stage-state">refused</span>' in console.get(f"/runs/cars/{NEW}").text


def test_a_rollback_says_what_it_does_and_calls_the_function(
    deployed: Deployed,  # noqa: F811
    console: TestClient,  # noqa: F811
) -> None:
    old = live(deployed, OLD, 90)
    live(deployed, NEW, 95)
    run = deployed.runs.get(old)
    assert run is not None
    assert deployed.runs.replace(run, NEW)
    page = f"/models/cars/{OLD}/rollback"
    text = console.get("/models/cars").text
    assert f'href="{page}"' in text
    assert "was live before" in text
    text = console.get(page).text
    assert "the switch is immediate" in text
    assert f"in place of run {NEW}" in text
    assert "90.0 %" in text
    functions = deployed.answering({"run": old.as_key(), "status": "live"})
    assert console.post(page, json={"reclassify": "some"}).status_code == 409
    assert functions.asked == []
    console.post(page, json={"reclassify": "unsure"})
    assert functions.asked == [(ROLLBACK, {**old.as_key(), "reclassify": "unsure"})]
    assert "It cannot be: the run is live" in console.get(f"/models/cars/{NEW}/rollback").text


def test_two_models_are_compared_by_their_stored_predictions(
    deployed: Deployed,  # noqa: F811
    console: TestClient,  # noqa: F811
) -> None:
    live(deployed, OLD, 70)
    evaluated(deployed, NEW, 80, seed=1, accuracy=0.8)
    pair = {"a": NEW, "b": OLD}
    text = console.get("/models/cars/compare", params=pair).text
    assert text.index(OLD) < text.index(NEW)  # the older first, however they were chosen
    assert "Both predicted the same 120 pictures" in text
    assert "beyond chance" in text or "within chance" in text
    for wrong in ({"a": OLD}, {"a": OLD, "b": OLD}):
        assert console.get("/models/cars/compare", params=wrong).status_code == 409
    assert console.get("/models/cars/compare", params={"a": OLD, "b": "x"}).status_code == 404


def test_a_report_has_an_origin_of_its_own_and_its_own_script_only(
    deployed: Deployed,  # noqa: F811
    console: TestClient,  # noqa: F811
) -> None:
    evaluated(deployed, OLD, 90, accuracy=0.9)
    answer = console.get(f"/models/cars/{OLD}/report")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts; default-src 'none'")
    assert "allow-same-origin" not in policy
    assert policy.count("sha256-") == 4
    assert "unsafe" not in policy
    assert "Validation accuracy" in answer.text
    deployed.put(layout.report_key("cars", OLD), b"<script>alert(1)</script>")
    policy = console.get(f"/models/cars/{OLD}/report").headers["content-security-policy"]
    assert "script-src 'none'" in policy
    assert console.get(f"/models/cars/{NEW}/report").status_code == 404
