"""A limit of AWS that passes ends no run: it waits, is told of, and goes on from where it stood."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from droplens.aws import sagemaker
from droplens.aws.events import EndpointChanged, PackingEnded, TrainingEnded, run_resumed
from droplens.aws.tags import tag_list, tag_map
from droplens.domain.errors import UserError
from droplens.domain.run import Run, RunKey, Stage, Status
from droplens.journey import deploy as hosting
from droplens.journey import train, waiting
from droplens.journey.failure_reasons import FailureReporter
from droplens.journey.resume import ResumeRequest, Resumption
from droplens.state import endpoints
from droplens.state.cards import Cards
from droplens.state.runs import Runs
from tests.support.aws_account import Cloud
from tests.support.aws_fakes import ACCOUNT, REGION
from tests.support.builders import HOSTING, NAME, RUN, card, go_live, model_data, pack
from tests.support.crashes import crash_in
from tests.support.promotion import promotion, retirement
from tests.support.training import SETTINGS

QUOTA = (
    "The account-level service limit 'ml.g5.xlarge for spot training job usage' is 0 Instances, "
    "with current utilization of 0 Instances and a request delta of 1 Instances."
)
NO_CAPACITY = "CapacityError: Unable to provision requested ML compute capacity. Please retry."
NO_INSTANCE = (
    "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error."
)
ARTEFACT = model_data()
NEWER = RunKey("cars", "20261123-120000-1a2b3c")


def arn(kind: str, name: str) -> str:
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{name}"


def known(cloud: Cloud, key: RunKey = RUN) -> Run:
    run = cloud.runs().get(key)
    assert run is not None
    return run


def waits(cloud: Cloud) -> waiting.Wait:
    assert known(cloud).status is Status.WAITING
    wait = waiting.Wait.of(known(cloud))
    assert wait is not None
    return wait


def training(cloud: Cloud) -> train.Training:
    return train.Training(bucket=cloud.bucket, sagemaker=cloud.sagemaker, settings=SETTINGS)


def deployment(cloud: Cloud) -> hosting.Deployment:
    return hosting.Deployment(sagemaker=cloud.sagemaker, bucket=cloud.bucket, settings=HOSTING)


def start(cloud: Cloud, owner: str = "batch") -> str | None:
    """What the event of a packed dataset does."""
    ended = PackingEnded(RUN, "job", "", 0, "all")
    return training(cloud).start(ended, cloud.invocation(owner))


def deploy(cloud: Cloud, job: str = NAME, owner: str = "trained") -> str | None:
    """What the event of a complete training does."""
    tags = tag_map(tag_list(RUN))
    trained = TrainingEnded(job, arn("training-job", job), "Completed", tags, None)
    run, endpoint = deployment(cloud).start(trained, cloud.invocation(owner))
    assert run == RUN
    return endpoint


def resumption(cloud: Cloud, asked: list[Any] | None = None) -> Resumption:
    """resume_runs, whose invocations are made at once, or gathered in `asked`."""

    def invoke(event: Any) -> None:
        if asked is not None:
            asked.append(event)
            return
        run, stage = run_resumed(event)
        step = training(cloud) if stage is Stage.TRAIN else deployment(cloud)
        step.resume(run, cloud.invocation(f"resumed-{cloud.clock.now.timestamp()}"))

    return Resumption(
        sagemaker=cloud.sagemaker, functions={Stage.TRAIN: invoke, Stage.DEPLOY: invoke}
    )


def resumed(
    cloud: Cloud, classifier: str, run_id: str | None, asked: list[Any] | None = None
) -> tuple[RunKey, Stage]:
    """What resume_runs does for a person."""
    request = ResumeRequest(classifier=classifier, run_id=run_id)
    return resumption(cloud, asked).resume(request, cloud.invocation("clock"))


def look(cloud: Cloud, later: timedelta = timedelta()) -> list[RunKey]:
    """What the clock's next look does, after this time."""
    cloud.clock.turn(later.total_seconds())
    return resumption(cloud).resume_due(cloud.invocation("clock"))


