"""Images for CloudFormation: what they are made of, who is asked to build, and what is answered."""

import io
import json
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from droplens.images import ASKED, ImageBuilder, ImageError, Sources, collect
from droplens.storage import Bucket

REPOSITORY = "lens/batch-prep"
URI = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/{REPOSITORY}"
DOCKERFILE = """\
FROM python:3.13-slim
COPY --chown=1000 batch_prep/requirements.txt lock.txt
# COPY secret.txt ./
COPY layers/droplens/__init__.py \\
    layers/droplens/layout.py droplens/
COPY batch_prep/ batch_prep/
"""
MANIFEST = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
    "config": {"mediaType": "application/json", "size": 2, "digest": "sha256:" + "0" * 64},
    "layers": [],
}


@pytest.fixture
def context(tmp_path: Path) -> Path:
    for name, text in {
        "batch_prep/Dockerfile": DOCKERFILE,
        "batch_prep/requirements.txt": "numpy\n",
        "batch_prep/__main__.py": "print('packing')\n",
        "batch_prep/__pycache__/__main__.pyc": "by-product",
        "layers/droplens/__init__.py": "",
        "layers/droplens/layout.py": "A = 1\n",
        "layers/droplens/runs.py": "B = 1\n",
        "batch_prep/fast.Dockerfile": "ARG BASE\nFROM ${BASE}\nRUN pip install torch\n",
        "secret.txt": "no",
    }.items():
        path = tmp_path / "context" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "context"


