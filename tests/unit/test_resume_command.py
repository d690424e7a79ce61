"""`make resume` asks the stack's function once, and says where the run goes on."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3
import pytest

from tools import resume


class Functions:
    """CloudFormation and Lambda, with one answer."""

    def __init__(self, answer: dict[str, Any], stack: str = "droplens") -> None:
        self.answer, self.stack = answer, stack
        self.asked: list[dict[str, Any]] = []

    def describe_stacks(self, StackName: str) -> dict[str, Any]:  # noqa: N803  boto3's name
        assert StackName == self.stack
        output = {"OutputKey": "ResumeFunctionName", "OutputValue": "droplens-resume-runs"}
        return {"Stacks": [{"Outputs": [output]}]}

    def invoke(self, **request: Any) -> dict[str, Any]:
        assert request["FunctionName"] == "droplens-resume-runs"
        self.asked.append(json.loads(request["Payload"]))
        failed = {"FunctionError": "Unhandled"} if "errorMessage" in self.answer else {}
        return {"Payload": BytesIO(json.dumps(self.answer).encode()), **failed}


TAKEN_UP = {"run": {"classifier": "cars", "run_id": "20261122-120000-1a2b3c"}, "stage": "deploy"}


@pytest.mark.parametrize("run", [None, "20261122-120000-1a2b3c"])
def test_it_names_the_run_and_the_stage(
    run: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    functions = Functions(TAKEN_UP)
    monkeypatch.setattr(boto3.Session, "client", lambda *_: functions)
    resume.main(["cars", *(["--run", run] if run else [])])
    assert functions.asked == [{"classifier": "cars"} | ({"run_id": run} if run else {})]
    said = capsys.readouterr().out
    assert said.startswith("cars: run 20261122-120000-1a2b3c is tried again from stage deploy")


def test_a_refusal_is_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = Functions({"errorMessage": "run 20261122 does not wait: it is live"})
    monkeypatch.setattr(boto3.Session, "client", lambda *_: refused)
    with pytest.raises(SystemExit, match="resume: run 20261122 does not wait: it is live"):
        resume.main(["cars"])


def test_the_stack_is_the_one_of_the_saved_answers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "samconfig.account.toml"
    config.write_text('[default.deploy.parameters]\nstack_name = "mine"\n')
    functions = Functions(TAKEN_UP, stack="mine")
    monkeypatch.setattr(boto3.Session, "client", lambda *_: functions)
    resume.main(["cars", "--config", str(config)])
    assert functions.asked == [{"classifier": "cars"}]
