"""A local cloud with a small stack: the bucket and the tables of the template, and no function."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samtranslator.yaml_helper import yaml_parse

from benchmarks.harness import ROOT
from droplens.aws.s3 import Bucket
from droplens.state.reviews import Reviews
from droplens_cli.session import session_of
from droplens_cli.stack import Stack
from droplens_cli.target import Target
from localcloud.ports import free_port

CLOUD_PYTHON = ROOT / ".local" / "venv" / "cloud" / "bin" / "python"


_OF_TABLES = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")


def _small_template() -> dict[str, Any]:
    whole = yaml_parse((ROOT / "template.yaml").read_text("utf-8"))["Resources"]

    def table(name: str) -> dict[str, Any]:
        properties = whole[name]["Properties"]
        return {
            "Type": "AWS::DynamoDB::Table",
            "Properties": {one: properties[one] for one in _OF_TABLES if one in properties},
        }

    bucket = {"VersioningConfiguration": {"Status": "Enabled"}}
    return {
        "Resources": {
            "Bucket": {"Type": "AWS::S3::Bucket", "Properties": bucket},
            "Runs": table("Runs"),
            "Reviews": table("Reviews"),
        },
        "Outputs": {
            "BucketName": {"Value": {"Ref": "Bucket"}},
            "RunsTableName": {"Value": {"Ref": "Runs"}},
            "ReviewsTableName": {"Value": {"Ref": "Reviews"}},
        },
    }


@dataclass(frozen=True)
class Served:
    """The stack, and the address of its console with the token."""

    stack: Stack
    target: Target
    folder: Path
    environment: dict[str, str]

    @property
    def bucket(self) -> Bucket:
        """The stack's bucket."""
        return self.stack.bucket

    def reviews(self) -> Reviews:
        """Its table of reviews."""
        make: Any = self.stack.session.resource
        table = make("dynamodb").Table(self.stack.output("ReviewsTableName"))
        return Reviews(table, self.stack.bucket)

    @contextmanager
    def console(self) -> Iterator[str]:
        """The command `droplens console`; yields the address that it prints."""
        command = [sys.executable, "-m", "droplens_cli", "console", "--no-browser"]
        with subprocess.Popen(
            command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            try:
                yield next(line.strip() for line in process.stdout if "/enter?token=" in line)
            finally:
                process.terminate()


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    """A local cloud in `folder`, with the stack; it is down again afterwards."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    target = Target(folder=str(folder / "local"), port=free_port())
    environment = {
        **kept,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "layers" / "droplens")]),
        "DROPLENS_LOCAL": target.folder,
        "DROPLENS_PORT": str(target.port),
        "DROPLENS_TARGET": str(folder / "target.toml"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    lines = [
        f"{name} = {json.dumps(getattr(target, name))}\n" for name in ("stack", "folder", "port")
    ]
    (folder / "target.toml").write_text("".join(lines), "utf-8")

    def localcloud(word: str) -> None:
        subprocess.run(
            [str(CLOUD_PYTHON), "-m", "localcloud", word],
            cwd=ROOT,
            env=environment,
            check=True,
            capture_output=True,
        )

    localcloud("up")
    try:
        session = session_of(target)
        formation: Any = session.client("cloudformation")
        formation.create_stack(StackName=target.stack, TemplateBody=json.dumps(_small_template()))
        formation.get_waiter("stack_create_complete").wait(
            StackName=target.stack, WaiterConfig={"Delay": 1}
        )
        yield Served(Stack(target), target, folder, environment)
    finally:
        localcloud("down")
