"""The local cloud comes up, goes down without a trace, and goes on where it was."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from localcloud.ports import free_port
from tests.support.localcloud import (
    Cloud,
    descendants,
    eventually,
    is_alive,
    listeners,
)
from tests.support.localcloud_batch import Jobs
from tests.support.localcloud_sagemaker import SageMaker
from tests.support.repository import ROOT


def everything_running(cloud: Cloud) -> tuple[Jobs, SageMaker, str]:
    """A job that sleeps, one that waits on its own child, a training that sleeps, an endpoint
    and a function's warm worker -> the parts and the job's id."""
    jobs, sagemaker = Jobs(cloud), SageMaker(cloud)
    definition = jobs.define("sleeper", containerProperties={"command": ["sleep"]})
    job_id = jobs.submit(definition, jobName="sleeper")
    sagemaker.served(sagemaker.serve("stays", {"color": "red"}), "InService")
    sagemaker.train("interrupted", {"sleep": "600"})
    eventually("the job's child", lambda: "CHILD" in str(jobs.lines(jobs.describe(job_id))))
    logs = "/aws/sagemaker/TrainingJobs"
    eventually("the training", lambda: "CHILD" in str(cloud.log_lines(logs, "interrupted")))
    cloud.function(
        "worker", "def handler(event, context): return {'pid': __import__('os').getpid()}"
    )
    assert is_alive(cloud.invoke("worker")["pid"])
    return jobs, sagemaker, job_id


def test_it_goes_down_without_a_trace_and_takes_up_its_work_again(
    new_cloud: Callable[[], Cloud],
) -> None:
    cloud = new_cloud()
    cloud.up()
    jobs, sagemaker, job_id = everything_running(cloud)
    before = len(sagemaker.events())
    running = descendants(cloud.pids()["guard"])
    # The guard, the server, the job with its child, the training, the endpoint, the worker.
    assert len(running) >= 7
    addresses = listeners(running)
    assert len(addresses) == 2  # the cloud's own port and the endpoint's
    assert all(address.startswith("0100007F:") for address in addresses), addresses

    goes_down = cloud.cli("down").stdout
    assert "training interrupted is cut off; the next `make up` begins it again" in goes_down
    assert f"packing job sleeper ({job_id}) is cut off" in goes_down
    assert not [pid for pid in running if is_alive(pid)]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", cloud.port)) != 0
    assert "was not up" in cloud.cli("down").stdout

    cloud.up()
    job = jobs.wait(job_id)
    assert (job["status"], job["statusReason"]) == (
        "FAILED",
        "Host terminated: the local cloud went down while the job was running",
    )
    logs = "/aws/sagemaker/TrainingJobs"
    eventually(
        "the training, again",
        lambda: str(cloud.log_lines(logs, "interrupted")).count("CHILD") == 2,
    )
    training = sagemaker.api.describe_training_job(TrainingJobName="interrupted")
    assert training["TrainingJobStatus"] == "InProgress"
    assert [change["Status"] for change in training["SecondaryStatusTransitions"]] == [
        *("Starting", "Downloading", "Training"),
        *("Interrupted", "Starting", "Downloading", "Training"),
    ]

    def answer() -> bytes | None:
        try:
            body: bytes = sagemaker.invoke("stays", b"hello")["Body"].read()
        except ClientError:
            return None
        return body

    assert b'"color": "red"' in eventually("the endpoint's answer", answer)
    assert cloud.invoke("worker")["pid"]
    key = sagemaker.s3.list_objects_v2(Bucket=sagemaker.bucket, Prefix="models/")["Contents"]
    assert [item["Key"] for item in key] == ["models/stays.tar.gz"]
    eventually(
        "the event of the interrupted training",
        lambda: [
            event
            for event in sagemaker.events()[before:]
            if event["detail"].get("SecondaryStatus") == "Interrupted"
        ],
    )
    # That the endpoint is served again is no news: a run would be promoted a second time.
    assert not [e for e in sagemaker.events()[before:] if "EndpointName" in e["detail"]]
    told = [e["detail"]["status"] for e in jobs.told(job_id)]
    assert told[-1] == "FAILED"


def test_a_job_with_attempts_left_is_tried_again_after_a_restart_and_a_training_not_for_ever(
    new_cloud: Callable[[], Cloud],
) -> None:
    cloud = new_cloud()
    cloud.up()
    jobs, sagemaker = Jobs(cloud), SageMaker(cloud)
    definition = jobs.define(
        "slow", containerProperties={"command": ["sleep"]}, retryStrategy={"attempts": 2}
    )
    job_id = jobs.submit(definition)
    jobs.wait(job_id, "RUNNING")
    sagemaker.train("unlucky", {"sleep": "600"})
    state = cloud.folder / "local" / "cloud" / "state" / "droplens.json"

    def trains() -> bool:
        found = sagemaker.api.describe_training_job(TrainingJobName="unlucky")
        return bool(found["SecondaryStatus"] == "Training")

    eventually("the training", trains)
    cloud.down()
    tables = json.loads(state.read_text())
    tables["sagemaker.trainingJobs"]["unlucky"]["_interruptions"] = 3
    state.write_text(json.dumps(tables))
    cloud.up()
    job = jobs.wait(job_id, "RUNNING")
    assert [attempt["statusReason"] for attempt in job["attempts"]] == [
        "Host terminated: the local cloud went down while the job was running"
    ]
    unlucky = sagemaker.trained("unlucky")
    assert unlucky["TrainingJobStatus"] == "Failed"
    assert "went down 4 times" in unlucky["FailureReason"]


def test_a_cloud_whose_folder_was_removed_is_named_with_what_to_do(
    new_cloud: Callable[[], Cloud],
) -> None:
    cloud = new_cloud()
    cloud.up()
    guard = cloud.pids()["guard"]
    shutil.rmtree(cloud.folder / "local" / "cloud")
    for command in ("down", "up"):
        refused = cloud.cli(command)
        assert refused.returncode == 1
        assert f"process {guard} is still a local cloud on port {cloud.port}" in refused.stderr
        assert f"End it by `kill {guard}`" in refused.stderr
    before_anything_is_installed = subprocess.run(
        [
            sys.executable,
            "-I",
            "-c",
            (
                "import runpy, sys; sys.path.insert(0, '.'); "
                "runpy.run_module('localcloud.orphans', run_name='__main__')"
            ),
        ],
        cwd=ROOT,
        env={"DROPLENS_LOCAL": str(cloud.folder / "local"), "DROPLENS_PORT": str(cloud.port)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert before_anything_is_installed.returncode == 1
    assert f"kill {guard}" in before_anything_is_installed.stderr
    running = descendants(guard)
    os.kill(guard, signal.SIGTERM)
    eventually("all processes end", lambda: not [pid for pid in running if is_alive(pid)])
    shutil.rmtree(cloud.folder / "local" / "cloud", ignore_errors=True)
    cloud.up()


@pytest.mark.parametrize("victim", ["server", "guard"])
def test_nothing_is_left_when_one_of_its_processes_is_killed(
    new_cloud: Callable[[], Cloud], victim: str
) -> None:
    cloud = new_cloud()
    cloud.up()
    everything_running(cloud)
    running = descendants(cloud.pids()["guard"])
    os.kill(cloud.pids()[victim], signal.SIGKILL)
    eventually("all processes end", lambda: not [pid for pid in running if is_alive(pid)])
    assert "down" in cloud.cli("status").stdout
    cloud.up()


def test_up_is_idempotent_and_status_tells_it(new_cloud: Callable[[], Cloud]) -> None:
    cloud = new_cloud()
    status = cloud.cli("status")
    assert (status.returncode, status.stdout.startswith("down")) == (1, True)
    cloud.up()
    guard = cloud.pids()["guard"]
    again = cloud.cli("up")
    assert "already" in again.stdout
    assert again.stdout.count("\n") == 1
    assert f"http://127.0.0.1:{cloud.port}" in again.stdout
    assert cloud.pids()["guard"] == guard
    assert "healthy" in cloud.cli("status").stdout


def test_up_restarts_a_cloud_that_other_code_has_started(new_cloud: Callable[[], Cloud]) -> None:
    cloud = new_cloud()
    cloud.up()
    cloud.client("s3").create_bucket(Bucket="kept")
    assert "already" in cloud.cli("up").stdout
    before = cloud.pids()
    (cloud.folder / "local" / "cloud" / "version").write_text("another")
    shown = cloud.cli("up").stdout
    assert "another version of its code: restarting it" in shown
    assert "local cloud up in" in shown
    assert cloud.pids()["server"] != before["server"]
    assert "kept" in [one["Name"] for one in cloud.client("s3").list_buckets()["Buckets"]]
    assert "already" in cloud.cli("up").stdout


def test_two_ups_at_once_start_one_cloud(new_cloud: Callable[[], Cloud]) -> None:
    cloud = new_cloud()
    with ThreadPoolExecutor() as together:
        results = list(together.map(lambda _: cloud.cli("up"), range(3)))
    assert [result.returncode for result in results] == [0, 0, 0], results
    assert sum("already" in result.stdout for result in results) == 2


def test_up_names_the_reason_when_it_cannot(new_cloud: Callable[[], Cloud]) -> None:
    cloud = new_cloud()
    with socket.socket() as other:
        other.bind(("127.0.0.1", cloud.port))
        other.listen()
        taken = cloud.cli("up")
    assert taken.returncode == 1
    assert f"port {cloud.port} on 127.0.0.1 is used by process {os.getpid()}" in taken.stderr
    assert "DROPLENS_PORT" in taken.stderr
    missing = cloud.cli("up", DROPLENS_LAMBDA_PYTHON="no/such/python")
    assert missing.returncode == 1
    assert "no/such/python is missing" in missing.stderr
    assert "is not a TCP port" in cloud.cli("up", DROPLENS_PORT="http").stderr


def test_logs_show_what_functions_and_jobs_said(new_cloud: Callable[[], Cloud]) -> None:
    cloud = new_cloud()
    refused = cloud.cli("logs")
    assert refused.returncode == 1
    assert "the cloud is down" in refused.stderr
    cloud.up()
    jobs = Jobs(cloud)
    jobs.wait(jobs.submit(jobs.define("talker", containerProperties={"command": ["hello"]})))
    cloud.function("speaker", "def handler(event, context): print('a picture was', 'answered')")
    cloud.invoke("speaker")
    topic = cloud.client("sns").create_topic(Name="failures")["TopicArn"]
    cloud.client("sns").publish(TopicArn=topic, Subject="A run failed", Message="no pictures")
    eventually("the notification", lambda: "A run failed" in cloud.cli("logs").stdout)
    shown = cloud.cli("logs").stdout
    assert 'job talker | arguments ["hello"]' in shown
    assert "speaker | a picture was answered" in shown
    assert "failures | no pictures" in shown
    assert "START RequestId" not in shown
    only = cloud.cli("logs", "talker").stdout
    assert "arguments" in only
    assert "speaker" not in only
    assert "no log has 'nobody'" in cloud.cli("logs", "nobody").stderr


def test_two_clouds_know_nothing_of_each_other(
    cloud: Cloud, new_cloud: Callable[[], Cloud]
) -> None:
    other = new_cloud()
    other.up()
    other.bucket("only-here")
    names = [b["Name"] for b in cloud.client("s3").list_buckets()["Buckets"]]
    assert "only-here" not in names
    other.down()
    assert "healthy" in cloud.cli("status").stdout


def test_env_prints_what_a_client_needs(new_cloud: Callable[[], Cloud]) -> None:
    cloud = new_cloud()
    cloud.port = free_port()
    lines = dict(
        line.removeprefix("export ").split("=", 1) for line in cloud.cli("env").stdout.splitlines()
    )
    assert lines["AWS_ENDPOINT_URL"] == f"http://127.0.0.1:{cloud.port}"
    assert lines["SAM_CLI_TELEMETRY"] == "0"
    assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"} <= lines.keys()
