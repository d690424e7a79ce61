"""The functions of a stack that people call: found by the stack's outputs, and asked once."""

import argparse
import json
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from tools.account import Saved, explained

STACK = "droplens"


class StackFunction:
    """One function of a stack. output: the stack's output that names it.

    config: the file in which `make deploy` keeps its answers; None: the stack "droplens" of
    the account and endpoint that the environment names. Raises SystemExit, with what is wrong in
    words, where there is no stack or no answer.
    """

    def __init__(self, output: str, config: Path | None) -> None:
        saved = Saved(config) if config else None
        stack = (saved and saved.stack) or STACK
        try:
            session = boto3.Session(**(saved.session_options if saved else {}))
            [found] = session.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        except (BotoCoreError, ClientError) as error:
            raise SystemExit("\n".join(explained(error))) from None
        outputs = {entry["OutputKey"]: entry["OutputValue"] for entry in found["Outputs"]}
        self.name: str = outputs[output]
        self._lambda: Any = session.client("lambda")

    def ask(self, command: str, request: dict[str, str]) -> dict[str, Any]:
        """Call it, and wait. Raises SystemExit with its words where it refuses."""
        try:
            answer = self._lambda.invoke(FunctionName=self.name, Payload=json.dumps(request))
        except (BotoCoreError, ClientError) as error:
            raise SystemExit("\n".join(explained(error))) from None
        said: dict[str, Any] = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise SystemExit(f"{command}: {said.get('errorMessage', said)}")
        return said


def parser(description: str) -> argparse.ArgumentParser:
    """What such a command is given: a classifier, and the stack's CONFIG."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("classifier")
    made.add_argument("--config", type=Path)
    return made
