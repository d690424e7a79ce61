"""Each function is given what its code asks for, and hears of its own failures' ends."""

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from droplens.aws.sqs import VISIBILITY_TIMEOUT_SECONDS
from droplens.aws.tags import tag_list
from droplens.classify.classify import CALL_SECONDS, READ_SECONDS
from droplens.domain.run import RunKey, Stage, Status
from droplens.journey import pack as packing
from droplens.runtime.telemetry import logger
from droplens.state.cards import Cards
from droplens_cli.forget.removal import LATE_RESULT_SECONDS
from tests.support.aws_account import MAX_RECEIVES, VISIBILITY_TIMEOUT, Cloud
from tests.support.aws_fakes import FakeRuntime, refusal
from tests.support.builders import card, go_live, jpeg, model_data, pack, redness
from tests.support.deployed_functions import (
    FUNCTIONS,
    RECORDED_RUN,
    Context,
    dropped,
    of_run,
    stored_picture,
    variables,
)
from tests.support.expanded_template import BUCKET, REGION, Stack

BY_EVENT = ["PrepareDataset", "StartTraining", "DeployEndpoint", "PromoteEndpoint"]

# pytest's own filters stand before the one that telemetry sets.
pytestmark = pytest.mark.filterwarnings("ignore:No application metrics to publish")


def test_there_is_no_other_function(stack: Stack, repo_root: Path) -> None:
    assert stack.of_type("AWS::Lambda::Function").keys() == FUNCTIONS.keys()
    folders = {path.parent.name for path in (repo_root / "functions").glob("*/app.py")}
    assert folders == {folder for folder, _ in FUNCTIONS.values()}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_code_is_that_of_the_function_s_name(written: dict[str, Any], name: str) -> None:
    folder, _ = FUNCTIONS[name]
    assert written["Resources"][name]["Properties"]["CodeUri"] == f"functions/{folder}/"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_template_gives_every_setting_in_a_form_that_is_read(stack: Stack, name: str) -> None:
    _, kind = FUNCTIONS[name]
    given = {**variables(stack, name), "AWS_REGION": REGION}  # Lambda itself sets the region
    assert kind.from_environment(given)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_template_gives_nothing_that_nobody_reads(stack: Stack, name: str) -> None:
    _, kind = FUNCTIONS[name]
    everywhere = {"BUCKET", "RUNS_TABLE", "STACK", "FAILURE_TOPIC", "POWERTOOLS_LOG_LEVEL"}
    read = {field.name.upper() for field in dataclasses.fields(kind)}
    of_glibc = {"MALLOC_MMAP_THRESHOLD_"} if name == "ClassifyImage" else set()
    assert variables(stack, name).keys() <= read | everywhere | of_glibc


def test_large_pictures_give_their_memory_back(stack: Stack) -> None:
    assert variables(stack, "ClassifyImage")["MALLOC_MMAP_THRESHOLD_"] == "1048576"


def test_counting_a_dataset_leaves_time_to_submit_its_jobs(stack: Stack) -> None:
    assert stack.properties("PrepareDataset")["Timeout"] >= 3 * packing.COUNTING_SECONDS


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_s_log_is_kept_for_a_while(stack: Stack, name: str) -> None:
    function = stack.properties(name)
    logs = stack.properties(f"{name}Logs")
    assert function["LoggingConfig"]["LogGroup"] == logs["LogGroupName"]
    assert logs["LogGroupName"] == f"/aws/lambda/{function['FunctionName']}"
    assert logs["RetentionInDays"] == 30


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_traced_and_has_the_layer(stack: Stack, name: str) -> None:
    function = stack.properties(name)
    # A trace of each picture would cost as much as its result, and hold what the log line holds.
    traced = name != "ClassifyImage"
    assert function["TracingConfig"] == {"Mode": "Active" if traced else "PassThrough"}
    has_two = name in ("BuildImages", "PromoteEndpoint", "ClassifyImage")
    assert len(function["Layers"]) == (2 if has_two else 1)
    assert function["Handler"] == "app.handler"
    assert function["Runtime"] == "python3.13"