def report(cloud: Cloud, event: Any) -> RunKey | None:
    """What report_failure does with the event."""
    reporter = FailureReporter(
        bucket=cloud.bucket,
        cards=Cards(cloud.bucket),
        batch=cloud.batch,
        sagemaker=cloud.sagemaker,
    )
    return reporter.report(event, cloud.invocation("report"))


def training_ended(cloud: Cloud, name: str, status: str = "Failed") -> None:
    """SageMaker's event of a training job's bad end, twice."""
    detail = {
        "TrainingJobName": name,
        "TrainingJobArn": arn("training-job", name),
        "TrainingJobStatus": status,
        "Tags": {tag["Key"]: tag["Value"] for tag in tag_list(RUN)},
    }
    event = {"source": "aws.sagemaker", "detail-type": "SageMaker Training Job State Change"}
    for _ in range(2):
        report(cloud, {**event, "detail": detail})


def endpoint_event(name: str, status: str = "FAILED", run: RunKey = RUN) -> dict[str, Any]:
    changed = EndpointChanged(name, arn("endpoint", name), status, {})
    detail = {
        "EndpointName": changed.name,
        "EndpointArn": changed.arn,
        "EndpointStatus": changed.status,
        "Tags": {tag["Key"]: tag["Value"] for tag in tag_list(run)},
    }
    event = {"source": "aws.sagemaker", "detail-type": "SageMaker Endpoint State Change"}
    return {**event, "detail": detail}


@pytest.fixture
def packed(cloud: Cloud) -> Cloud:
    """An account with a packed run."""
    cloud.runs().open(RUN, {"version": "v1"})
    pack(cloud)
    return cloud


@pytest.fixture
def trained(packed: Cloud) -> Cloud:
    """An account with a run whose training is complete."""
    assert start(packed) == NAME
    packed.sagemaker.jobs[NAME]["ModelArtifacts"] = {"S3ModelArtifacts": ARTEFACT}
    return packed


def out_of_quota(cloud: Cloud, operation: str) -> None:
    cloud.sagemaker.failing[operation] = "ResourceLimitExceeded"
    cloud.sagemaker.words[operation] = QUOTA


def room_again(cloud: Cloud) -> None:
    cloud.sagemaker.failing.clear()


# --- at training


def test_a_quota_at_training_has_the_run_wait_and_says_what_to_do(packed: Cloud) -> None:
    out_of_quota(packed, "CreateTrainingJob")
    assert start(packed) is None
    wait = waits(packed)
    assert (wait.stage, wait.code, wait.tries) == ("train", "account.quota", 1)
    assert QUOTA in wait.message
    [notice] = packed.notices()
    assert notice["subject"] == "Droplens: cars waits at train"
    assert "QuotaName=='ml.g5.xlarge for spot training job usage'" in notice["message"]
    assert "request-service-quota-increase" in notice["message"]
    assert f"make resume CLASSIFIER=cars RUN={RUN.run_id}" in notice["message"]
    assert "UseSpot=false" in notice["message"]


def test_the_event_that_began_the_stage_does_not_end_the_wait(packed: Cloud) -> None:
    out_of_quota(packed, "CreateTrainingJob")
    for owner in ("batch", "batch again"):
        assert start(packed, owner) is None
    room_again(packed)
    assert start(packed, "batch, late") is None
    assert waits(packed).tries == 1
    assert len(packed.notices()) == 1


def test_a_run_is_tried_again_when_its_time_has_come(packed: Cloud) -> None:
    out_of_quota(packed, "CreateTrainingJob")
    start(packed)
    room_again(packed)
    assert look(packed, timedelta(minutes=14)) == []
    assert look(packed, timedelta(minutes=1)) == [RUN]
    assert known(packed).status is Status.TRAINING
    assert known(packed).record["training_job"] == f"{NAME}-2"
    assert packed.sagemaker.jobs.keys() == {f"{NAME}-2"}
    assert look(packed, timedelta(hours=4)) == []
    assert packed.runs().needing_attention() == []


