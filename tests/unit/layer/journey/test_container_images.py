"""Images for CloudFormation: what they are made of, who is asked to build, and what is answered."""

import dataclasses
import io
import json
import stat
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from moto import mock_aws

from droplens.aws.s3 import Bucket
from droplens.journey import container_images
from droplens.journey.container_images import ASKED, ImageBuilder, ImageError, Sources, collect

LAMBDA_SECONDS = 900.0
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


class Clock:
    """Time that passes only where somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    @property
    def waited(self) -> float:
        return self.now - 1000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def builder(context: Path, clock: Clock) -> Iterator[ImageBuilder]:
    session = boto3.Session("test", "test", region_name="us-east-1")
    with mock_aws():
        s3, ecr, logs = session.client("s3"), session.client("ecr"), session.client("logs")
        codebuild = session.client("codebuild")
        s3.create_bucket(Bucket="lens-bucket")
        s3.put_bucket_versioning(
            Bucket="lens-bucket", VersioningConfiguration={"Status": "Enabled"}
        )
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
            sleep=clock.sleep,
            clock=lambda: clock.now,
        )


def refuse(
    monkeypatch: pytest.MonkeyPatch, client: Any, method: str, *errors: tuple[str, str]
) -> list[dict[str, Any]]:
    """Have AWS refuse the next calls with these (code, message), then carry them out; -> the calls
    that were carried out."""
    carried_out: list[dict[str, Any]] = []
    left = list(errors)
    carry_out: Callable[..., Any] = getattr(client, method)

    def call(**arguments: Any) -> Any:
        if left:
            code, message = left.pop(0)
            raise ClientError({"Error": {"Code": code, "Message": message}}, method)
        carried_out.append(arguments)
        return carry_out(**arguments)

    monkeypatch.setattr(client, method, call)
    return carried_out


def variables_of(call: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in call["environmentVariablesOverride"]}


def left_in(builder: ImageBuilder) -> list[str]:
    """Keys of all versions and delete markers, which keep a bucket from being deleted."""
    found: Any = builder.bucket.client.list_object_versions(Bucket="lens-bucket")
    return [one["Key"] for kind in ("Versions", "DeleteMarkers") for one in found.get(kind, [])]


def push(builder: ImageBuilder, tag: str, **changed: str) -> None:
    manifest = json.dumps({**MANIFEST, **changed})
    builder.ecr.put_image(repositoryName=REPOSITORY, imageManifest=manifest, imageTag=tag)


def ended(builder: ImageBuilder, status: str, build: str = "1", **more: Any) -> dict[str, Any]:
    """CodeBuild's event for the one image that was asked for."""
    listed = builder.bucket.client.list_objects_v2(Bucket="lens-bucket", Prefix=ASKED)
    [asked] = listed["Contents"]
    tag = collect(builder.context, "batch-prep").tag
    variables = {"IMAGE_URI": f"{URI}:{tag}", "ASKED": asked["Key"], "BUILD": build}
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


def test_the_zip_lets_every_user_read_the_sources() -> None:
    """CodeBuild restores the modes, and COPY keeps them: the container runs as another user."""
    sources = Sources("tag", {"a/b.py": b"", "a/run.sh": b""}, frozenset({"a/run.sh"}))
    with zipfile.ZipFile(io.BytesIO(sources.zip())) as archive:
        modes = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()}
        assert {entry.create_system for entry in archive.infolist()} == {3}
    assert modes == {"a/b.py": stat.S_IFREG | 0o644, "a/run.sh": stat.S_IFREG | 0o755}


def test_what_is_executable_stays_so_and_nothing_else_of_a_mode_counts(context: Path) -> None:
    before = collect(context, "batch-prep")
    main = context / "batch_prep/__main__.py"
    main.chmod(0o600)
    assert collect(context, "batch-prep") == before
    main.chmod(0o700)
    made = collect(context, "batch-prep")
    assert made.executable == {"batch_prep/__main__.py"}
    assert made.tag != before.tag


