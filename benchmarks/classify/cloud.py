"""A local cloud with the real template, and models whose answers can be foretold."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from benchmarks.classify import network
from benchmarks.harness import ROOT
from droplens.aws.s3 import Bucket
from droplens.domain.card import Measurement, ModelCard, ModelObject
from droplens.domain.naming import resource_name
from droplens.domain.run import RunKey
from droplens.imaging.prepare import Preprocessing
from droplens.state.cards import Cards
from localcloud.credentials import AccessKey, operator_key
from localcloud.ports import free_port
from localcloud.settings import ACCOUNT, HOST, REGION, Settings

CONTAINERS = Path(__file__).resolve().parent / "containers"
STACK = "droplens"
SIDE = 224
PATIENCE = 120.0


@dataclass(frozen=True)
class Cloud:
    """A running local cloud with the stack deployed. outputs: the stack's, by name."""

    folder: Path
    environment: dict[str, str]
    outputs: dict[str, str]

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{HOST}:{self.environment['DROPLENS_PORT']}"

    @property
    def operator(self) -> AccessKey:
        """What its clients sign with."""
        return operator_key(Settings.from_environment(self.environment))

    @property
    def bucket(self) -> str:
        """The stack's bucket."""
        return self.outputs["BucketName"]

    @property
    def layer(self) -> Path:
        """What the built layer puts on the functions' path."""
        return self.folder / "sam" / ".aws-sam" / "build" / "Layer" / "python"

    @property
    def inference_layer(self) -> Path:
        """What the built layer with ONNX Runtime puts there."""
        return self.layer.parent.parent / "InferenceLayer" / "python"

    @property
    def function_source(self) -> Path:
        """classify_image as it was built."""
        return self.folder / "sam" / ".aws-sam" / "build" / "ClassifyImage"

    def client(self, service: str) -> Any:
        """A boto3 client of this cloud, with connections for many threads."""
        make: Any = boto3.client
        return make(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=self.operator.key,
            aws_secret_access_key=self.operator.secret,
            config=Config(
                max_pool_connections=32,
                retries={"mode": "standard", "total_max_attempts": 8},
                s3={"addressing_style": "path"},
            ),
        )

    def localcloud(self, *words: str) -> None:
        """Run the local cloud's own command line."""
        program = ROOT / ".local" / "venv" / "cloud" / "bin" / "python"
        _checked([str(program), "-m", "localcloud", *words], self.environment)

    def function_environment(self) -> dict[str, str]:
        """The variables that classify_image is deployed with."""
        configuration = self.client("lambda").get_function_configuration(
            FunctionName=f"{STACK}-classify-image"
        )
        variables: dict[str, str] = configuration["Environment"]["Variables"]
        return variables

    def new_model(self, run: RunKey, names: Sequence[str]) -> ModelCard:
        """Serve an oracle that gives its probabilities in the order `names`; its card, not live."""
        name = resource_name(STACK, run.classifier, run.run_id)
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as content:
            text = json.dumps(list(names)).encode()
            entry = tarfile.TarInfo("classes.json")
            entry.size = len(text)
            content.addfile(entry, io.BytesIO(text))
        key = f"training/{run.classifier}/{run.run_id}/model.tar.gz"
        self.client("s3").put_object(Bucket=self.bucket, Key=key, Body=archive.getvalue())
        sagemaker = self.client("sagemaker")
        sagemaker.create_model(
            ModelName=name,
            ExecutionRoleArn=self._role(),
            PrimaryContainer={
                "Image": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{STACK}/oracle:latest",
                "ModelDataUrl": f"s3://{self.bucket}/{key}",
            },
        )
        sagemaker.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[
                {
                    "VariantName": "all",
                    "ModelName": name,
                    "InstanceType": "ml.m5.large",
                    "InitialInstanceCount": 1,
                }
            ],
        )
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)

        def serves() -> bool:
            status = sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"]
            assert status in ("Creating", "InService"), f"endpoint {name} is {status}"
            return bool(status == "InService")

        eventually(serves, f"endpoint {name}")
        return _card(run, name, names)

    def new_network(self, run: RunKey, names: Sequence[str], seed: int) -> ModelCard:
        """Publish a network for classify_image, as deploy_endpoint does with EndpointMode=lambda;
        its card, not live. seed: of its weights."""
        body = network.network(names, seed)
        model = ModelObject(
            key=f"training/{run.classifier}/{run.run_id}/output/model.onnx",
            sha256=hashlib.sha256(body).hexdigest(),
            bytes=len(body),
            height=network.SIDE,
            width=network.SIDE,
        )
        self.client("s3").put_object(Bucket=self.bucket, Key=model.key, Body=body)
        name = resource_name(STACK, run.classifier, run.run_id)
        return replace(_card(run, name, names), model=model)

    def make_live(self, card: ModelCard) -> None:
        """Promote the card as promote_endpoint does."""
        cards = Cards(Bucket(self.client("s3"), self.bucket))
        cards.keep(card)
        cards.make_live(card)

    @contextmanager
    def nobody_listening(self) -> Iterator[None]:
        """Within, pictures wait in the queue; what is still there afterwards is thrown away."""
        functions, sqs = self.client("lambda"), self.client("sqs")
        [mapping] = functions.list_event_source_mappings(FunctionName=f"{STACK}-classify-image")[
            "EventSourceMappings"
        ]
        functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
        eventually(lambda: self.waiting()[1] == 0, "the last batch under way")
        try:
            yield
        finally:
            sqs.purge_queue(QueueUrl=self.outputs["PictureQueueUrl"])
            functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)

    def waiting(self) -> tuple[int, int]:
        """Messages about pictures that wait, and that are being worked on."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.client("sqs").get_queue_attributes(
            QueueUrl=self.outputs["PictureQueueUrl"], AttributeNames=names
        )["Attributes"]
        visible, taken = (int(answer[name]) for name in names)
        return visible, taken

    def _role(self) -> str:
        iam = self.client("iam")
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "sagemaker.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
        may_read = {
            "Effect": "Allow",
            "Action": "s3:GetObject",
            "Resource": f"arn:aws:s3:::{self.bucket}/training/*",
        }
        with suppress(iam.exceptions.EntityAlreadyExistsException):
            iam.create_role(
                RoleName="oracle",
                AssumeRolePolicyDocument=json.dumps(
                    {"Version": "2012-10-17", "Statement": [statement]}
                ),
            )
        iam.put_role_policy(
            RoleName="oracle",
            PolicyName="read",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [may_read]}),
        )
        return f"arn:aws:iam::{ACCOUNT}:role/oracle"


def _card(run: RunKey, endpoint: str, names: Sequence[str]) -> ModelCard:
    return ModelCard(
        classifier=run.classifier,
        run_id=run.run_id,
        endpoint=endpoint,
        trainer="droplens",
        classes=tuple(names),
        preprocessing=Preprocessing(SIDE, SIDE),
        measured=Measurement(
            pictures=100,
            available=100,
            accuracy=1.0,
            top5=1.0,
            latency_ms_p50=1.0,
            latency_ms_p95=1.0,
        ),
        confident_from=0.5,
        promoted_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


@contextmanager
def deployed(folder: Path, **extra: str) -> Iterator[Cloud]:
    """A new local cloud in `folder`, on a port of its own, that is down again afterwards.

    extra: further variables of the local cloud, such as DROPLENS_DELIVERY.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = {
        **kept,
        "PYTHON": sys.executable,
        "DROPLENS_LOCAL": str(folder),
        "DROPLENS_PORT": str(free_port()),
        "DROPLENS_CONTEXT": str(CONTAINERS),
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        **extra,
    }
    cloud = Cloud(folder, environment, {})
    shutil.rmtree(folder / "cloud", ignore_errors=True)  # what an earlier one left behind
    try:
        cloud.localcloud("quotas", "--published")
        _checked(["make", "deploy-local"], environment)
        described = cloud.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]
        cloud.outputs.update(
            {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}
        )
        yield cloud
    finally:
        cloud.localcloud("down")


def eventually(
    look: Callable[[], bool], what: str, patience: float = PATIENCE, every: float = 0.2
) -> None:
    """Call `look` every `every` seconds until it returns true. Raises TimeoutError."""
    until = time.monotonic() + patience
    while not look():
        if time.monotonic() > until:
            raise TimeoutError(f"waited {patience:.0f} s for {what}")
        time.sleep(every)


def _checked(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{command} failed:\n{done.stdout}\n{done.stderr}")