def test_it_waits_longer_each_time_and_is_told_of_once(packed: Cloud) -> None:
    out_of_quota(packed, "CreateTrainingJob")
    start(packed)
    pauses = []
    for _ in range(6):
        pause = waits(packed).next_try - packed.clock.now.timestamp()
        pauses.append(pause / 60)
        assert look(packed, timedelta(seconds=pause)) == [RUN]
    assert pauses == [15, 30, 60, 120, 180, 180]
    assert waits(packed).tries == 7
    assert len(packed.notices()) == 1


def test_a_job_that_got_no_instance_is_made_again_under_another_name(packed: Cloud) -> None:
    start(packed)
    packed.sagemaker.jobs[NAME]["FailureReason"] = NO_CAPACITY
    training_ended(packed, NAME)
    wait = waits(packed)
    assert (wait.code, wait.tries) == ("aws.capacity", 1)
    assert look(packed, timedelta(minutes=15)) == [RUN]
    assert packed.sagemaker.jobs.keys() == {NAME, f"{NAME}-2"}
    # What is still heard of the first one is not said of the second.
    training_ended(packed, NAME)
    assert deploy(packed, NAME) is None
    assert known(packed).status is Status.TRAINING
    assert len(packed.notices()) == 1


def test_a_spot_training_that_never_began_waits(packed: Cloud) -> None:
    start(packed)
    packed.sagemaker.jobs[NAME]["SecondaryStatus"] = "MaxWaitTimeExceeded"
    training_ended(packed, NAME, "Stopped")
    assert waits(packed).code == "aws.capacity"


@pytest.mark.parametrize(
    "job",
    [
        {"SecondaryStatus": "MaxRuntimeExceeded"},
        {"SecondaryStatus": "MaxWaitTimeExceeded", "TrainingStartTime": "2026-11-22"},
        {"SecondaryStatus": "Failed", "FailureReason": "AlgorithmError: CapacityError is no more"},
    ],
)
def test_a_training_that_ran_is_not_repeated_by_itself(packed: Cloud, job: dict[str, Any]) -> None:
    start(packed)
    packed.sagemaker.jobs[NAME] |= job
    training_ended(packed, NAME, "Stopped")
    assert known(packed).status is Status.FAILED


def test_what_a_region_does_not_offer_is_not_waited_for(packed: Cloud) -> None:
    out_of_quota(packed, "CreateTrainingJob")
    packed.sagemaker.words["CreateTrainingJob"] = (
        "The requested resource training-job/ml.p2.xlarge is not available in this region"
    )
    start(packed)
    assert known(packed).record["error"]["code"] == "region.refused"


def test_the_quota_s_name_is_read_from_either_form_of_aws_s_words() -> None:
    larger = (
        "The request delta of 1025 GBs for 'Size of EBS volume for a training job instance' is "
        "greater than the account-level service-limit of 1024 GBs."
    )
    for words, name in ((QUOTA, "ml.g5.xlarge for spot"), (larger, "Size of EBS volume")):
        wait = waiting.Wait("train", "account.quota", words, "2026-11-22T12:00:00+00:00", 1, 0)
        _, message = waiting.notice(RUN, wait)
        assert f"QuotaName=='{name}" in message


# --- at deployment


@pytest.mark.parametrize("operation", ["CreateModel", "CreateEndpointConfig", "CreateEndpoint"])
def test_a_quota_at_deployment_keeps_what_was_trained(trained: Cloud, operation: str) -> None:
    out_of_quota(trained, operation)
    assert deploy(trained) is None
    assert (waits(trained).stage, waits(trained).code) == ("deploy", "account.quota")
    [notice] = trained.notices()
    assert "EndpointMaxConcurrency" in notice["message"]
    # Its configuration goes: the next one is made with the parameters of then.
    look(trained)
    made = trained.sagemaker.made
    assert made == {"Model": {}, "EndpointConfig": {}, "Endpoint": {}}
    room_again(trained)
    assert look(trained, timedelta(minutes=15)) == [RUN]
    assert known(trained).status is Status.DEPLOYING
    assert known(trained).record["endpoint"] == f"{NAME}-2"
    assert made["Model"][f"{NAME}-2"]["PrimaryContainer"]["ModelDataUrl"] == ARTEFACT
    assert {kind: set(names) for kind, names in made.items()} == {
        kind: {f"{NAME}-2"} for kind in made
    }
    assert trained.sagemaker.calls.count("CreateTrainingJob") == 1