def test_functions_in_china_do_without_what_lambda_lacks_there(stack: Stack) -> None:
    china = Stack(stack.template, region="cn-north-1")
    for name in FUNCTIONS:
        assert china.properties(name)["TracingConfig"] == {"Mode": "PassThrough"}
    assert "RecursiveLoop" not in china.properties("PromoteEndpoint")
    assert stack.properties("PromoteEndpoint")["RecursiveLoop"] == "Allow"


def test_whoever_gives_up_on_an_event_has_it_reported(stack: Stack) -> None:
    reported = {
        config["FunctionName"]: config["DestinationConfig"]["OnFailure"]["Destination"]
        for config in stack.of_type("AWS::Lambda::EventInvokeConfig").values()
    }
    reporter = stack.attribute("ReportFailure", "Arn")
    expected = {str(stack.ref(name)): reporter for name in BY_EVENT}
    # And what the reporter itself cannot report, and an answer that CloudFormation did not get, is
    # kept for a person.
    for name in ("ReportFailure", "BuildImages", "PauseEndpoint", "ResumeRuns"):
        expected[str(stack.ref(name))] = stack.attribute("EventDlq", "Arn")
    assert reported == expected


def test_who_invokes_itself_is_not_stopped_by_lambda(stack: Stack) -> None:
    """Lambda ends the 17th invocation of a chain; ours are counted by droplens.aws.events."""
    allowed = {
        name
        for name, function in stack.of_type("AWS::Lambda::Function").items()
        if function.get("RecursiveLoop") == "Allow"
    }
    itself = {
        name
        for name in FUNCTIONS
        if stack.allows(f"{name}Role", "lambda:InvokeFunction", str(stack.attribute(name, "Arn")))
    }
    assert allowed == itself == {"PromoteEndpoint"}


def test_pictures_come_by_the_queue_and_fail_one_by_one(stack: Stack) -> None:
    [source] = stack.of_type("AWS::Lambda::EventSourceMapping").values()
    assert source["EventSourceArn"] == stack.attribute("PictureQueue", "Arn")
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert 2 <= source["ScalingConfig"]["MaximumConcurrency"] <= 1000


def test_forgetting_a_picture_waits_for_the_longest_classification(stack: Stack) -> None:
    """One that has read the picture may store its result until the function is ended."""
    assert stack.properties("ClassifyImage")["Timeout"] <= LATE_RESULT_SECONDS


def test_a_picture_is_hidden_for_six_times_the_function_s_time_and_kept_in_the_end(
    stack: Stack,
) -> None:
    queue = stack.properties("PictureQueue")
    assert queue["VisibilityTimeout"] == VISIBILITY_TIMEOUT == VISIBILITY_TIMEOUT_SECONDS
    assert queue["VisibilityTimeout"] >= 6 * stack.properties("ClassifyImage")["Timeout"]
    redrive = queue["RedrivePolicy"]
    assert redrive["deadLetterTargetArn"] == stack.attribute("PictureDlq", "Arn")
    assert redrive["maxReceiveCount"] == MAX_RECEIVES
    for name in ("PictureDlq", "EventDlq"):
        assert stack.properties(name)["MessageRetentionPeriod"] == 14 * 24 * 3600


def test_the_job_is_given_what_packing_asks_for(stack: Stack) -> None:
    job = stack.properties("JobDefinition")
    command = job["ContainerProperties"]["Command"]
    given = dict(zip(command[::2], command[1::2], strict=True))
    referred = {
        value.removeprefix("Ref::") for value in map(str, command) if value.startswith("Ref::")
    }
    assert referred == job["Parameters"].keys()
    assert (given["--step"], given["--shards"]) == ("Ref::step", "Ref::shards")
    assert (job["Parameters"]["step"], job["Parameters"]["shards"]) == (
        packing.WHOLE,
        packing.AS_NEEDED,
    )
    assert given["--runs-table"] == variables(stack, "PrepareDataset")["RUNS_TABLE"]
    assert job["RetryStrategy"]["EvaluateOnExit"][0] == {"OnExitCode": "1", "Action": "EXIT"}


