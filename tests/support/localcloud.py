"""A second local cloud for tests: its own port, state and images, and two tiny containers."""

import io
import json
import os
import subprocess
import textwrap
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import boto3
from botocore.config import Config

from localcloud.ports import free_port
from tests.support.repository import ROOT

REGION, ACCOUNT = "us-east-1", "000000000000"
T = TypeVar("T")
CLOUD_PYTHON = Path(
    os.environ.get("DROPLENS_CLOUD_PYTHON", ROOT / ".local" / "venv" / "cloud" / "bin" / "python")
)

DOCKERFILE = """\
FROM python:3.13-slim
ENV PYTHONUNBUFFERED=1 PROGRAM_HOME=/opt/program
WORKDIR /opt/program
COPY {folder}/program.py {folder}/
USER 1000
ENTRYPOINT ["python", "-m", "{folder}.program"]
"""

# A job that prints, sleeps, exits and starts children as its arguments and environment say.
JOB = """
    import json, os, subprocess, sys, time
    if sys.argv[1:2] == ["environment"]:
        print("ENVIRONMENT " + json.dumps(dict(os.environ)))
    elif sys.argv[1:2] == ["sleep"]:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print("CHILD", child.pid)
        time.sleep(600)
    elif sys.argv[1:2] == ["fail-once"]:
        attempt = os.environ["AWS_BATCH_JOB_ATTEMPT"]
        print("attempt", attempt)
        sys.exit(3 if attempt == "1" else 0)
    elif sys.argv[1:2] == ["shard"]:
        # A child of an array: how long it takes and how each attempt ends, by its index.
        index = os.environ["AWS_BATCH_JOB_ARRAY_INDEX"]
        attempt = os.environ["AWS_BATCH_JOB_ATTEMPT"]
        print("shard", index, "of", os.environ["AWS_BATCH_JOB_ARRAY_SIZE"])
        wanted = json.loads(sys.argv[2]).get(index, {})
        time.sleep(wanted.get("seconds", 0))
        codes = wanted.get("codes", [0])
        sys.exit(codes[min(int(attempt), len(codes)) - 1])
    else:
        print("arguments", json.dumps(sys.argv[1:]))
        sys.exit(int(os.environ.get("EXIT_CODE", "0")))
"""

# A trainer whose model is its hyperparameters, and a server that returns them.
MODEL = """
    import json, os, sys, time
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from pathlib import Path
    base = Path(os.environ["SAGEMAKER_BASE_DIR"])

    def train():
        wanted = json.loads((base / "input/config/hyperparameters.json").read_text())
        data = {p.relative_to(base / "input/data").as_posix(): p.read_text()
                for p in sorted((base / "input/data").rglob("*")) if p.is_file()}
        print("data", json.dumps(data))
        for epoch, accuracy in enumerate((0.25, 0.75)):
            print(f"Epoch[{epoch}] Validation-accuracy={accuracy}")
        if wanted.get("fail"):
            (base / "output/failure").write_text(wanted["fail"])
            sys.exit(1)
        (base / "model/model.json").write_text(json.dumps(wanted))
        if wanted.get("sleep"):
            print("CHILD", os.getpid())
            time.sleep(float(wanted["sleep"]))

    class Server(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        model = {}

        def answer(self, status, body, kind="application/json"):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            self.answer(200, b"")

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if body == b"die":
                os._exit(9)
            if body.startswith(b"bad"):
                return self.answer(400, b'{"error": "bad picture"}')
            said = {"bytes": len(body), "type": self.headers["Content-Type"], "pid": os.getpid(),
                    "accept": self.headers["Accept"], "model": self.model}
            self.answer(200, json.dumps(said).encode())

    if sys.argv[1:] == ["train"]:
        train()
    else:
        Server.model = json.loads((base / "model/model.json").read_text())
        if Server.model.get("broken"):
            sys.exit("the weights are broken")
        port = int(os.environ["SAGEMAKER_BIND_TO_PORT"])
        address = (os.environ.get("SERVE_HOST", "0.0.0.0"), port)
        print("serving on", address)
        ThreadingHTTPServer(address, Server).serve_forever()
"""


def write_container(context: Path, folder: str, program: str) -> None:
    home = context / folder
    home.mkdir(parents=True)
    (home / "Dockerfile").write_text(DOCKERFILE.format(folder=folder))
    (home / "program.py").write_text(textwrap.dedent(program))


def image(name: str) -> str:
    return f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/test/{name}:latest"


def eventually(what: str, look: Callable[[], T | None], *, within: float = 20.0) -> T:
    """The first true value of `look`; fails, with what was awaited, after a timeout."""
    until = time.monotonic() + within
    while not (found := look()):
        assert time.monotonic() < until, f"{what} did not happen within {within} s"
        time.sleep(0.05)
    return found