def test_an_endpoint_without_instances_is_made_again_under_another_name(trained: Cloud) -> None:
    deploy(trained)
    trained.sagemaker.made["Endpoint"][NAME]["FailureReason"] = NO_INSTANCE
    for _ in range(2):
        report(trained, endpoint_event(NAME))
    assert waits(trained).code == "aws.capacity"
    assert trained.sagemaker.endpoints == set()
    assert look(trained, timedelta(minutes=15)) == [RUN]
    assert trained.sagemaker.endpoints == {f"{NAME}-2"}
    report(trained, endpoint_event(NAME))
    assert known(trained).status is Status.DEPLOYING
    assert trained.sagemaker.endpoints == {f"{NAME}-2"}


def test_a_failure_that_comes_before_the_deployment_has_ended_has_the_run_wait(
    trained: Cloud,
) -> None:
    with crash_in(Runs, "finish"):
        deploy(trained)
    trained.sagemaker.made["Endpoint"][NAME]["FailureReason"] = NO_INSTANCE
    report(trained, endpoint_event(NAME))
    trained.runs("trained").finish(RUN, Stage.DEPLOY)  # the one that was so slow
    assert look(trained, timedelta(minutes=15)) == [RUN]
    assert trained.sagemaker.endpoints == {f"{NAME}-2"}


# --- how a wait ends


def test_after_two_weeks_it_fails_and_says_why_and_how_to_go_on(trained: Cloud) -> None:
    out_of_quota(trained, "CreateEndpoint")
    deploy(trained)
    trained.notices()
    for _ in range(14):
        assert known(trained).status is Status.WAITING
        look(trained, timedelta(days=1))
    run = known(trained)
    assert run.status is Status.FAILED
    assert run.record["error"]["code"] == "account.quota"
    assert "waited for 14 days" in run.record["error"]["message"]
    [notice] = trained.notices()
    assert f"make resume CLASSIFIER=cars RUN={RUN.run_id}" in notice["message"]


def test_a_person_has_a_failed_run_go_on_from_where_it_stood(trained: Cloud) -> None:
    out_of_quota(trained, "CreateEndpoint")
    deploy(trained)
    look(trained, timedelta(days=14))
    assert known(trained).status is Status.FAILED
    room_again(trained)
    assert resumed(trained, "cars", RUN.run_id) == (RUN, Stage.DEPLOY)
    run = known(trained)
    assert run.status is Status.DEPLOYING
    assert run.record["endpoint"] == f"{NAME}-3"
    assert not run.record.keys() & {"error", "ended_at", "notified"}
    # Should it fail once more, that is told again, and it may wait as long again.
    trained.sagemaker.made["Endpoint"][f"{NAME}-3"]["FailureReason"] = NO_INSTANCE
    report(trained, endpoint_event(f"{NAME}-3"))
    assert waits(trained).until > trained.clock.now + timedelta(days=13)


def test_a_person_need_not_wait_for_the_clock(packed: Cloud) -> None:
    out_of_quota(packed, "CreateTrainingJob")
    start(packed)
    room_again(packed)
    assert resumed(packed, "cars", None) == (RUN, Stage.TRAIN)
    assert packed.sagemaker.jobs.keys() == {f"{NAME}-2"}


@pytest.mark.parametrize(
    ("stage", "code", "allowed"),
    [
        ("deploy", "endpoint.failed", True),
        ("deploy", "function.failed", True),
        ("train", "account.quota", True),
        ("train", "training.instance", True),
        ("train", "training.failed", False),
        ("pack", "packing.dataset", False),
        ("promote", "measure.no_validation", False),
    ],
)
def test_what_a_person_may_have_tried_again(
    trained: Cloud, stage: str, code: str, allowed: bool
) -> None:
    trained.failures().fail(RUN, Stage(stage), code, "why")
    [notice] = trained.notices()
    assert ("make resume" in notice["message"]) is allowed
    if allowed:
        assert resumed(trained, "cars", RUN.run_id, []) == (RUN, Stage(stage))
        return
    with pytest.raises(UserError, match=f"failed at stage {stage} as {code}"):
        resumed(trained, "cars", RUN.run_id, [])
    assert known(trained).status is Status.FAILED