# --- the handlers themselves, with the recorded events


@dataclass(frozen=True)
class HurriedContext(Context):
    """An invocation that has so many seconds left."""

    seconds: float = 0

    def get_remaining_time_in_millis(self) -> int:
        return int(1000 * self.seconds)


@pytest.fixture
def stack(stack: Stack, request: pytest.FixtureRequest) -> Stack:
    """As it is deployed by default, or with a test's own parameters."""
    return dataclasses.replace(stack, parameters=getattr(request, "param", {}))


REPOSITORY = "123456789012.dkr.ecr.us-east-1.amazonaws.com/droplens/trainer"
OWN_IMAGE = f"{REPOSITORY}:trainer-1a2b3c"
FINETUNE_IMAGE = f"{REPOSITORY}:finetune-1a2b3c"
BUILTIN_IMAGE = "811284229777.dkr.ecr.us-east-1.amazonaws.com/image-classification:1"


@pytest.mark.parametrize(
    ("stack", "instance", "trains", "serves", "isolated", "mode"),
    [
        ({}, "ml.g5.xlarge", FINETUNE_IMAGE, OWN_IMAGE, True, "ServerlessConfig"),
        ({"Recipe": "probe"}, "ml.m5.xlarge", OWN_IMAGE, OWN_IMAGE, True, "ServerlessConfig"),
        (
            {"TrainerImage": "builtin"},
            "ml.g5.xlarge",
            BUILTIN_IMAGE,
            BUILTIN_IMAGE,
            False,
            "InstanceType",
        ),
    ],
    indirect=["stack"],
    ids=["finetune", "probe", "builtin"],
)
def test_the_journey_by_its_recorded_events_each_told_twice(
    deployed: Cloud,
    load: Callable[[str], ModuleType],
    events: dict[str, Any],
    instance: str,
    trains: str,
    serves: str,
    isolated: bool,
    mode: str,
) -> None:
    def told_twice(name: str, event: dict[str, Any]) -> list[Any]:
        app = load(name)
        return [app.handler(event, Context(f"{name}-{number}")) for number in range(2)]

    marker = dropped(deployed, events["s3-dataset-marker"], b"")
    first, second = told_twice("PrepareDataset", marker)
    assert first == second
    run = RunKey(**first["run"])
    assert len(deployed.batch.jobs) == 1

    pack(deployed, run)
    deployed.table.update_item(  # the recorded job is another one than the fake's
        Key=run.as_key(),
        UpdateExpression="SET batch_job_id = :id",
        ExpressionAttributeValues={":id": events["batch-succeeded"]["detail"]["jobId"]},
    )
    name = f"droplens--cars-{run.run_id}"
    packed = of_run(events["batch-succeeded"], run.run_id)
    assert [answer["training_job"] for answer in told_twice("StartTraining", packed)] == [
        name,
        None,
    ]
    job = deployed.sagemaker.jobs[name]
    assert job["HyperParameters"]["num_training_samples"] == "20"
    assert job["AlgorithmSpecification"]["TrainingImage"] == trains
    assert job["ResourceConfig"]["InstanceType"] == instance
    assert job["EnableNetworkIsolation"] is isolated

    job["ModelArtifacts"] = {"S3ModelArtifacts": model_data(run, BUCKET)}
    trained = of_run(events["training-completed"], run.run_id)
    assert [answer["endpoint"] for answer in told_twice("DeployEndpoint", trained)] == [name, None]
    assert deployed.sagemaker.endpoints == {name}
    assert deployed.sagemaker.made["Model"][name]["PrimaryContainer"]["Image"] == serves
    [variant] = deployed.sagemaker.made["EndpointConfig"][name]["ProductionVariants"]
    assert mode in variant

    # The recorded model sees 224 pixels; the records of this test are smaller.
    deployed.runs().note(run, image_size=64)
    serving = of_run(events["endpoint-in-service"], run.run_id)
    deployed.put("input/cars/early.jpg", jpeg())
    statuses = [answer["status"] for answer in told_twice("PromoteEndpoint", serving)]
    assert statuses == [Status.LIVE, None]
    [(function, switched)] = deployed.functions.invoked
    assert function == "droplens-promote-endpoint"
    assert told_twice("PromoteEndpoint", switched) == [{"waiting": 1}] * 2
    assert deployed.queued() == ["input/cars/early.jpg"] * 2
    approved = events["model-approved"]
    assert told_twice("PromoteEndpoint", approved) == [{"run": run.as_key(), "status": None}] * 2

    picture = dropped(deployed, events["s3-picture"], jpeg())
    [message] = events["sqs-picture-batch"]["Records"]
    message["body"] = json.dumps(picture)
    answers = told_twice("ClassifyImage", {"Records": [message]})
    assert answers == [{"batchItemFailures": []}] * 2
    key = "results/cars/München 100%25 rot+weiß.jpg.json"
    assert deployed.json(key)["prediction"]["label"] == "red"
    assert deployed.versions(key) == 1

    record = deployed.runs().get(run)
    assert record is not None
    assert record.status is Status.LIVE
    assert deployed.notices() == []
    # Late failures of whatever kind do not harm the live model.
    for late in ("training-failed", "endpoint-failed", "lambda-on-failure"):
        failure = of_run(events[late], run.run_id)
        if "resources" in failure:
            deployed.sagemaker.tags[failure["resources"][0]] = tag_list(run)
        assert told_twice("ReportFailure", failure) == [{"run": run.as_key()}] * 2
    record = deployed.runs().get(run)
    assert record is not None
    assert record.status is Status.LIVE
    assert deployed.notices() == []
    assert deployed.sagemaker.endpoints == {name}


