"""Events as AWS publishes them, and the small rules of Batch and of the log view."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from localcloud.batch.jobs import _retries
from localcloud.batch.service import _container
from localcloud.emulator import events
from localcloud.emulator.service import ServiceError
from localcloud.emulator.state import State
from localcloud.logs import readable
from localcloud.sagemaker.training import _failure_reason, _Metrics
from localcloud.settings import LocalCloudError, Settings, build_environment

ARN = "arn:aws:sagemaker:us-east-1:000000000000:"


def test_an_endpoints_status_is_written_as_eventbridge_has_it() -> None:
    endpoint = {
        "EndpointName": "e",
        "EndpointArn": f"{ARN}endpoint/e",
        "EndpointConfigName": "c",
        "CreationTime": 1583831889.05,
        "LastModifiedTime": 1583831889.05,
        "FailureReason": "not in the event",
        "_model": {"not": "in it either"},
    }
    shown = {
        status: events.endpoint_changed({**endpoint, "EndpointStatus": status}, []).detail
        for status in ("InService", "Failed", "Deleting", "RollingBack")
    }
    assert [detail["EndpointStatus"] for detail in shown.values()] == [
        "IN_SERVICE", "FAILED", "DELETING", "ROLLING_BACK",
    ]  # fmt: skip
    assert shown["Failed"].keys() == {
        "EndpointName", "EndpointArn", "EndpointConfigName", "ProductionVariants",
        "EndpointStatus", "CreationTime", "LastModifiedTime", "Tags",
    }  # fmt: skip
    assert shown["Failed"]["CreationTime"] == 1583831889050.0


def test_a_training_jobs_times_are_text() -> None:
    job = {
        "TrainingJobName": "t",
        "TrainingJobArn": f"{ARN}training-job/t",
        "TrainingJobStatus": "Failed",
        "SecondaryStatus": "Failed",
        "FailureReason": "AlgorithmError: why",
        "CreationTime": 1583831889.05,
        "LastModifiedTime": 1583831889.05,
        "SecondaryStatusTransitions": [{"Status": "Starting", "StartTime": 1583831889.05}],
        "ModelArtifacts": {"S3ModelArtifacts": "only DescribeTrainingJob tells"},
    }
    event = events.training_job_changed(job, [{"Key": "run", "Value": "r1"}])
    assert event.resource == job["TrainingJobArn"]
    assert event.detail["CreationTime"] == "1583831889050"
    assert event.detail["SecondaryStatusTransitions"][0]["StartTime"] == 1583831889050
    assert event.detail["FailureReason"] == "AlgorithmError: why"
    assert event.detail["Tags"] == {"run": "r1"}
    assert "ModelArtifacts" not in event.detail
    json.dumps(event.detail)


@pytest.mark.parametrize(
    ("rules", "code", "again"),
    [
        ([], 1, True),
        ([{"onExitCode": "1", "action": "EXIT"}], 1, False),
        ([{"onExitCode": "1", "action": "exit"}], 2, True),
        (
            [{"onExitCode": "13*", "action": "RETRY"}, {"onReason": "*", "action": "EXIT"}],
            137,
            True,
        ),
        ([{"onExitCode": "13*", "action": "RETRY"}, {"onReason": "*", "action": "EXIT"}], 1, False),
        ([{"onStatusReason": "Host*", "onExitCode": "1", "action": "EXIT"}], 1, True),
    ],
)
def test_the_first_exit_rule_that_matches_decides(
    rules: list[dict[str, str]], code: int, again: bool
) -> None:
    assert _retries(rules, code, "Essential container in task exited") is again


def test_overrides_replace_by_name_and_leave_the_definition_alone() -> None:
    definition = {
        "containerProperties": {
            "image": "i",
            "command": ["a"],
            "environment": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
            "resourceRequirements": [{"type": "VCPU", "value": "1"}],
        }
    }
    before = json.dumps(definition)
    made = _container(
        definition,
        {
            "command": ["b"],
            "environment": [{"name": "B", "value": "3"}],
            "resourceRequirements": [{"type": "MEMORY", "value": "2048"}],
        },
    )
    assert made["command"] == ["b"]
    assert made["environment"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}]
    assert [need["type"] for need in made["resourceRequirements"]] == ["VCPU", "MEMORY"]
    assert json.dumps(definition) == before
    with pytest.raises(ServiceError, match="AWS_BATCH_X"):
        _container(definition, {"environment": [{"name": "AWS_BATCH_X", "value": "1"}]})


def test_a_metrics_last_number_counts() -> None:
    metrics = _Metrics([{"Name": "accuracy", "Regex": r"accuracy=(\S+)"}])
    for line in ("accuracy=0.5", "accuracy=0.75", "accuracy=nan", "accuracy=soon", "loss=1"):
        metrics.read(line)
    (final,) = metrics.final()
    assert (final["MetricName"], final["Value"]) == ("accuracy", 0.75)


def test_a_failure_reason_is_the_containers_text_within_sagemakers_limit(tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    assert "wrote no reason" in _failure_reason(tmp_path, 2)
    (tmp_path / "output/failure").write_text("x" * 5000)
    reason = _failure_reason(tmp_path, 137)
    assert len(reason) <= 1024
    assert re.fullmatch(r"AlgorithmError: x+, exit code: 137", reason)


POWERTOOLS = {
    "level": "ERROR",
    "location": "handler:12",
    "message": "run failed",
    "timestamp": "2026-01-01 00:00:00,000+0000",
    "service": "droplens",
    "function_request_id": "r",
    "run_id": "r1",
    "facts": {"a": 1},
    "exception": "Traceback:\n  ValueError",
}


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain text", ["plain text"]),
        ("two\nlines", ["two", "lines"]),
        ("START RequestId: 1 Version: $LATEST", []),
        ("REPORT RequestId: 1\tDuration: 3 ms", []),
        ('{"_aws": {"Timestamp": 1}, "answered": [1.0]}', []),
        ('{"other": "json"}', ['{"other": "json"}']),
        ("[1, 2]", ["[1, 2]"]),
        (
            json.dumps(POWERTOOLS),
            ['ERROR run failed run_id=r1 facts={"a": 1}', "Traceback:", "  ValueError"],
        ),
        ('{"level": "INFO", "message": {"a": 1}}', ['INFO {"a": 1}']),
    ],
)
def test_log_lines_are_shown_as_a_person_reads_them(line: str, shown: list[str]) -> None:
    assert readable(line) == shown


def test_state_survives_and_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "state" / "droplens.json"
    state = State(path)
    record: dict[str, Any] = {"status": "RUNNING"}
    state.table("jobs")["j"] = record
    state.save()
    record["status"] = "FAILED"
    assert State(path).table("jobs") == {"j": {"status": "RUNNING"}}
    assert [entry.name for entry in path.parent.iterdir()] == ["droplens.json"]


def test_settings_come_from_the_environment() -> None:
    settings = Settings.from_environment({"DROPLENS_LOCAL": "/x/y", "DROPLENS_PORT": "4711"})
    assert (settings.cloud, settings.url) == (Path("/x/y/cloud"), "http://127.0.0.1:4711")
    default = Settings.from_environment({})
    assert default.cloud == default.root / ".local" / "cloud"
    assert default.port == 4566
    for port in ("0", "65536", "-1", "http", ""):
        with pytest.raises(LocalCloudError, match="not a TCP port"):
            Settings.from_environment({"DROPLENS_PORT": port})


def test_only_what_reaches_a_registry_goes_to_image_builds() -> None:
    given = {
        "PIP_INDEX_URL": "1", "UV_CACHE_DIR": "2", "https_proxy": "3", "SSL_CERT_FILE": "4",
        "AWS_PROFILE": "no", "HOME": "no", "PATH": "no", "TOKEN": "no",
    }  # fmt: skip
    assert set(build_environment(given).values()) == {"1", "2", "3", "4"}