def test_a_run_that_does_not_wait_is_not_resumed(trained: Cloud) -> None:
    for run_id in (None, RUN.run_id):
        with pytest.raises(UserError, match="does not wait: it is training"):
            resumed(trained, "cars", run_id, [])
    with pytest.raises(UserError, match="has no run 20260101"):
        resumed(trained, "cars", "20260101", [])
    with pytest.raises(UserError, match="no run of birds"):
        resumed(trained, "birds", None, [])


def test_a_failed_run_that_a_newer_model_has_replaced_is_not_resumed(trained: Cloud) -> None:
    trained.failures().fail(RUN, Stage.DEPLOY, "account.quota", "why")
    trained.runs().open(NEWER, {"version": "v2"})
    trained.runs().end(NEWER, Status.LIVE)
    with pytest.raises(UserError, match=f"overtaken by run {NEWER.run_id}"):
        resumed(trained, "cars", RUN.run_id, [])


@pytest.mark.parametrize(
    ("status", "at_training", "at_deployment"),
    [
        (Status.PACKING, Status.TRAINING, Status.DEPLOYING),
        (Status.FAILED, Status.TRAINING, Status.DEPLOYING),
        (Status.REFUSED, Status.TRAINING, Status.DEPLOYING),
        (Status.TRAINING, Status.SUPERSEDED, Status.DEPLOYING),
        (Status.WAITING, Status.SUPERSEDED, Status.DEPLOYING),
        (Status.LIVE, Status.SUPERSEDED, Status.SUPERSEDED),
        (Status.REPLACED, Status.SUPERSEDED, Status.SUPERSEDED),
    ],
)
@pytest.mark.parametrize("stage", ["train", "deploy"])
def test_a_newer_run_supersedes_one_that_waits(
    packed: Cloud, status: Status, at_training: Status, at_deployment: Status, stage: str
) -> None:
    if stage == "train":
        out_of_quota(packed, "CreateTrainingJob")
        start(packed)
    else:
        start(packed)
        packed.sagemaker.jobs[NAME]["ModelArtifacts"] = {"S3ModelArtifacts": ARTEFACT}
        out_of_quota(packed, "CreateEndpoint")
        deploy(packed)
    room_again(packed)
    packed.runs().open(NEWER, {"version": "v2"})
    packed.runs().note(NEWER, status=status.value)
    look(packed, timedelta(minutes=15))
    assert known(packed).status is (at_training if stage == "train" else at_deployment)
    look(packed)
    if known(packed).status is Status.SUPERSEDED:
        assert known(packed).record["replaced_by"] == NEWER.run_id
        assert packed.runs().needing_attention() == []
        assert packed.sagemaker.made == {"Model": {}, "EndpointConfig": {}, "Endpoint": {}}


def test_when_a_newer_model_goes_live_the_wait_is_over_at_once(
    trained: Cloud, cards: Cards
) -> None:
    out_of_quota(trained, "CreateEndpoint")
    deploy(trained)
    runs = trained.runs()
    runs.open(NEWER, {"version": "v2"})
    runs.end(NEWER, Status.LIVE)
    go_live(cards, card(NEWER.run_id))
    retirement(trained).settle("cars", runs)
    assert known(trained).status is Status.SUPERSEDED
    assert trained.sagemaker.made == {"Model": {}, "EndpointConfig": {}, "Endpoint": {}}


def test_pictures_of_a_run_that_waits_are_not_stranded(packed: Cloud) -> None:
    out_of_quota(packed, "CreateTrainingJob")
    start(packed)
    assert not packed.runs().is_stranded("cars")


# --- twice, at once, cut off