def test_a_person_has_an_earlier_model_back(
    deployed: Cloud, load: Callable[[str], ModuleType]
) -> None:
    older, newer = RunKey("cars", RECORDED_RUN), RunKey("cars", "20261123-120000-610e99")
    app = load("Rollback")
    runs = deployed.runs()
    for run in (older, newer):
        runs.open(run, {"version": "v"})
        endpoint = f"droplens--cars-{run.run_id}"
        runs.note(run, endpoint=endpoint, image=OWN_IMAGE, model_data=model_data(run, BUCKET))
        runs.end(run, Status.LIVE)
        go_live(Cards(deployed.bucket), card(run.run_id))
    answer = app.handler({"classifier": "cars"}, Context("request"))
    assert answer == {"run": older.as_key(), "status": Status.RESTORING}
    [endpoint] = deployed.sagemaker.endpoints
    config = deployed.sagemaker.made["EndpointConfig"][endpoint]
    assert config["ProductionVariants"][0]["ServerlessConfig"]["MemorySizeInMB"] == 2048
    answer = app.handler({"classifier": "cars", "reclassify": "all"}, Context("request"))
    assert answer == {"run": older.as_key(), "status": Status.LIVE}
    live = Cards(deployed.bucket).live("cars")
    assert live is not None
    assert (live.run_id, live.endpoint, live.newest) == (older.run_id, endpoint, newer.run_id)
    [(function, switched)] = deployed.functions.invoked
    assert function == "droplens-promote-endpoint"
    assert switched["detail"]["reclassify"] == "all"


