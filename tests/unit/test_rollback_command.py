"""`make rollback` asks the stack's function until the earlier model answers."""

import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

import boto3
import pytest

from tools import rollback


class Functions:
    """Lambda, answering with these in turn."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    def describe_stacks(self, StackName: str) -> dict[str, Any]:  # noqa: N803  boto3's name
        assert StackName == "droplens"
        output = {"OutputKey": "RollbackFunctionName", "OutputValue": "droplens-rollback"}
        return {"Stacks": [{"Outputs": [output]}]}

    def invoke(self, **request: Any) -> dict[str, Any]:
        assert request["FunctionName"] == "droplens-rollback"
        self.asked.append(json.loads(request["Payload"]))
        answer = self.answers.pop(0)
        failed = {"FunctionError": "Unhandled"} if "errorMessage" in answer else {}
        return {"Payload": BytesIO(json.dumps(answer).encode()), **failed}


def said(status: str) -> dict[str, Any]:
    return {"run": {"classifier": "cars", "run_id": "20261122-120000-1a2b3c"}, "status": status}


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Functions]:
    """Puts a Lambda with the given answers in place."""

    def put(*answers: dict[str, Any]) -> Functions:
        functions = Functions(*answers)
        monkeypatch.setattr(boto3.Session, "client", lambda *_: functions)
        monkeypatch.setattr(rollback, "ASK_AGAIN_SECONDS", 0)
        return functions

    return put


def test_it_is_asked_once_where_the_endpoint_serves(
    answering: Callable[..., Functions], capsys: pytest.CaptureFixture[str]
) -> None:
    functions = answering(said("live"))
    rollback.main(["cars"])
    assert functions.asked == [{"classifier": "cars"}]
    assert capsys.readouterr().out == "cars: run 20261122-120000-1a2b3c is live\n"


def test_while_the_endpoint_is_made_it_is_asked_for_the_same_run(
    answering: Callable[..., Functions],
) -> None:
    functions = answering(said("restoring"), said("restoring"), said("live"))
    rollback.main(["cars", "--reclassify", "all"])
    again = {"classifier": "cars", "reclassify": "all", "run_id": "20261122-120000-1a2b3c"}
    assert functions.asked == [{"classifier": "cars", "reclassify": "all"}, again, again]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"errorMessage": "cars has no live model"}, "cars has no live model"),
        (said("replaced"), "1"),
    ],
)
def test_a_rollback_that_came_to_nothing_fails(
    answering: Callable[..., Functions], answer: dict[str, Any], words: str
) -> None:
    answering(answer)
    with pytest.raises(SystemExit, match=words):
        rollback.main(["cars", "--run", "20261122-120000-1a2b3c"])