def test_two_looks_at_once_begin_one_try(packed: Cloud) -> None:
    out_of_quota(packed, "CreateTrainingJob")
    start(packed)
    packed.clock.turn(900)
    asked: list[Any] = []
    looks = [resumption(packed, asked).resume_due(packed.invocation("clock")) for _ in range(2)]
    assert looks == [[RUN], []]
    assert len(asked) == 1


def test_an_invocation_that_is_lost_is_made_again(packed: Cloud) -> None:
    out_of_quota(packed, "CreateTrainingJob")
    start(packed)
    room_again(packed)
    packed.clock.turn(900)
    # And nobody hears of it.
    assert resumption(packed, []).resume_due(packed.invocation("clock")) == [RUN]
    assert known(packed).status is Status.WAITING
    assert look(packed, timedelta(minutes=15)) == [RUN]
    assert known(packed).status is Status.TRAINING


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("where", "step"),
    [(Runs, "claim"), ("sagemaker", "create_training_job"), (Runs, "finish"), (Runs, "hold")],
)
def test_a_try_that_is_cut_off_is_taken_up_by_lambda_s_own_retry(
    packed: Cloud, where: Any, step: str, after: bool
) -> None:
    out_of_quota(packed, "CreateTrainingJob")
    if step == "hold":
        with crash_in(Runs, "hold", after=after):
            start(packed)
        start(packed)
        assert len(packed.notices()) == 1
    else:
        start(packed)
        room_again(packed)
    packed.clock.turn(900)
    if step != "hold":
        target = packed.sagemaker if where == "sagemaker" else where
        with crash_in(target, step, after=after):
            look(packed)
        assert known(packed).status in (Status.WAITING, Status.TRAINING)
        retry = packed.invocation(f"resumed-{packed.clock.now.timestamp()}")
        training(packed).resume(RUN, retry)
        assert packed.sagemaker.jobs.keys() == {f"{NAME}-2"}
        assert known(packed).status is Status.TRAINING


def test_one_run_s_trouble_does_not_keep_another_from_its_turn(packed: Cloud) -> None:
    out_of_quota(packed, "CreateTrainingJob")
    start(packed)
    room_again(packed)
    other = RunKey("birds", RUN.run_id)
    packed.runs().open(other, {"version": "v1"})
    packed.runs().to_be_removed(other, "gone")
    packed.sagemaker.failing["DeleteEndpoint"] = "ThrottlingException"
    packed.clock.turn(900)
    with pytest.raises(Exception, match="ThrottlingException"):
        look(packed)
    assert known(packed).status is Status.TRAINING


# --- endpoints that nobody needs any more, and that cannot be removed yet


def promote_event(cloud: Cloud, name: str) -> Status | None:
    """What the event of an endpoint in service does, for a run that is over."""
    event = endpoint_event(name, "IN_SERVICE")
    _, status = promotion(cloud).start(event, cloud.invocation("promote"))
    return status


@pytest.mark.parametrize("busy", ["Creating", "Updating", "SystemUpdating"])
def test_an_endpoint_in_progress_is_left_whole_and_removed_later(trained: Cloud, busy: str) -> None:
    deploy(trained)
    trained.sagemaker.statuses[NAME] = busy
    runs = trained.runs()
    assert not endpoints.dispose(trained.sagemaker, runs, RUN, NAME)
    made = trained.sagemaker.made
    assert all(NAME in names for names in made.values())
    assert known(trained).record["to_remove"] == {NAME}
    look(trained)
    assert all(NAME in names for names in made.values())
    trained.sagemaker.statuses.clear()
    look(trained)
    assert made == {"Model": {}, "EndpointConfig": {}, "Endpoint": {}}
    assert "to_remove" not in known(trained).record
    assert trained.runs().needing_attention() == []


END: dict[Status, Callable[[Cloud], object]] = {
    Status.FAILED: lambda cloud: cloud.failures().fail(RUN, Stage.DEPLOY, "function.failed", "x"),
    Status.REFUSED: lambda cloud: cloud.runs().end(RUN, Status.REFUSED),
    Status.SUPERSEDED: lambda cloud: cloud.runs().end(RUN, Status.SUPERSEDED),
    Status.REPLACED: lambda cloud: cloud.runs().note(
        RUN, status=Status.REPLACED.value, retired=True
    ),
}