@pytest.mark.parametrize("asked", [{"classifier": "cars"}, {"source": "aws.events"}])
def test_a_run_that_waits_is_tried_again_by_the_clock_or_for_a_person(
    deployed: Cloud,
    load: Callable[[str], ModuleType],
    events: dict[str, Any],
    asked: dict[str, str],
) -> None:
    run = RunKey("cars", RECORDED_RUN)
    deployed.runs().open(run, {"version": "v"})
    pack(deployed, run)
    deployed.sagemaker.failing["CreateTrainingJob"] = "ResourceLimitExceeded"
    packed = events["batch-succeeded"]
    assert load("StartTraining").handler(packed, Context("request"))["training_job"] is None
    record = deployed.runs().get(run)
    assert record is not None
    assert record.status is Status.WAITING
    # As the clock would find it a quarter of an hour later.
    deployed.runs().begin_try(record, 0)
    app = load("ResumeRuns")
    answer = app.handler(asked, Context("clock"))
    assert answer in ({"run": run.as_key(), "stage": "train"}, {"tried": [run.as_key()]})
    [(function, resumed)] = deployed.functions.invoked
    assert function == "droplens-start-training"
    deployed.sagemaker.failing.clear()
    name = f"droplens--cars-{run.run_id}-2"
    answer = load("StartTraining").handler(resumed, Context("resumed"))
    assert answer == {"run": run.as_key(), "training_job": name}

    # And should the function give up on it, that is reported as of its stage.
    failure = {**events["lambda-on-failure"], "requestPayload": resumed}
    assert load("ReportFailure").handler(failure, Context("report")) == {"run": run.as_key()}
    record = deployed.runs().get(run)
    assert record is not None
    assert (record.status, record.record["error"]["stage"]) == (Status.FAILED, "train")


def test_an_endpoint_is_tried_again_by_its_own_function(
    deployed: Cloud, load: Callable[[str], ModuleType]
) -> None:
    run = RunKey("cars", RECORDED_RUN)
    runs = deployed.runs()
    runs.open(run, {"version": "v"})
    runs.note(run, training_job="job", image=OWN_IMAGE, trainer="droplens")
    deployed.sagemaker.jobs["job"] = {
        "AlgorithmSpecification": {"TrainingImage": OWN_IMAGE},
        "ModelArtifacts": {"S3ModelArtifacts": model_data(run, BUCKET)},
    }
    deployed.failures(runs).fail(run, Stage.DEPLOY, "account.quota", "no room")
    app = load("ResumeRuns")
    app.handler({"classifier": "cars", "run_id": run.run_id}, Context("person"))
    [(function, resumed)] = deployed.functions.invoked
    assert function == "droplens-deploy-endpoint"
    name = f"droplens--cars-{run.run_id}-2"
    answer = load("DeployEndpoint").handler(resumed, Context("resumed"))
    assert answer == {"run": run.as_key(), "endpoint": name}
    assert deployed.sagemaker.endpoints == {name}


