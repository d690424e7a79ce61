"""Every alarm has its entry in docs/operations.md, and goes off when what it means comes about."""

import dataclasses
import json
import re
from collections import defaultdict
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from droplens.aws.events import UnexpectedEvent
from droplens.aws.tags import tag_list
from droplens.classify import classify as classification
from droplens.domain.card import Measurement, Novelty
from droplens.domain.run import RunKey, Status
from droplens.imaging import sandbox
from droplens.journey.live_accuracy import FEWEST_REVIEWS
from droplens.report.publish import publish
from droplens.runtime.telemetry import metrics
from droplens.state.cards import Cards
from droplens.state.packed import read_packed
from tests.support.alarms import ALARMS
from tests.support.aws_account import Cloud
from tests.support.aws_fakes import FakeRuntime, refusal
from tests.support.builders import IMAGE, card, go_live, jpeg, model_data, pack, redness
from tests.support.cloudwatch import all_watched, goes_off, printed, watched
from tests.support.deployed_functions import (
    RECORDED_RUN,
    Context,
    of_run,
    stored_picture,
)
from tests.support.expanded_template import BUCKET, STACK, Stack, matches

pytestmark = pytest.mark.filterwarnings("ignore:No application metrics to publish")

RUN = RunKey("cars", RECORDED_RUN)
Load = Callable[[str], ModuleType]


@pytest.fixture(scope="module")
def entries(repo_root: Path) -> dict[str, str]:
    """The runbook's entries, by alarm."""
    text = (repo_root / "docs/operations.md").read_text("utf-8")
    alarms = text.split("\n## Alarms\n")[1].split("\n## ")[0]
    found = re.split(r"\n### (\w+)\n", alarms)[1:]
    return dict(zip(found[::2], found[1::2], strict=True))


def test_every_alarm_has_an_entry_and_every_entry_an_alarm(
    stack: Stack, entries: dict[str, str]
) -> None:
    assert sorted(entries) == sorted(stack.of_type("AWS::CloudWatch::Alarm"))


@pytest.mark.parametrize("name", ALARMS)
def test_an_entry_says_what_it_means_where_to_look_and_what_to_do(
    entries: dict[str, str], name: str
) -> None:
    headings = re.findall(r"^\*\*(\w+)\*\* \S", entries[name], re.MULTILINE)
    assert headings == ["Means", "Look", "Do"]