def test_the_tag_changes_with_the_recipe_and_with_the_build_arguments(
    context: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = collect(context, "batch-prep").tag
    registry = {"BASE_REGISTRY": "registry.example/mirror"}
    other = collect(context, "batch-prep", arguments=registry).tag
    index = collect(context, "batch-prep", arguments={**registry, "PIP_INDEX_URL": "https://a"}).tag
    monkeypatch.setattr(container_images, "RECIPE", container_images.RECIPE + 1)
    assert len({before, other, index, collect(context, "batch-prep").tag}) == 4


def test_what_a_stage_copies_from_another_is_no_source(context: Path) -> None:
    before = collect(context, "batch-prep", "fast", f"{URI}:1")
    with (context / "batch_prep/fast.Dockerfile").open("a") as dockerfile:
        dockerfile.write("COPY --from=other /weights /opt/weights\n")
    assert collect(context, "batch-prep", "fast", f"{URI}:1").files.keys() == before.files.keys()


def test_a_network_is_part_of_the_tag_and_the_source_of_its_weights_is_not(
    builder: ImageBuilder, asking: CloudFormation, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(builder.codebuild, "start_build", lambda **call: calls.append(call))
    for backbone, weights in (("a", ""), ("a", "s3://mine/"), ("b", "")):
        request = asking.request()
        request["RequestId"] += f"{len(calls)}"
        request["ResourceProperties"] |= {
            "Variant": "fast",
            "Base": f"{URI}:1",
            "Backbone": backbone,
            "BackboneWeights": weights,
        }
        builder.handle(request, LAMBDA_SECONDS)
    first, second, third = map(variables_of, calls)
    assert first["IMAGE_URI"] == second["IMAGE_URI"] != third["IMAGE_URI"]
    assert [each["BACKBONE"] for each in (first, second, third)] == ["a", "a", "b"]
    assert second["BACKBONE_WEIGHTS"] == "s3://mine/"
    assert "BACKBONE_WEIGHTS" not in first


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
    builder.handle(asking.request(), LAMBDA_SECONDS)
    assert asking.answers == []
    [build] = builder.codebuild.list_builds()["ids"]
    assert build.startswith("lens-images:")
    sources = collect(context, "batch-prep")
    body, _ = builder.bucket.read(f"build/batch-prep/{sources.tag}.zip")
    assert body == sources.zip()

    push(builder, sources.tag)
    event = ended(builder, "SUCCEEDED")
    builder.build_ended(event, LAMBDA_SECONDS)
    builder.build_ended(event, LAMBDA_SECONDS)  # as EventBridge may bring it
    assert asking.answer["Status"] == "SUCCESS"
    assert asking.answer["PhysicalResourceId"] == f"{URI}:{sources.tag}"
    assert left_in(builder) == []


def test_codebuild_is_told_all_but_the_signed_address(
    builder: ImageBuilder, asking: CloudFormation, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(builder.codebuild, "start_build", lambda **call: calls.append(call))
    builder.handle(asking.request(), LAMBDA_SECONDS)
    [call] = calls
    tag = collect(builder.context, "batch-prep").tag
    assert call["sourceLocationOverride"] == f"lens-bucket/build/batch-prep/{tag}.zip"
    variables = variables_of(call)
    assert variables["IMAGE_URI"] == f"{URI}:{tag}"
    assert variables["DOCKERFILE"] == "batch_prep/Dockerfile"
    assert "Signature" not in json.dumps(call)
    [version] = builder.bucket.client.list_object_versions(
        Bucket="lens-bucket", Prefix=f"build/batch-prep/{tag}.zip"
    )["Versions"]
    assert call["sourceVersion"] == version["VersionId"]


def test_codebuild_is_told_the_registry_and_the_package_index_of_the_user(
    builder: ImageBuilder, asking: CloudFormation, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = refuse(monkeypatch, builder.codebuild, "start_build")
    request = asking.request()
    request["ResourceProperties"] |= {"BaseImageRegistry": "registry.example/a", "PipIndexUrl": ""}
    builder.handle(request, LAMBDA_SECONDS)
    [call] = calls
    variables = variables_of(call)
    assert variables["BASE_REGISTRY"] == "registry.example/a"
    assert "PIP_INDEX_URL" not in variables  # CodeBuild may take no variable without a value
    tag = collect(builder.context, "batch-prep", arguments={"BASE_REGISTRY": "registry.example/a"})
    assert variables["IMAGE_URI"] == f"{URI}:{tag.tag}"


def test_codebuild_is_told_what_an_image_is_made_from(
    builder: ImageBuilder, asking: CloudFormation, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(builder.codebuild, "start_build", lambda **call: calls.append(call))
    request = asking.request()
    request["ResourceProperties"] |= {"Variant": "fast", "Base": f"{URI}:1"}
    builder.handle(request, LAMBDA_SECONDS)
    [call] = calls
    tag = collect(builder.context, "batch-prep", "fast", f"{URI}:1").tag
    variables = variables_of(call)
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
    builder.handle(asking.request(kind), LAMBDA_SECONDS)
    assert builder.codebuild.list_builds()["ids"] == []
    assert (asking.answer["Status"], asking.answer["PhysicalResourceId"]) == (
        "SUCCESS",
        f"{URI}:{tag}",
    )


def test_a_failed_build_is_told_in_its_own_words(
    builder: ImageBuilder, asking: CloudFormation
) -> None:
    builder.handle(asking.request(), LAMBDA_SECONDS)
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
    builder.build_ended(ended(builder, "FAILED", phases=phases, logs=logs), LAMBDA_SECONDS)
    answer = asking.answer
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("FAILED", "BatchPrepImage")
    tag = collect(builder.context, "batch-prep").tag
    assert answer["Reason"] == (
        f"building {URI}:{tag} ended as FAILED; BUILD: {context} | {said[0]}"
    )


def test_a_build_that_never_spoke_fails_the_deployment_all_the_same(
    builder: ImageBuilder, asking: CloudFormation
) -> None:
    builder.handle(asking.request("Update"), LAMBDA_SECONDS)
    logs = {"group-name": "/aws/codebuild/lens-images", "stream-name": "never-made"}
    builder.build_ended(ended(builder, "FAULT", logs=logs), LAMBDA_SECONDS)
    assert "ended as FAULT" in asking.answer["Reason"]
    assert asking.answer["PhysicalResourceId"] == f"{URI}:old"


def test_a_long_reason_fits_cloudformation_s_limit(
    builder: ImageBuilder, asking: CloudFormation
) -> None:
    builder.handle(asking.request(), LAMBDA_SECONDS)
    long = {"phase-type": "BUILD", "phase-status": "FAILED", "phase-context": ["ä" * 9000]}
    builder.build_ended(ended(builder, "FAILED", phases=[long]), LAMBDA_SECONDS)
    assert len(asking.answer["Reason"].encode()) > 1000


def test_a_build_that_left_no_image_is_a_failure(
    builder: ImageBuilder, asking: CloudFormation
) -> None:
    builder.handle(asking.request(), LAMBDA_SECONDS)
    builder.build_ended(ended(builder, "SUCCEEDED"), LAMBDA_SECONDS)
    assert asking.answer["Status"] == "FAILED"
    assert "not in the registry" in asking.answer["Reason"]


def test_an_image_that_sagemaker_would_refuse_fails_the_deployment(
    builder: ImageBuilder, asking: CloudFormation
) -> None:
    tag = collect(builder.context, "batch-prep").tag
    detail = {"imageTags": [tag], "imageManifestMediaType": "application/vnd.oci.image.index.v1"}
    with Stubber(builder.ecr) as stub:
        stub.add_response("describe_images", {"imageDetails": [detail]})
        builder.handle(asking.request(), LAMBDA_SECONDS)
    assert asking.answer["Status"] == "FAILED"
    assert "SageMaker takes" in asking.answer["Reason"]


def test_whatever_goes_wrong_is_answered(builder: ImageBuilder, asking: CloudFormation) -> None:
    builder.codebuild.delete_project(name="lens-images")
    builder.handle(asking.request(), LAMBDA_SECONDS)
    assert asking.answer["Status"] == "FAILED"
    assert "StartBuild" in asking.answer["Reason"]


def test_a_delete_succeeds_whatever_is_left(builder: ImageBuilder, asking: CloudFormation) -> None:
    builder.ecr.delete_repository(repositoryName=REPOSITORY, force=True)
    builder.handle(asking.request("Delete", image="nothing"), LAMBDA_SECONDS)
    assert (asking.answer["Status"], asking.answer["PhysicalResourceId"]) == (
        "SUCCESS",
        f"{URI}:old",
    )


# --- what passes by itself

BUSY = ("AccountLimitExceededException", "Cannot have more than 1 builds in queue for the account")
THROTTLED = ("ThrottlingException", "Rate exceeded")
NO_KEY_YET = ("AccessDenied", "User is not authorized to perform: kms:GenerateDataKey on resource")
NO_ROLE_YET = ("InvalidInputException", "CodeBuild is not authorized to perform: sts:AssumeRole")
KEY = "arn:aws:kms:us-east-1:123456789012:key/1"


def test_a_build_waits_until_the_account_has_room_for_it(
    builder: ImageBuilder,
    asking: CloudFormation,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = refuse(monkeypatch, builder.codebuild, "start_build", BUSY, THROTTLED, BUSY)
    builder.handle(asking.request("Update"), LAMBDA_SECONDS)
    assert len(calls) == 1
    assert asking.answers == []
    assert clock.waited == 60


def test_a_build_that_never_gets_room_is_told_in_time_with_what_to_do(
    builder: ImageBuilder,
    asking: CloudFormation,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuse(monkeypatch, builder.codebuild, "start_build", *[BUSY] * 1000)
    builder.handle(asking.request(), LAMBDA_SECONDS)
    assert asking.answer["Status"] == "FAILED"
    assert BUSY[1] in asking.answer["Reason"]
    assert "Concurrently running builds for Linux/Small" in asking.answer["Reason"]
    assert 600 < clock.waited <= container_images.MOST_SECONDS_FOR_A_START
    assert left_in(builder) == []


def test_an_account_without_any_build_is_told_at_once(
    builder: ImageBuilder,
    asking: CloudFormation,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message = "Cannot have more than 0 builds in queue for the account"
    refuse(monkeypatch, builder.codebuild, "start_build", (BUSY[0], message))
    builder.handle(asking.request(), LAMBDA_SECONDS)
    assert message in asking.answer["Reason"]
    assert "no build at all" in asking.answer["Reason"]
    assert clock.waited == 0


@pytest.mark.parametrize(
    ("service", "method", "errors"),
    [
        ("s3", "put_object", [NO_KEY_YET] * 3),
        ("s3", "get_object", [("AccessDenied", "Access Denied")]),
        ("ecr", "describe_images", [("AccessDeniedException", "no identity-based policy")]),
        ("codebuild", "start_build", [NO_ROLE_YET, NO_ROLE_YET]),
    ],
)
@pytest.mark.parametrize(("kind", "key"), [("Create", ""), ("Update", KEY)])
def test_permissions_that_are_seconds_old_are_waited_for(
    builder: ImageBuilder,
    asking: CloudFormation,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    service: str,
    method: str,
    errors: list[tuple[str, str]],
    kind: str,
    key: str,
) -> None:
    client = builder.bucket.client if service == "s3" else getattr(builder, service)
    refuse(monkeypatch, client, method, *errors)
    request = asking.request(kind)
    request["ResourceProperties"]["Key"] = key
    builder.handle(request, LAMBDA_SECONDS)
    assert asking.answers == []
    assert len(builder.codebuild.list_builds()["ids"]) == 1
    assert 0 < clock.waited < 90


def test_a_denial_that_stays_is_told_in_aws_s_words(
    builder: ImageBuilder,
    asking: CloudFormation,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuse(monkeypatch, builder.bucket.client, "put_object", *[NO_KEY_YET] * 99)
    builder.handle(asking.request(), LAMBDA_SECONDS)
    assert NO_KEY_YET[1] in asking.answer["Reason"]
    assert 60 <= clock.waited <= 90


def test_a_denial_of_what_was_allowed_before_is_told_at_once(
    builder: ImageBuilder,
    asking: CloudFormation,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuse(monkeypatch, builder.bucket.client, "put_object", NO_KEY_YET)
    builder.handle(asking.request("Update"), LAMBDA_SECONDS)
    assert NO_KEY_YET[1] in asking.answer["Reason"]
    assert clock.waited == 0


TOO_EARLY = {
    "phase-type": "QUEUED",
    "phase-status": "CLIENT_ERROR",
    "phase-context": ["ACCESS_DENIED: Service role does not allow CodeBuild to create log streams"],
}


def test_a_build_that_failed_before_iam_knew_its_role_is_started_again(
    builder: ImageBuilder, asking: CloudFormation, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = refuse(monkeypatch, builder.codebuild, "start_build")
    builder.handle(asking.request(), LAMBDA_SECONDS)
    first = ended(builder, "FAILED", phases=[TOO_EARLY])
    builder.build_ended(first, LAMBDA_SECONDS)
    builder.build_ended(first, LAMBDA_SECONDS)  # as EventBridge may bring it
    assert [variables_of(call)["BUILD"] for call in calls] == ["1", "2"]
    assert len({call["idempotencyToken"] for call in calls}) == 2
    assert len({call["sourceVersion"] for call in calls}) == 1
    assert asking.answers == []

    push(builder, collect(builder.context, "batch-prep").tag)
    builder.build_ended(ended(builder, "SUCCEEDED", "2"), LAMBDA_SECONDS)
    assert asking.answer["Status"] == "SUCCESS"
    assert left_in(builder) == []


def test_builds_that_go_on_failing_so_are_told(
    builder: ImageBuilder, asking: CloudFormation, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = refuse(monkeypatch, builder.codebuild, "start_build")
    builder.handle(asking.request(), LAMBDA_SECONDS)
    for build in ("1", "2", "3"):
        builder.build_ended(ended(builder, "FAILED", build, phases=[TOO_EARLY]), LAMBDA_SECONDS)
    assert len(calls) == 3
    assert "does not allow CodeBuild" in asking.answer["Reason"]


@pytest.mark.parametrize("status", ["FAILED", "TIMED_OUT"])
def test_an_image_that_another_build_pushed_first_is_no_failure(
    builder: ImageBuilder, asking: CloudFormation, status: str
) -> None:
    builder.handle(asking.request(), LAMBDA_SECONDS)
    tag = collect(builder.context, "batch-prep").tag
    push(builder, tag)
    context = f"tag invalid: The image tag '{tag}' already exists and cannot be overwritten"
    phase = {"phase-type": "BUILD", "phase-status": "FAILED", "phase-context": [context]}
    builder.build_ended(ended(builder, status, phases=[phase]), LAMBDA_SECONDS)
    assert asking.answer["Status"] == "SUCCESS"
    assert asking.answer["PhysicalResourceId"] == f"{URI}:{tag}"


def test_a_build_that_a_person_started_answers_nobody(
    builder: ImageBuilder, asking: CloudFormation
) -> None:
    builder.handle(asking.request(), LAMBDA_SECONDS)
    event = ended(builder, "FAILED")
    event["additional-information"]["environment"]["environment-variables"] = []
    builder.build_ended(event, LAMBDA_SECONDS)
    assert asking.answers == []


def test_a_request_that_comes_twice_is_one_build(
    builder: ImageBuilder, asking: CloudFormation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CodeBuild takes a token again only with the very same parameters."""
    calls = refuse(monkeypatch, builder.codebuild, "start_build")
    for _ in range(2):
        builder.handle(asking.request(), LAMBDA_SECONDS)
    assert calls[0] == calls[1]


@pytest.mark.parametrize("failed_before", [False, True])
def test_a_request_that_is_cancelled_while_it_waits_leaves_nothing(
    builder: ImageBuilder,
    asking: CloudFormation,
    monkeypatch: pytest.MonkeyPatch,
    failed_before: bool,
) -> None:
    cancelled = {**asking.request(), "RequestType": "Delete", "PhysicalResourceId": "x"}
    waiting = dataclasses.replace(
        builder, sleep=lambda _: builder.handle(cancelled, LAMBDA_SECONDS)
    )
    if failed_before:
        builder.handle(asking.request(), LAMBDA_SECONDS)
    calls = refuse(monkeypatch, builder.codebuild, "start_build", BUSY)
    if failed_before:
        waiting.build_ended(ended(builder, "FAILED", phases=[TOO_EARLY]), LAMBDA_SECONDS)
    else:
        waiting.handle(asking.request(), LAMBDA_SECONDS)
    assert calls == []
    assert left_in(builder) == []
    assert asking.answer["PhysicalResourceId"] == "x"


def test_of_a_stack_that_could_not_be_created_no_object_is_left(
    builder: ImageBuilder, asking: CloudFormation
) -> None:
    """CloudFormation cancels a resource that is being made: the bucket goes only when empty."""
    builder.handle(asking.request(), LAMBDA_SECONDS)
    assert len(left_in(builder)) == 2
    other = {**asking.request(), "LogicalResourceId": "TrainerOwnImage", "RequestId": "request-2"}
    other["ResourceProperties"] = {**other["ResourceProperties"], "Variant": "fast", "Base": "b"}
    builder.handle(other, LAMBDA_SECONDS)
    builder.handle({**other, "RequestType": "Delete", "PhysicalResourceId": "x"}, LAMBDA_SECONDS)
    kept = left_in(builder)
    assert len(kept) == 2
    assert not any("TrainerOwnImage" in key or "/fast-" in key for key in kept)
