"""make check-template refuses what it is there for: each of its checkers finds its own fault."""

import os
import subprocess
from pathlib import Path

import pytest

FAULTY = """\
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Resources:
  Open:
    Type: AWS::S3::Bucket
    Properties: {AccessControl: PublicRead}
  Queue:
    Type: AWS::SQS::Queue
    Properties: {VisibilityTimeout: 30}
  Function:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: app.handler
      CodeUri: functions/
      Timeout: 60
      Policies:
        - Version: "2012-10-17"
          Statement: [{Effect: Allow, Action: s3:GetObjekt, Resource: !GetAtt Open.Arn}]
      Events:
        Waiting:
          Type: SQS
          Properties: {Queue: !GetAtt Queue.Arn}
"""
FINDINGS = {
    "cfn-lint-serverless on the template": "ES6000",  # a queue without a dead-letter queue
    "cfn-lint on the expansion": "W3037",  # an action that is none
    "checkov on the expansion": "CKV_AWS_20",  # a bucket that everybody reads
}


@pytest.fixture(scope="module")
def said(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the checks print of the faulty template."""
    template = tmp_path_factory.mktemp("checks") / "faulty.yaml"
    template.write_text(FAULTY, "utf-8")
    checks = subprocess.run(
        ["make", "check-template", f"TEMPLATE={template}"],
        cwd=repo_root,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checks.returncode == 2, checks.stderr
    assert "no findings" not in checks.stdout
    return checks.stdout + checks.stderr


@pytest.mark.parametrize("checker", FINDINGS)
def test_each_finds_its_fault(said: str, checker: str) -> None:
    assert FINDINGS[checker] in said, said
