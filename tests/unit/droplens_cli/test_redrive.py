"""`make redrive` has SQS move what lies in the dead-letter queue of pictures, and says how much."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from moto import mock_aws

from droplens_cli.errors import CommandError
from droplens_cli.stack import Stack
from tests.support.command import run
from tests.support.deployed_stack import Deployed, deployed  # noqa: F401  a fixture


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The requests to move messages, which moto does not know; all others reach it."""
    requests: list[dict[str, Any]] = []
    client = Stack.client

    def answered(params: dict[str, Any], **_: object) -> tuple[SimpleNamespace, dict[str, str]]:
        requests.append(json.loads(params["body"]))
        return SimpleNamespace(status_code=200), {"TaskHandle": "handle"}

    def watched(stack: Stack, service: str) -> Any:
        made = client(stack, service)
        made.meta.events.register("before-call.sqs.StartMessageMoveTask", answered)
        return made

    monkeypatch.setattr(Stack, "client", watched)
    return requests


def test_what_was_given_up_is_moved_and_counted(
    deployed: Deployed,  # noqa: F811
    moved: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = deployed.outputs["PictureDlqUrl"]
    for number in range(3):
        deployed.sqs.send_message(QueueUrl=url, MessageBody=f"picture {number}")
    deployed.sqs.send_message(QueueUrl=deployed.outputs["EventDlqUrl"], MessageBody="an event")
    run("redrive")
    name = url.rpartition("/")[2]
    assert moved == [{"SourceArn": f"arn:aws:sqs:us-east-1:123456789012:{name}"}]
    assert capsys.readouterr().out == "Pictures sent back from the dead-letter queue: 3\n"


def test_an_empty_queue_is_left_alone(
    deployed: Deployed,  # noqa: F811
    moved: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run("redrive")
    assert moved == []
    assert capsys.readouterr().out == "Dead-letter queue is empty\n"


def test_the_stack_is_the_one_of_the_saved_answers(
    moved: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "samconfig.account.toml"
    config.write_text('[default.deploy.parameters]\nstack_name = "mine"\n')
    with mock_aws():
        mine = Deployed(monkeypatch, "mine")
        mine.sqs.send_message(QueueUrl=mine.outputs["PictureDlqUrl"], MessageBody="picture")
        run("redrive", target=("--config", str(config)))
        assert len(moved) == 1
        with pytest.raises(CommandError, match="there is no stack droplens: `make deploy`"):
            run("redrive")
