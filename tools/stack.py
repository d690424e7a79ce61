"""A deployed stack, for commands: its outputs, clients and functions.

Every such command works on the account whose answers `make deploy` saved, or, without that file,
on the stack "droplens" in the cloud that the environment names: the local one.
"""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from tools.account import Saved
from tools.aws_errors import explained

LOCAL_STACK = "droplens"


class Stack:
    """One stack. config: the saved answers; None: the local cloud's stack.

    Raises SystemExit, in a sentence, where there is no such stack.
    """

    def __init__(self, config: Path | None) -> None:
        saved = Saved(config) if config else None
        if saved is not None and saved.stack is None:
            raise SystemExit(
                f"{config} names no stack: `make deploy` saves its answers there. "
                "For the local cloud, the same command ends in -local"
            )
        self.name: str = (saved and saved.stack) or LOCAL_STACK
        self._local = saved is None
        self.session = boto3.Session(**(saved.session_options if saved else {}))
        try:
            described = self.client("cloudformation").describe_stacks(StackName=self.name)
        except ClientError as error:
            if "does not exist" not in str(error):
                raise
            raise SystemExit(
                f"there is no stack {self.name}: `{self.command('deploy')}` creates it"
            ) from None
        [found] = described["Stacks"]
        self.status: str = found["StackStatus"]
        self.outputs: dict[str, str] = {
            output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])
        }

    def command(self, name: str) -> str:
        """The make command of that name that works on this stack's cloud."""
        return f"make {name}{'-local' if self._local else ''}"

    def client(self, service: str) -> Any:
        """A client of the stack's account and region."""
        return self.session.client(service)  # type: ignore[call-overload]

    def output(self, key: str) -> str:
        """One of the stack's outputs. Raises SystemExit where it has none of this name."""
        if key not in self.outputs:
            raise SystemExit(
                f"stack {self.name} is {self.status} and has no output {key}: wait until it is "
                "deployed, or deploy this version"
            )
        return self.outputs[key]

    @property
    def runs_table(self) -> Any:
        """The Runs table."""
        return self.session.resource("dynamodb").Table(self.output("RunsTableName"))

    def call_function(self, output: str, command: str, request: dict[str, str]) -> dict[str, Any]:
        """Invoke the function that an output names; returns its result.

        Raises SystemExit with the function's message where it fails.
        """
        response = self.client("lambda").invoke(
            FunctionName=self.output(output), Payload=json.dumps(request)
        )
        result: dict[str, Any] = json.loads(response["Payload"].read())
        if "FunctionError" in response:
            raise SystemExit(
                f"{command}: {result.get('errorMessage', result)}\n"
                f"`{self.command('status')}` shows the classifiers and their runs"
            )
        return result


@contextmanager
def errors_explained(*more: str) -> Iterator[None]:
    """End the command with an explanation of an error of AWS or the network, and with `more`."""
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise SystemExit("\n".join([*explained(error), *more])) from None


def parser(description: str) -> argparse.ArgumentParser:
    """The parser of a command on one classifier, with its name and the saved answers."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("classifier")
    made.add_argument("--config", type=Path)
    return made