def test_an_idle_endpoint_goes_and_comes_again_for_a_picture(
    deployed: Cloud,
    load: Callable[[str], ModuleType],
    events: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = load("PauseEndpoint")
    by_the_clock = {"detail-type": "Scheduled Event", "source": "aws.events", "detail": {}}
    go_live(Cards(deployed.bucket), card())
    made = deployed.sagemaker.made
    name = card().endpoint
    made["EndpointConfig"][name] = {"ProductionVariants": [{"InstanceType": "ml.m5.large"}]}
    made["Endpoint"][name] = {
        "EndpointConfigName": name,
        "LastModifiedTime": datetime(2026, 1, 1, tzinfo=UTC),
    }
    assert app.handler(by_the_clock, Context("request")) == {"paused": []}
    monkeypatch.setattr(app, "IDLE_ENDPOINTS", dataclasses.replace(app.IDLE_ENDPOINTS, hours=6))
    assert app.handler(by_the_clock, Context("request")) == {"paused": [name]}
    assert app.handler(events["endpoint-missing"], Context("request")) == {"resumed": name}
    assert deployed.sagemaker.endpoints == {name}


def test_a_bad_message_does_not_hold_up_the_others_of_its_batch(
    deployed: Cloud, load: Callable[[str], ModuleType], events: dict[str, Any]
) -> None:
    deployed.runs().open(RunKey("cars", RECORDED_RUN), {"version": "v"})
    app = load("ClassifyImage")
    go_live(app.CARDS.cards, card(RECORDED_RUN))
    [good] = events["sqs-picture-batch"]["Records"]
    good["body"] = json.dumps(dropped(deployed, events["s3-picture"], jpeg()))
    bad = [{**good, "messageId": f"bad-{n}", "body": body} for n, body in enumerate(("", "{}"))]
    answer = app.handler({"Records": [bad[0], good, bad[1]]}, Context("request"))
    assert [item["itemIdentifier"] for item in answer["batchItemFailures"]] == ["bad-0", "bad-1"]
    assert len(deployed.keys("results/")) == 1


def test_pictures_that_fail_are_postponed_and_counted(
    deployed: Cloud,
    classify_image: ModuleType,
    events: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = FakeRuntime(redness, error=refusal("ThrottlingException", "InvokeEndpoint"))
    monkeypatch.setattr(
        classify_image,
        "CLASSIFICATION",
        dataclasses.replace(classify_image.CLASSIFICATION, runtime=broken),
    )
    put_off: list[dict[str, Any]] = []
    monkeypatch.setattr(classify_image.BACKOFF, "hide", lambda late, _soon: put_off.extend(late))
    [message] = events["sqs-picture-batch"]["Records"]
    bodies = [
        json.dumps(stored_picture(deployed, events["s3-picture"], f"input/cars/{name}.jpg", body))
        for name, body in (("good", jpeg()), ("bad", b"no picture"), ("good too", jpeg()))
    ]
    records = [
        {**message, "messageId": f"message-{n}", "body": body} for n, body in enumerate(bodies)
    ]
    answer = classify_image.handler({"Records": records}, Context("request"))
    assert sorted(item["itemIdentifier"] for item in answer["batchItemFailures"]) == [
        "message-0",
        "message-2",
    ]
    assert [record["messageId"] for record in put_off] == ["message-0", "message-2"]
    [counted] = [
        json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line
    ]
    assert (counted["PictureRejected"], counted["PicturePostponed"]) == ([1.0], [2.0])


def test_an_endpoint_that_hangs_leaves_time_for_what_comes_after_it(stack: Stack) -> None:
    """Two calls one after the other, each as slow as may be, and then the results."""
    timeout = stack.properties("ClassifyImage")["Timeout"]
    assert timeout - CALL_SECONDS >= READ_SECONDS


def test_a_picture_for_which_no_time_is_left_comes_again_soon_and_is_not_asked_for(
    deployed: Cloud,
    classify_image: ModuleType,
    events: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    late: list[tuple[list[str], set[str]]] = []
    monkeypatch.setattr(
        classify_image.BACKOFF,
        "hide",
        lambda records, soon: late.append(([one["messageId"] for one in records], set(soon))),
    )
    [message] = events["sqs-picture-batch"]["Records"]
    message["body"] = json.dumps(dropped(deployed, events["s3-picture"], jpeg()))
    in_a_hurry = HurriedContext("request", seconds=CALL_SECONDS - 1)
    answer = classify_image.handler({"Records": [message]}, in_a_hurry)
    name = message["messageId"]
    assert answer == {"batchItemFailures": [{"itemIdentifier": name}]}
    assert late == [([name], {name})]
    assert classify_image.CLASSIFICATION.runtime.asked == []


class EndedByForce(BaseException):
    """Lambda ends the process: no handler of errors runs."""


def suspects(
    cloud: Cloud, events: dict[str, Any], *counts: tuple[str, int]
) -> list[dict[str, Any]]:
    """Messages as Lambda hands them over from the queue: of these pictures, so often received.

    They were received first when the recorded event was made, an hour ago at the least."""
    [recorded] = events["sqs-picture-batch"]["Records"]
    for name, _ in counts:
        event = stored_picture(cloud, events["s3-picture"], f"input/cars/{name}.jpg", jpeg())
        cloud.sqs.send_message(QueueUrl=cloud.picture_queue, MessageBody=json.dumps(event))
    found = cloud.sqs.receive_message(QueueUrl=cloud.picture_queue, MaxNumberOfMessages=10)
    first = str(round(1000 * (time.time() - 3600)))
    records = {}
    for message in found["Messages"]:
        key = json.loads(message["Body"])["detail"]["object"]["key"]
        name = key.removeprefix("input/cars/").removesuffix(".jpg")
        attributes = {
            **recorded["attributes"],
            "ApproximateReceiveCount": str(dict(counts)[name]),
            "ApproximateFirstReceiveTimestamp": first,
        }
        records[name] = {
            **recorded,
            "messageId": name,
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": attributes,
        }
    return [records[name] for name, _ in counts]


def left_on_the_queue(cloud: Cloud) -> int:
    """Messages that are not deleted, hidden ones too."""
    told = cloud.sqs.get_queue_attributes(QueueUrl=cloud.picture_queue, AttributeNames=["All"])
    return sum(
        int(told["Attributes"][f"ApproximateNumberOfMessages{kind}"]) for kind in ("", "NotVisible")
    )


def test_a_picture_that_ends_the_process_takes_no_other_with_it(
    deployed: Cloud,
    classify_image: ModuleType,
    events: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = classify_image.CLASSIFICATION.classify
    order = []

    class Deadly:
        def classify(self, dropped: Any, *arguments: Any, **keywords: Any) -> Any:
            order.append(dropped.key)
            if dropped.key == "input/cars/killer.jpg":
                raise EndedByForce
            return real(dropped, *arguments, **keywords)

    monkeypatch.setattr(classify_image, "CLASSIFICATION", Deadly())
    sent: list[str] = []
    real_publish = classify_image.PUBLISHER.publish

    def publish(details: dict[str, Any]) -> set[str]:
        sent.extend(details)
        return set(real_publish(details))

    monkeypatch.setattr(classify_image.PUBLISHER, "publish", publish)
    batch = suspects(deployed, events, ("killer", 4), ("victim", 3), ("new", 1), ("another new", 2))
    with pytest.raises(EndedByForce):
        classify_image.handler({"Records": batch}, Context("request"))
    assert sorted(order[:2]) == ["input/cars/another new.jpg", "input/cars/new.jpg"]
    assert order[2:] == ["input/cars/victim.jpg", "input/cars/killer.jpg"]
    assert sorted(deployed.keys("results/")) == [
        f"results/cars/{name}.jpg.json" for name in ("another new", "new", "victim")
    ]
    assert sorted(sent) == ["another new", "new", "victim"]
    assert left_on_the_queue(deployed) == 1


def test_messages_that_are_handled_alone_and_find_no_time_come_again_soon(
    deployed: Cloud,
    classify_image: ModuleType,
    events: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    late: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        classify_image.BACKOFF,
        "hide",
        lambda records, soon: late.extend(
            (one["messageId"], one["messageId"] in soon) for one in records
        ),
    )
    batch = suspects(deployed, events, ("first", 3), ("second", 4))
    in_a_hurry = HurriedContext("request", seconds=CALL_SECONDS - 1)
    answer = classify_image.handler({"Records": batch}, in_a_hurry)
    names = [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]
    assert names == ["first", "second"]
    assert late == [("first", True), ("second", True)]
    assert classify_image.CLASSIFICATION.runtime.asked == []
    assert left_on_the_queue(deployed) == 2


def three_messages(deployed: Cloud, events: dict[str, Any]) -> list[dict[str, Any]]:
    """Messages of three stored images, input/cars/0.jpg and so on, by ids of the same numbers."""
    [message] = events["sqs-picture-batch"]["Records"]
    return [
        {
            **message,
            "messageId": str(number),
            "body": json.dumps(
                stored_picture(deployed, events["s3-picture"], f"input/cars/{number}.jpg", jpeg())
            ),
        }
        for number in range(3)
    ]


def test_a_picture_whose_event_was_not_taken_comes_again_and_no_other(
    deployed: Cloud,
    classify_image: ModuleType,
    events: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def take_all_but_the_second(**request: Any) -> dict[str, Any]:
        calls.append([json.loads(entry["Detail"])["image"]["key"] for entry in request["Entries"]])
        answers = [{"EventId": "1"}, {"ErrorCode": "InternalFailure"}, {"EventId": "3"}]
        return {"FailedEntryCount": 1, "Entries": answers}

    monkeypatch.setattr(classify_image.PUBLISHER.events, "put_events", take_all_but_the_second)
    records = three_messages(deployed, events)
    answer = classify_image.handler({"Records": records}, Context("request"))

    [announced] = calls
    failed = announced[1].removeprefix("input/cars/").removesuffix(".jpg")
    assert answer == {"batchItemFailures": [{"itemIdentifier": failed}]}
    assert len(deployed.keys("results/")) == 3


def test_a_picture_whose_review_was_not_entered_comes_again_and_no_other(
    deployed: Cloud, classify_image: ModuleType, events: dict[str, Any]
) -> None:
    put = classify_image.REVIEWS.table.put_item

    def put_all_but_one(**request: Any) -> Any:
        if request["Item"]["image"] == "input/cars/1.jpg":
            raise EndpointConnectionError(endpoint_url="https://dynamodb.us-east-1.amazonaws.com")
        return put(**request)

    go_live(classify_image.CARDS.cards, card("20261123-120000-000001", confident_from=1.0))
    records = three_messages(deployed, events)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classify_image.REVIEWS.table, "put_item", put_all_but_one)
        answer = classify_image.handler({"Records": records}, Context("request"))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "1"}]}
    answer = classify_image.handler({"Records": records[1:2]}, Context("request"))
    assert answer == {"batchItemFailures": []}
    assert [len(deployed.reviews().of_image(f"input/cars/{n}.jpg")) for n in range(3)] == [1, 1, 1]


def test_an_alarm_is_told(
    deployed: Cloud, load: Callable[[str], ModuleType], events: dict[str, Any]
) -> None:
    answer = load("ReportFailure").handler(events["alarm-raised"], Context("request"))
    assert answer == {"run": None}
    [notice] = deployed.notices()
    assert notice["subject"] == "Droplens: droplens--PicturesGivenUp"
    assert notice["message"].startswith("Pictures failed 50 times")


@pytest.mark.parametrize("event", ["batch-failed", "endpoint-failed", "lambda-on-failure"])
def test_a_failure_is_written_down_and_told_once(
    deployed: Cloud, load: Callable[[str], ModuleType], events: dict[str, Any], event: str
) -> None:
    run = RunKey("cars", RECORDED_RUN)
    deployed.runs().open(run, {"version": "v"})
    arn = events["endpoint-failed"]["detail"]["EndpointArn"]
    deployed.sagemaker.tags[arn] = events["endpoint-in-service"]["detail"]["Tags"]
    app = load("ReportFailure")
    for number in range(2):
        answer = app.handler(events[event], Context(f"request-{number}"))
        assert answer == {"run": run.as_key()}
    record = deployed.runs().get(run)
    assert record is not None
    assert record.status is Status.FAILED
    assert len(deployed.notices()) == 1


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("StartTraining", "batch-succeeded"),
        ("DeployEndpoint", "training-completed"),
        ("PromoteEndpoint", "endpoint-in-service"),
    ],
)
def test_what_belongs_to_no_run_is_let_be(
    deployed: Cloud,
    load: Callable[[str], ModuleType],
    events: dict[str, Any],
    name: str,
    event: str,
) -> None:
    foreign = events[event]
    foreign["detail"].update(parameters={}, Tags={})
    assert load(name).handler(foreign, Context("request")) == {"run": None}
    assert deployed.sagemaker.calls in ([], ["ListTags"])


def test_a_log_line_tells_its_run(
    deployed: Cloud,
    load: Callable[[str], ModuleType],
    events: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = StringIO()
    monkeypatch.setattr(logger.registered_handler, "stream", written)
    load("StartTraining").handler(events["batch-succeeded"], Context("request"))
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert lines
    for line in lines:
        assert (line["classifier"], line["run_id"]) == ("cars", RECORDED_RUN)
        assert line["correlation_id"] == RECORDED_RUN