def test_the_runbook_names_only_what_there_is(
    stack: Stack, entries: dict[str, str], repo_root: Path
) -> None:
    text = (repo_root / "docs/operations.md").read_text("utf-8")
    functions = {f"<stack>{name.removeprefix('droplens')}" for name in function_names(stack)}
    assert set(re.findall(r"`(<stack>-[a-z-]+-[a-z-]+)`", text)) <= functions
    layer = "".join(
        path.read_text("utf-8")
        for folder in ("layers/droplens/droplens", "functions")
        for path in (repo_root / folder).rglob("*.py")
    )
    for said in re.findall(r'message = "([^"]+)"', text):
        assert said in layer or said.removeprefix("picture ") in ("classified", "rejected")
    targets = set(re.findall(r"^([a-z-]+):", (repo_root / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= targets
    parameters = stack.template["Parameters"].keys() | stack.template["Outputs"].keys()
    named = re.findall(r"`([A-Z][a-z]+[A-Z]\w+)(?:=\w+)?`", "".join(entries.values()))
    of_sagemaker = {"ModelSetupTime", "ModelLatency"}
    assert set(named) <= parameters | of_sagemaker


def test_the_queries_are_of_log_groups_that_there_are(stack: Stack, repo_root: Path) -> None:
    text = (repo_root / "docs/operations.md").read_text("utf-8")
    queries = text.split("\n## Queries to copy\n")[1].split("\n## ")[0]
    named = set(re.findall(r"^\| [^|]+ \| `([^`]+)`", queries, re.MULTILINE)) - {"log group"}
    of_the_stack = {
        group["LogGroupName"].replace("droplens", "<stack>", 1)
        for group in stack.of_type("AWS::Logs::LogGroup").values()
    }
    assert len(named) >= 6
    assert named <= of_the_stack | {"/aws/sagemaker/TrainingJobs"}


def function_names(stack: Stack) -> list[str]:
    return [
        function["FunctionName"] for function in stack.of_type("AWS::Lambda::Function").values()
    ]


# --- each caused, and told


@pytest.fixture
def told(
    stack: Stack,
    deployed: Cloud,
    load: Load,
    events: dict[str, Any],
) -> Callable[[str], None]:
    """Holds that the alarm's event reaches whoever asked to be told, with what it means."""

    def told(name: str) -> None:
        event = json.loads(json.dumps(events["alarm-raised"]))
        alarm = stack.properties(name)
        event["detail"]["alarmName"] = str(stack.ref(name))
        event["detail"]["configuration"]["description"] = alarm["AlarmDescription"]
        pattern = stack.properties("ReportFailureAlarmRaised")["EventPattern"]
        assert matches(pattern, event)
        deployed.notices()
        load("ReportFailure").handler(event, Context("alarm"))
        [notice] = deployed.notices()
        assert name in notice["subject"]
        assert f"docs/operations.md, {name}" in notice["message"]

    return told


@pytest.fixture
def messages(deployed: Cloud, events: dict[str, Any]) -> Callable[..., list[dict[str, Any]]]:
    """Pictures that were dropped, as the queue hands them to classify_image."""

    def messages(*bodies: bytes) -> list[dict[str, Any]]:
        [message] = events["sqs-picture-batch"]["Records"]
        return [
            {
                **message,
                "messageId": f"message-{number}",
                "body": json.dumps(
                    stored_picture(deployed, events["s3-picture"], f"input/cars/{number}.jpg", body)
                ),
            }
            for number, body in enumerate(bodies)
        ]

    return messages


@pytest.fixture
def classify(classify_image: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """classify_image with a live model, which hides no message in SQS."""
    metrics.clear_metrics()  # of tests that ran before in this process
    monkeypatch.setattr(classify_image.BACKOFF, "hide", lambda *_: None)
    return classify_image


def answering_with(app: ModuleType, runtime: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced = dataclasses.replace(app.CLASSIFICATION, runtime=runtime)
    monkeypatch.setattr(app, "CLASSIFICATION", replaced)


def test_calm_raises_nothing(
    stack: Stack,
    classify: ModuleType,
    messages: Callable[..., list[dict[str, Any]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    classify.handler({"Records": messages(*[jpeg()] * 6)}, Context("request"))
    counted = printed(capsys.readouterr().out)
    latency = watched(stack.properties("EndpointSlow"))
    assert len(counted[latency]) == 6
    assert not [name for name in ALARMS if goes_off(stack.properties(name), counted)]


def test_a_picture_that_came_back_often_cannot_take_others_with_it(
    classify: ModuleType, messages: Callable[..., list[dict[str, Any]]]
) -> None:
    [message] = messages(jpeg())
    received = [
        {**message, "attributes": {**message["attributes"], "ApproximateReceiveCount": str(count)}}
        for count in (1, 2, 3)
    ]
    sandbox.stop()
    classify.handler({"Records": received[:1]}, Context("request"))
    classify.handler({"Records": received[1:2]}, Context("request"))
    assert sandbox.worker_pid() is None
    answer = classify.handler({"Records": received[2:]}, Context("request"))
    assert answer == {"batchItemFailures": []}
    assert sandbox.worker_pid() is not None


def test_a_throttled_endpoint(
    stack: Stack,
    classify: ModuleType,
    messages: Callable[..., list[dict[str, Any]]],
    told: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = refusal("ThrottlingException", "InvokeEndpoint")
    answering_with(classify, FakeRuntime(redness, error=error), monkeypatch)
    classify.handler({"Records": messages(jpeg(), jpeg())}, Context("request"))
    counted = printed(capsys.readouterr().out)
    raised = [name for name in ALARMS if goes_off(stack.properties(name), counted)]
    assert raised == ["PicturesKeepFailing", "EndpointErrors"]
    for name in raised:
        told(name)


def test_a_slow_endpoint(
    stack: Stack,
    classify: ModuleType,
    messages: Callable[..., list[dict[str, Any]]],
    told: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = count(step=6)  # seconds from one look at it to the next
    monkeypatch.setattr(classification, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    classify.handler({"Records": messages(jpeg())}, Context("request"))
    counted = printed(capsys.readouterr().out)
    assert counted[watched(stack.properties("EndpointSlow"))] == [6000]
    assert [n for n in ALARMS if goes_off(stack.properties(n), counted)] == ["EndpointSlow"]
    told("EndpointSlow")


def test_files_that_are_no_pictures(
    stack: Stack,
    classify: ModuleType,
    messages: Callable[..., list[dict[str, Any]]],
    told: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    classify.handler({"Records": messages(jpeg(), b"no", jpeg())}, Context("request"))
    counted = printed(capsys.readouterr().out)
    raised = [name for name in ALARMS if goes_off(stack.properties(name), counted)]
    assert raised == ["PicturesMostlyRejected"]
    told("PicturesMostlyRejected")


@pytest.mark.parametrize(("unfamiliar", "raised"), [(5, []), (10, ["PicturesUnfamiliar"])])
def test_pictures_of_something_else(
    stack: Stack,
    deployed: Cloud,
    load: Load,
    messages: Callable[..., list[dict[str, Any]]],
    told: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    unfamiliar: int,
    raised: list[str],
) -> None:
    """A hundred pictures, of which a model that can tell finds some unfamiliar: the blue ones."""
    own = Novelty(limit=0.5, share=0.01, quantiles=tuple(n / 200 for n in range(101)))
    measured = Measurement(
        pictures=1000, available=1000, accuracy=0.9, top5=1.0, latency_ms_p50=5, latency_ms_p95=9
    )
    go_live(Cards(deployed.bucket), card(novelty=own, measured=measured))
    app = load("ClassifyImage")
    metrics.clear_metrics()
    monkeypatch.setattr(app.BACKOFF, "hide", lambda *_: None)

    def response(picture: bytes) -> dict[str, Any]:
        blue, red = redness(picture)
        return {"probabilities": [blue, red], "novelty": blue}

    answering_with(app, FakeRuntime(response), monkeypatch)
    bodies = [jpeg((20, 10, 220))] * unfamiliar + [jpeg()] * (100 - unfamiliar)
    records = messages(*bodies)
    counted: dict[Any, list[float]] = defaultdict(list)
    for start in range(0, len(records), app.BATCH):
        app.handler({"Records": records[start : start + app.BATCH]}, Context("request"))
        for metric, values in printed(capsys.readouterr().out).items():
            counted[metric] += values
    shares, _ = all_watched(stack.properties("PicturesUnfamiliar"))
    assert sum(counted[shares]) == unfamiliar
    assert len(counted[shares]) == len(records)
    own_metric = (("classifier", "cars"), ("service", STACK))
    assert len(counted["Droplens", "PredictionProbability", own_metric]) == len(records)
    assert [name for name in ALARMS if goes_off(stack.properties(name), counted)] == raised
    for name in raised:
        told(name)


@pytest.mark.parametrize(("label", "raised"), [("red", []), ("blue", ["LiveAccuracyLow"])])
def test_a_model_that_people_find_less_accurate_than_promised(
    stack: Stack,
    deployed: Cloud,
    load: Load,
    classify: ModuleType,
    messages: Callable[..., list[dict[str, Any]]],
    told: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    label: str,
    raised: list[str],
) -> None:
    """Every picture is a spot check here; a person reviews all, as the model did or otherwise."""
    everything = dataclasses.replace(classify.CLASSIFICATION, spot_check_share=1.0)
    monkeypatch.setattr(classify, "CLASSIFICATION", everything)
    records = messages(*[jpeg()] * FEWEST_REVIEWS)
    for start in range(0, len(records), classify.BATCH):
        classify.handler({"Records": records[start : start + classify.BATCH]}, Context("request"))
    reviews = deployed.reviews()
    claimed = reviews.claim("cars", "ann", 100)
    assert len(claimed) == FEWEST_REVIEWS
    for review in claimed:
        assert review.predicted == "red"
        reviews.decide(review, label, "ann")
    app = load("ResumeRuns")
    metrics.clear_metrics()
    capsys.readouterr()
    [target] = stack.properties("ResumeRunsLiveAccuracy")["Targets"]
    app.handler(json.loads(target["Input"]), Context("request"))
    counted = printed(capsys.readouterr().out)
    own_metric = (("classifier", "cars"), ("service", STACK))
    assert counted["Droplens", "LiveAccuracy", own_metric] == [100.0 if label == "red" else 0.0]
    assert [name for name in ALARMS if goes_off(stack.properties(name), counted)] == raised
    for name in raised:
        told(name)


def test_pictures_of_a_classifier_whose_run_failed(
    stack: Stack,
    deployed: Cloud,
    load: Load,
    messages: Callable[..., list[dict[str, Any]]],
    told: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    deployed.runs().open(RUN, {"version": "v"})
    deployed.runs().end(RUN, Status.FAILED)
    load("ClassifyImage").handler({"Records": messages(jpeg())}, Context("request"))
    counted = printed(capsys.readouterr().out)
    raised = [name for name in ALARMS if goes_off(stack.properties(name), counted)]
    assert raised == ["PicturesStranded"]
    told("PicturesStranded")


def test_pictures_in_a_folder_that_names_no_classifier(
    stack: Stack,
    deployed: Cloud,
    load: Load,
    messages: Callable[..., list[dict[str, Any]]],
    told: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`messages` puts them into input/cars/, and nobody has made a run of "cars"."""
    load("ClassifyImage").handler({"Records": messages(jpeg())}, Context("request"))
    counted = printed(capsys.readouterr().out)
    raised = [name for name in ALARMS if goes_off(stack.properties(name), counted)]
    assert raised == ["PicturesStranded"]
    told("PicturesStranded")


def test_a_picture_that_never_succeeds_ends_in_the_queue_that_is_watched(
    stack: Stack,
    deployed: Cloud,
    classify: ModuleType,
    messages: Callable[..., list[dict[str, Any]]],
    told: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = refusal("ModelError", "InvokeEndpoint")
    answering_with(classify, FakeRuntime(redness, error=error), monkeypatch)
    [message] = messages(jpeg())
    sqs = deployed.sqs
    given_up = sqs.create_queue(QueueName=stack.physical_name("PictureDlq"))["QueueUrl"]
    policy = stack.properties("PictureQueue")["RedrivePolicy"]
    sqs.set_queue_attributes(
        QueueUrl=deployed.picture_queue, Attributes={"RedrivePolicy": json.dumps(policy)}
    )
    sqs.send_message(QueueUrl=deployed.picture_queue, MessageBody=message["body"])
    for _ in range(policy["maxReceiveCount"]):
        [received] = sqs.receive_message(QueueUrl=deployed.picture_queue, VisibilityTimeout=0)[
            "Messages"
        ]
        record = {**message, "messageId": received["MessageId"], "body": received["Body"]}
        answer = classify.handler({"Records": [record]}, Context("request"))
        assert answer["batchItemFailures"]
    assert "Messages" not in sqs.receive_message(QueueUrl=deployed.picture_queue)
    alarm = stack.properties("PicturesGivenUp")
    depth = attribute(sqs, given_up, "ApproximateNumberOfMessages")
    assert goes_off(alarm, {watched(alarm): [float(depth)]})
    told("PicturesGivenUp")


def attribute(sqs: Any, queue: str, name: str) -> str:
    answer = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=[name])
    return str(answer["Attributes"][name])


def test_a_failure_that_cannot_be_reported_ends_in_the_queue_that_is_watched(
    stack: Stack,
    deployed: Cloud,
    load: Load,
    told: Callable[[str], None],
) -> None:
    """Lambda's part, the last try and its record, is played here."""
    kept = deployed.sqs.create_queue(QueueName=stack.physical_name("EventDlq"))["QueueUrl"]
    unknown = {"detail-type": "Something Else", "source": "aws.batch", "detail": {}}
    with pytest.raises(UnexpectedEvent, match="Something Else"):
        load("ReportFailure").handler(unknown, Context("request"))
    [reporter] = [
        config["DestinationConfig"]["OnFailure"]["Destination"]
        for config in stack.of_type("AWS::Lambda::EventInvokeConfig").values()
        if config["FunctionName"] == stack.ref("ReportFailure")
    ]
    assert reporter == stack.attribute("EventDlq", "Arn")
    deployed.sqs.send_message(QueueUrl=kept, MessageBody=json.dumps({"requestPayload": unknown}))
    alarm = stack.properties("EventsGivenUp")
    depth = attribute(deployed.sqs, kept, "ApproximateNumberOfMessages")
    assert goes_off(alarm, {watched(alarm): [float(depth)]})
    told("EventsGivenUp")


@pytest.mark.parametrize(("waited", "raised"), [(3500, False), (3700, True)])
def test_a_picture_that_waited_for_an_hour(
    stack: Stack, told: Callable[[str], None], waited: float, raised: bool
) -> None:
    alarm = stack.properties("PicturesWaitLong")
    assert goes_off(alarm, {watched(alarm): [60.0, waited]}) is raised
    told("PicturesWaitLong")


def test_two_runs_that_fail_within_a_day(
    stack: Stack,
    deployed: Cloud,
    load: Load,
    events: dict[str, Any],
    told: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    alarm = stack.properties("RunsFail")
    assert alarm["Period"] == 24 * 3600
    app = load("ReportFailure")
    output = ""
    for number, raised in ((1, False), (2, True)):
        run = RunKey("cars", f"2026112{number}-120000-610e99")
        deployed.runs().open(run, {"version": "v"})
        failure = of_run(events["training-failed"], run.run_id)
        deployed.sagemaker.tags[failure["resources"][0]] = tag_list(run)
        deployed.sagemaker.jobs[failure["detail"]["TrainingJobName"]] = {"FailureReason": "no"}
        app.handler(failure, Context(f"request-{number}"))
        [notice] = deployed.notices()
        assert run.run_id in notice["message"]
        output += capsys.readouterr().out
        assert goes_off(alarm, printed(output)) is raised
    told("RunsFail")


def test_an_invocation_that_breaks_off(
    stack: Stack, classify: ModuleType, told: Callable[[str], None]
) -> None:
    """Lambda counts whatever leaves the handler as an error of the function."""
    with pytest.raises(KeyError):
        classify.handler({}, Context("request"))
    alarm = stack.properties("ClassifyingBreaksOff")
    function = stack.properties("ClassifyImage")["FunctionName"]
    assert watched(alarm) == ("AWS/Lambda", "Errors", (("FunctionName", function),))
    assert goes_off(alarm, {watched(alarm): [0.0, 1.0]})
    told("ClassifyingBreaksOff")


@pytest.mark.parametrize(
    ("share", "function", "raised"),
    [(0.5, "DeployEndpoint", False), (0.9, "DeployEndpoint", True), (1.0, "ReportFailure", True)],
)
def test_a_training_that_takes_long_or_is_stopped_for_it(
    stack: Stack,
    deployed: Cloud,
    load: Load,
    events: dict[str, Any],
    told: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
    share: float,
    function: str,
    raised: bool,
) -> None:
    deployed.runs().open(RUN, {"version": "v"})
    event = events["training-completed"]
    detail = event["detail"]
    limit = detail["StoppingCondition"]["MaxRuntimeInSeconds"]
    detail["TrainingEndTime"] = str(int(detail["TrainingStartTime"]) + round(1000 * share * limit))
    if function == "ReportFailure":
        detail["TrainingJobStatus"] = "Stopped"
    deployed.sagemaker.tags[event["resources"][0]] = tag_list(RUN)
    deployed.sagemaker.jobs[detail["TrainingJobName"]] = {
        "AlgorithmSpecification": {"TrainingImage": IMAGE},
        "ModelArtifacts": {"S3ModelArtifacts": model_data(RUN, BUCKET)},
    }
    load(function).handler(event, Context("request"))
    alarm = stack.properties("TrainingTakesLong")
    counted = printed(capsys.readouterr().out)
    assert counted[watched(alarm)] == [pytest.approx(100 * share)]
    assert goes_off(alarm, counted) is raised
    told("TrainingTakesLong")


def test_a_report_that_cannot_be_made(
    stack: Stack,
    deployed: Cloud,
    told: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    pack(deployed, RUN)
    unfinished = {"classifier": RUN.classifier, "run_id": RUN.run_id}
    dataset = read_packed(deployed.bucket, RUN)
    assert publish(deployed.bucket, dataset, unfinished, None) is None
    metrics.flush_metrics()
    alarm = stack.properties("ReportsFail")
    assert goes_off(alarm, printed(capsys.readouterr().out))
    told("ReportsFail")
