"""A deployed stack, for commands: its outputs, parameters, clients and functions."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from droplens.aws.s3 import Bucket
from droplens.domain.run import Run
from droplens.state.reviews import Reviews
from droplens_cli.errors import CommandError, ExitCode
from droplens_cli.session import CONFIG, session_of
from droplens_cli.target import Target


class Stack:
    """The stack of a target. Raises CommandError where there is no such stack."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.name = target.stack
        self.session = session_of(target)
        try:
            described = self.client("cloudformation").describe_stacks(StackName=self.name)
        except ClientError as error:
            if "does not exist" not in str(error):
                raise
            deploy = "make deploy-local" if target.is_local else "make deploy"
            raise CommandError(
                f"there is no stack {self.name}: `{deploy}` creates it",
                f"the target is {target}; `droplens target` names another",
                ExitCode.NO_TARGET,
            ) from None
        [found] = described["Stacks"]
        self.status: str = found["StackStatus"]
        self.outputs: dict[str, str] = {
            output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])
        }
        self.parameters: dict[str, str] = {
            one["ParameterKey"]: one["ParameterValue"] for one in found.get("Parameters", [])
        }

    def command(self, name: str) -> str:
        """The command of that name that works on this stack's cloud."""
        return self.target.command(name)

    def client(self, service: str) -> Any:
        """A client of the stack's account and region."""
        make: Any = self.session.client
        return make(service, config=CONFIG)

    def output(self, key: str) -> str:
        """One of the stack's outputs. Raises CommandError where it has none of this name."""
        if key not in self.outputs:
            raise CommandError(
                f"stack {self.name} is {self.status} and has no output {key}",
                "wait until it is deployed, or deploy this version",
                ExitCode.NO_TARGET,
            )
        return self.outputs[key]

    @property
    def bucket(self) -> Bucket:
        """The stack's bucket, with a client of its own."""
        return Bucket(self.client("s3"), self.output("BucketName"))

    @property
    def runs_table(self) -> Any:
        """The Runs table."""
        return self.table("RunsTableName")

    @property
    def reviews(self) -> Reviews | None:
        """The Reviews table; None where an earlier version deployed the stack."""
        if "ReviewsTableName" not in self.outputs:
            return None
        return Reviews(self.table("ReviewsTableName"), self.bucket)

    def table(self, output: str) -> Any:
        """The table that an output names."""
        make: Any = self.session.resource
        return make("dynamodb", config=CONFIG).Table(self.output(output))

    def run_items(self) -> Iterator[Mapping[str, Any]]:
        """The items of all runs of all classifiers."""
        table, more = self.runs_table, dict[str, Any]()
        while True:
            page = table.scan(ConsistentRead=True, **more)
            yield from page["Items"]
            if "LastEvaluatedKey" not in page:
                return
            more = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def all_runs(self) -> list[Run]:
        """All runs of all classifiers."""
        return [Run.from_record(item) for item in self.run_items()]

    def call_function(self, output: str, command: str, request: dict[str, str]) -> dict[str, Any]:
        """Invoke the function that an output names; returns its result.

        Raises CommandError with the function's message where it fails.
        """
        response = self.client("lambda").invoke(
            FunctionName=self.output(output), Payload=json.dumps(request)
        )
        result: dict[str, Any] = json.loads(response["Payload"].read())
        if "FunctionError" in response:
            raise CommandError(
                f"{command}: {result.get('errorMessage', result)}",
                f"`{self.command('status')}` shows the classifiers and their runs",
            )
        return result