@dataclass
class Cloud:
    """A local cloud that a test may start and stop; made by the fixtures in conftest.py."""

    folder: Path
    images: Path
    port: int = field(default_factory=free_port)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "DROPLENS_PORT": str(self.port),
            "DROPLENS_LOCAL": str(self.folder / "local"),
            "DROPLENS_CONTEXT": str(self.folder / "context"),
            "DROPLENS_IMAGES": str(self.images),
        }

    @cached_property
    def keys(self) -> dict[str, str]:
        """What `localcloud env` prints for clients."""
        printed = self.cli("env").stdout.splitlines()
        return dict(line.removeprefix("export ").split("=", 1) for line in printed)

    def cli(self, *arguments: str, **extra: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(CLOUD_PYTHON), "-m", "localcloud", *arguments],
            cwd=ROOT,
            env={**self.environment, **extra},
            text=True,
            capture_output=True,
            timeout=120,
        )

    def up(self, **extra: str) -> None:
        result = self.cli("up", **extra)
        assert result.returncode == 0, result.stderr

    def down(self) -> None:
        result = self.cli("down")
        assert result.returncode == 0, result.stderr

    def quotas(self, *changes: str) -> str:
        """List the account's quotas, or change them."""
        result = self.cli("quotas", *changes)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def pids(self) -> dict[str, int]:
        return json.loads((self.folder / "local/cloud/pids.json").read_text())

    def client(self, service: str) -> Any:
        connect: Any = boto3.client  # typed for names that are written out only
        return connect(
            service,
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name=REGION,
            aws_access_key_id=self.keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.keys["AWS_SECRET_ACCESS_KEY"],
            config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}),
        )

    # ---- what nearly every test needs in the account

    def bucket(self, name: str) -> str:
        self.client("s3").create_bucket(Bucket=name)
        return name

    def role(self, name: str, service: str) -> str:
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": service},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"aws:SourceAccount": ACCOUNT}},
        }
        document = {"Version": "2012-10-17", "Statement": [statement]}
        created = self.client("iam").create_role(
            RoleName=name, AssumeRolePolicyDocument=json.dumps(document)
        )
        return created["Role"]["Arn"]

    def function(self, name: str, code: str, **changes: Any) -> str:
        """A function of one file; its handler is `handler`."""
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as content:
            content.writestr("app.py", code)
        role = f"{name}-role"
        request = {
            "FunctionName": name,
            "Runtime": "python3.11",
            "Role": self.role(role, "lambda.amazonaws.com"),
            "Handler": "app.handler",
            "Code": {"ZipFile": archive.getvalue()},
            **changes,
        }
        return str(self.client("lambda").create_function(**request)["FunctionArn"])

    def invoke(self, name: str, event: Mapping[str, Any] | None = None) -> Any:
        answer = self.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event or {}))
        content = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, content
        return content

    def queue_of_events(self, name: str, pattern: Mapping[str, Any]) -> Callable[[], list[dict]]:
        """A queue fed by an EventBridge rule -> a function that gives all events so far."""
        sqs, rules = self.client("sqs"), self.client("events")
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
        rules.put_rule(Name=name, EventPattern=json.dumps(pattern))
        target = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"
        rules.put_targets(Rule=name, Targets=[{"Id": "q", "Arn": target}])
        events: list[dict] = []

        def read() -> list[dict]:
            while got := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
                for message in got:
                    events.append(json.loads(message["Body"]))
                    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            return events

        return read

    def log_lines(self, group: str, part_of_stream: str = "") -> list[str]:
        logs = self.client("logs")
        try:
            streams = logs.describe_log_streams(logGroupName=group)["logStreams"]
        except logs.exceptions.ResourceNotFoundException:
            return []
        lines = []
        for stream in streams:
            if part_of_stream in stream["logStreamName"]:
                page = logs.get_log_events(
                    logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True
                )
                lines += [event["message"] for event in page["events"]]
        return lines


def listeners(pids: set[int]) -> dict[str, str]:
    """Address -> inode of the TCP sockets on which one of the processes listens (Linux)."""
    inodes = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inodes.add(str(descriptor.readlink()))
            except FileNotFoundError:
                continue
    found = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                found[fields[1]] = fields[9]
    return found


def descendants(pid: int) -> set[int]:
    """The process and all below it (Linux)."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] != "Z":
            parents.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found, waiting = set(), [pid]
    while waiting:
        current = waiting.pop()
        found.add(current)
        waiting += parents.get(current, [])
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
