"""The functions of a stack that people call: found by the stack's outputs, and asked once."""

import argparse
import json
from pathlib import Path
from typing import Any

import boto3

from tools.account import Saved

STACK = "droplens"


class StackFunction:
    """One function of a stack. output: the stack's output that names it.

    config: the file in which `make deploy` keeps its answers; None: the stack "droplens" of
    the account and endpoint that the environment names.
    """

    def __init__(self, output: str, config: Path | None) -> None:
        saved = Saved(config) if config else None
        session = boto3.Session(**(saved.session_options if saved else {}))
        stack = (saved and saved.stack) or STACK
        [found] = session.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        outputs = {entry["OutputKey"]: entry["OutputValue"] for entry in found["Outputs"]}
        self.name: str = outputs[output]
        self._lambda: Any = session.client("lambda")

    def ask(self, command: str, request: dict[str, str]) -> dict[str, Any]:
        """Call it, and wait. Raises SystemExit with its words where it refuses."""
        answer = self._lambda.invoke(FunctionName=self.name, Payload=json.dumps(request))
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