class CloudFormation:
    """A server on this machine that stands where the pre-signed address points."""

    def __init__(self) -> None:
        answers: list[dict[str, Any]] = []

        class Listener(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answers.append({"type": self.headers["Content-Type"], **json.loads(body)})
                answers[-1]["size"] = len(body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.answers = answers
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
        Thread(target=self.server.serve_forever, daemon=True).start()

    def request(self, kind: str = "Create", image: str = "batch-prep") -> dict[str, Any]:
        request = {
            "RequestType": kind,
            "ResponseURL": f"http://127.0.0.1:{self.server.server_port}/signed?Signature=x",
            "StackId": "arn:aws:cloudformation:us-east-1:123456789012:stack/lens/1",
            "RequestId": "request-1",
            "LogicalResourceId": "BatchPrepImage",
            "ResourceProperties": {
                "Image": image,
                "Repository": REPOSITORY,
                "RepositoryUri": URI,
                "Sources": "arn:aws:lambda:us-east-1:123456789012:layer:sources:1",
            },
        }
        return request if kind == "Create" else {**request, "PhysicalResourceId": f"{URI}:old"}

    @property
    def answer(self) -> dict[str, Any]:
        [answer] = self.answers
        assert answer["StackId"].endswith("stack/lens/1")
        assert (answer["RequestId"], answer["LogicalResourceId"]) == ("request-1", "BatchPrepImage")
        assert answer["type"] == ""  # the signature covers it
        assert answer["size"] <= 4096
        return answer


@pytest.fixture
def asking() -> Iterator[CloudFormation]:
    listener = CloudFormation()
    yield listener
    listener.server.shutdown()
    listener.server.server_close()


@pytest.fixture
def builder(context: Path) -> Iterator[ImageBuilder]:
    session = boto3.Session("test", "test", region_name="us-east-1")
    with mock_aws():
        s3, ecr, logs = session.client("s3"), session.client("ecr"), session.client("logs")
        codebuild = session.client("codebuild")
        s3.create_bucket(Bucket="lens-bucket")
        ecr.create_repository(repositoryName=REPOSITORY)
        logs.create_log_group(logGroupName="/aws/codebuild/lens-images")
        codebuild.create_project(
            name="lens-images",
            source={"type": "S3", "location": "lens-bucket/build/"},
            artifacts={"type": "NO_ARTIFACTS"},
            environment={
                "type": "LINUX_CONTAINER",
                "image": "a",
                "computeType": "BUILD_GENERAL1_SMALL",
            },
            serviceRole="arn:aws:iam::123456789012:role/build",
        )
        yield ImageBuilder(
            context=context,
            bucket=Bucket(s3, "lens-bucket"),
            project="lens-images",
            codebuild=codebuild,
            ecr=ecr,
            logs=logs,
        )


def push(builder: ImageBuilder, tag: str, **changed: str) -> None:
    manifest = json.dumps({**MANIFEST, **changed})
    builder.ecr.put_image(repositoryName=REPOSITORY, imageManifest=manifest, imageTag=tag)


def ended(builder: ImageBuilder, status: str, **more: Any) -> dict[str, Any]:
    """CodeBuild's event for the one build that was asked for."""
    listed = builder.bucket.client.list_objects_v2(Bucket="lens-bucket", Prefix=ASKED)
    [asked] = listed["Contents"]
    tag = collect(builder.context, "batch-prep").tag
    variables = {"IMAGE_URI": f"{URI}:{tag}", "ASKED": asked["Key"]}
    return {
        "build-id": "arn:aws:codebuild:us-east-1:123456789012:build/lens-images:1",
        "build-status": status,
        "project-name": "lens-images",
        "additional-information": {
            "environment": {
                "environment-variables": [
                    {"name": name, "value": value, "type": "PLAINTEXT"}
                    for name, value in variables.items()
                ]
            },
            **more,
        },
    }


def test_an_image_s_sources_are_its_dockerfile_and_what_that_copies(context: Path) -> None:
    assert sorted(collect(context, "batch-prep").files) == [
        "batch_prep/Dockerfile",
        "batch_prep/__main__.py",
        "batch_prep/fast.Dockerfile",
        "batch_prep/requirements.txt",
        "layers/droplens/__init__.py",
        "layers/droplens/layout.py",
    ]


def test_the_tag_changes_with_the_sources_and_with_nothing_else(context: Path) -> None:
    before = collect(context, "batch-prep")
    (context / "layers/droplens/runs.py").write_text("B = 2\n")
    (context / "batch_prep/__pycache__/new.pyc").write_text("by-product")
    same = collect(context, "batch-prep")
    assert (same.tag, same.zip()) == (before.tag, before.zip())
    (context / "layers/droplens/layout.py").write_text("A = 2\n")
    assert collect(context, "batch-prep").tag != before.tag


def test_an_image_made_from_another_changes_with_it(context: Path) -> None:
    made = collect(context, "batch-prep", "fast", f"{URI}:1")
    assert made.tag.startswith("fast-")
    assert made.files.keys() == {"batch_prep/fast.Dockerfile"}
    assert collect(context, "batch-prep", "fast", f"{URI}:1") == made
    assert collect(context, "batch-prep", "fast", f"{URI}:2").tag != made.tag


def test_the_zip_holds_the_sources() -> None:
    sources = Sources("tag", {"a/b.py": b"content"})
    with zipfile.ZipFile(io.BytesIO(sources.zip())) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == sources.files


@pytest.mark.parametrize(
    ("image", "line", "reason"),
    [
        ("batch-prep", "COPY gone.txt ./", "batch_prep/Dockerfile: COPY gone.txt: not there"),
        ("nothing", "", "image nothing: there is no nothing/Dockerfile"),
    ],
)
def test_sources_that_are_missing_are_named(
    context: Path, image: str, line: str, reason: str
) -> None:
    with (context / "batch_prep/Dockerfile").open("a") as dockerfile:
        dockerfile.write(line)
    with pytest.raises(ImageError, match=reason):
        collect(context, image)


def test_the_images_of_this_repository_have_all_their_sources(repo_root: Path) -> None:
    """From the folder that becomes the layer: its links lead to what the Dockerfiles copy."""
    for image, variant, files in (
        ("batch-prep", "", 10),
        ("trainer", "", 10),
        ("trainer", "finetune", 1),
    ):
        sources = collect(repo_root / "layers/image_sources", image, variant)
        assert sources == collect(repo_root, image, variant)
        assert len(sources.files) >= files


def test_an_image_is_built_and_answered_once_it_is_in_the_registry(
    builder: ImageBuilder, asking: CloudFormation, context: Path
) -> None:
    builder.asked(asking.request())
    assert asking.answers == []
    [build] = builder.codebuild.list_builds()["ids"]
    assert build.startswith("lens-images:")
    sources = collect(context, "batch-prep")
    body, _ = builder.bucket.read(f"build/batch-prep/{sources.tag}.zip")
    assert body == sources.zip()

    push(builder, sources.tag)
    event = ended(builder, "SUCCEEDED")
    builder.built(event)
    builder.built(event)  # as EventBridge may bring it
    assert asking.answer["Status"] == "SUCCESS"
    assert asking.answer["PhysicalResourceId"] == f"{URI}:{sources.tag}"


def test_codebuild_is_told_all_but_the_signed_address(
    builder: ImageBuilder, asking: CloudFormation, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(builder.codebuild, "start_build", lambda **call: calls.append(call))
    builder.asked(asking.request())
    [call] = calls
    tag = collect(builder.context, "batch-prep").tag
    assert call["sourceLocationOverride"] == f"lens-bucket/build/batch-prep/{tag}.zip"
    variables = {one["name"]: one["value"] for one in call["environmentVariablesOverride"]}
    assert variables["IMAGE_URI"] == f"{URI}:{tag}"
    assert variables["DOCKERFILE"] == "batch_prep/Dockerfile"
    assert "Signature" not in json.dumps(call)


def test_codebuild_is_told_what_an_image_is_made_from(
    builder: ImageBuilder, asking: CloudFormation, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(builder.codebuild, "start_build", lambda **call: calls.append(call))
    request = asking.request()
    request["ResourceProperties"] |= {"Variant": "fast", "Base": f"{URI}:1"}
    builder.asked(request)
    [call] = calls
    tag = collect(builder.context, "batch-prep", "fast", f"{URI}:1").tag
    variables = {one["name"]: one["value"] for one in call["environmentVariablesOverride"]}
    assert variables["IMAGE_URI"] == f"{URI}:{tag}"
    assert variables["DOCKERFILE"] == "batch_prep/fast.Dockerfile"
    assert variables["BASE"] == f"{URI}:1"
    assert call["sourceLocationOverride"] == f"lens-bucket/build/batch-prep/{tag}.zip"


@pytest.mark.parametrize("kind", ["Create", "Update"])
def test_an_image_that_is_there_is_not_built_again(
    builder: ImageBuilder, asking: CloudFormation, kind: str
) -> None:
    tag = collect(builder.context, "batch-prep").tag
    push(builder, tag)
    builder.asked(asking.request(kind))
    assert builder.codebuild.list_builds()["ids"] == []
    assert (asking.answer["Status"], asking.answer["PhysicalResourceId"]) == (
        "SUCCESS",
        f"{URI}:{tag}",
    )


def test_a_failed_build_is_told_in_its_own_words(
    builder: ImageBuilder, asking: CloudFormation
) -> None:
    builder.asked(asking.request())
    group, stream = "/aws/codebuild/lens-images", "1"
    builder.logs.create_log_stream(logGroupName=group, logStreamName=stream)
    said = ["#9 ERROR: no matching distribution: numpy", "[Container] Phase complete: BUILD"]
    at = int(time.time() * 1000)
    builder.logs.put_log_events(
        logGroupName=group,
        logStreamName=stream,
        logEvents=[{"timestamp": at, "message": line} for line in said],
    )
    context = "COMMAND_EXECUTION_ERROR: docker buildx build. Reason: exit status 1"
    phases = [
        {"phase-type": "QUEUED", "phase-status": "SUCCEEDED", "phase-context": []},
        {"phase-type": "BUILD", "phase-status": "FAILED", "phase-context": [context]},
        {"phase-type": "COMPLETED"},
    ]
    logs = {"group-name": group, "stream-name": stream}
    builder.built(ended(builder, "FAILED", phases=phases, logs=logs))
    answer = asking.answer
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("FAILED", "BatchPrepImage")
    tag = collect(builder.context, "batch-prep").tag
    assert answer["Reason"] == (
        f"building {URI}:{tag} ended as FAILED; BUILD: {context}\n{said[0]}"
    )


def test_a_build_that_never_spoke_fails_the_deployment_all_the_same(
    builder: ImageBuilder, asking: CloudFormation
) -> None:
    builder.asked(asking.request("Update"))
    logs = {"group-name": "/aws/codebuild/lens-images", "stream-name": "never-made"}
    builder.built(ended(builder, "FAULT", logs=logs))
    assert "ended as FAULT" in asking.answer["Reason"]
    assert asking.answer["PhysicalResourceId"] == f"{URI}:old"


def test_a_long_reason_fits_cloudformation_s_limit(
    builder: ImageBuilder, asking: CloudFormation
) -> None:
    builder.asked(asking.request())
    long = {"phase-type": "BUILD", "phase-status": "FAILED", "phase-context": ["ä" * 9000]}
    builder.built(ended(builder, "FAILED", phases=[long]))
    assert len(asking.answer["Reason"].encode()) > 1000


def test_a_build_that_left_no_image_is_a_failure(
    builder: ImageBuilder, asking: CloudFormation
) -> None:
    builder.asked(asking.request())
    builder.built(ended(builder, "SUCCEEDED"))
    assert asking.answer["Status"] == "FAILED"
    assert "not in the registry" in asking.answer["Reason"]


def test_an_image_that_sagemaker_would_refuse_fails_the_deployment(
    builder: ImageBuilder, asking: CloudFormation
) -> None:
    tag = collect(builder.context, "batch-prep").tag
    detail = {"imageTags": [tag], "imageManifestMediaType": "application/vnd.oci.image.index.v1"}
    with Stubber(builder.ecr) as stub:
        stub.add_response("describe_images", {"imageDetails": [detail]})
        builder.asked(asking.request())
    assert asking.answer["Status"] == "FAILED"
    assert "SageMaker takes" in asking.answer["Reason"]


def test_whatever_goes_wrong_is_answered(builder: ImageBuilder, asking: CloudFormation) -> None:
    builder.codebuild.delete_project(name="lens-images")
    builder.asked(asking.request())
    assert asking.answer["Status"] == "FAILED"
    assert "StartBuild" in asking.answer["Reason"]


def test_a_delete_succeeds_whatever_is_left(builder: ImageBuilder, asking: CloudFormation) -> None:
    builder.ecr.delete_repository(repositoryName=REPOSITORY, force=True)
    builder.asked(asking.request("Delete", image="nothing"))
    assert (asking.answer["Status"], asking.answer["PhysicalResourceId"]) == (
        "SUCCESS",
        f"{URI}:old",
    )