@pytest.mark.parametrize("noted", [True, False])
@pytest.mark.parametrize("end", END)
def test_an_endpoint_that_comes_into_service_after_its_run_s_end_is_removed(
    trained: Cloud, end: Status, noted: bool
) -> None:
    deploy(trained)
    trained.sagemaker.statuses[NAME] = "Creating"
    END[end](trained)
    if noted:
        endpoints.dispose(trained.sagemaker, trained.runs(), RUN, NAME)
    assert trained.sagemaker.endpoints == {NAME}
    trained.sagemaker.statuses.clear()
    assert promote_event(trained, NAME) is end
    assert trained.sagemaker.made == {"Model": {}, "EndpointConfig": {}, "Endpoint": {}}


@pytest.mark.parametrize("end", END)
def test_an_endpoint_that_fails_after_its_run_s_end_is_removed(trained: Cloud, end: Status) -> None:
    deploy(trained)
    trained.sagemaker.statuses[NAME] = "Creating"
    END[end](trained)
    endpoints.dispose(trained.sagemaker, trained.runs(), RUN, NAME)
    trained.sagemaker.statuses[NAME] = "Failed"
    report(trained, endpoint_event(NAME))
    assert known(trained).status is end
    assert trained.sagemaker.made == {"Model": {}, "EndpointConfig": {}, "Endpoint": {}}


def test_an_endpoint_of_an_earlier_try_is_not_measured(trained: Cloud) -> None:
    deploy(trained)
    trained.runs().note(RUN, endpoint=f"{NAME}-2")
    assert promote_event(trained, NAME) is Status.DEPLOYING
    assert trained.sagemaker.endpoints == set()


def test_a_deleted_endpoint_that_is_still_going_is_no_hindrance(trained: Cloud) -> None:
    deploy(trained)
    trained.sagemaker.statuses[NAME] = "Deleting"
    trained.sagemaker.failing["DeleteEndpoint"] = "ValidationException"
    assert endpoints.dispose(trained.sagemaker, trained.runs(), RUN, NAME)
    assert trained.sagemaker.made["EndpointConfig"] == {}


# --- what was created a moment ago


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited, each time."""
    waited: list[float] = []
    monkeypatch.setattr("droplens.aws.sagemaker.time.sleep", waited.append)
    return waited


@pytest.mark.parametrize("kind", ["Model", "EndpointConfig"])
def test_what_is_not_readable_yet_is_waited_for(
    trained: Cloud, pauses: list[float], kind: str
) -> None:
    trained.sagemaker.late[kind] = 3
    assert deploy(trained) == NAME
    assert pauses == list(sagemaker.PAUSES[:3])
    assert trained.sagemaker.endpoints == {NAME}


def test_what_stays_unreadable_is_left_to_the_next_invocation(
    trained: Cloud, pauses: list[float]
) -> None:
    trained.sagemaker.late["EndpointConfig"] = len(sagemaker.PAUSES) + 1
    with pytest.raises(Exception, match="Could not find endpoint configuration"):
        deploy(trained)
    assert known(trained).status is Status.DEPLOYING
    assert sum(pauses) < 45  # of the function's minute
    assert deploy(trained, owner="another") == NAME


def test_what_is_there_but_not_readable_yet_is_there(trained: Cloud) -> None:
    deploy(trained)
    trained.runs().note(RUN, claim_deploy={"owner": "x", "lease_until": 0, "done": False})
    trained.sagemaker.failing = {
        f"Describe{kind}": "ValidationException" for kind in ("Model", "EndpointConfig", "Endpoint")
    }
    assert deploy(trained, owner="another") == NAME


def test_a_refusal_is_not_retried(trained: Cloud, pauses: list[float]) -> None:
    trained.sagemaker.failing["CreateModel"] = "ValidationException"
    trained.sagemaker.words["CreateModel"] = "Could not find model data at s3://bucket/model.tar.gz"
    assert deploy(trained) is None
    assert pauses == []
    assert known(trained).record["error"]["code"] == "endpoint.refused"
