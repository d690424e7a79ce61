"""Container images for CloudFormation: built in the account, addressed by their sources' content.

A custom resource asks for an image; CodeBuild makes it from a zip of what its Dockerfile copies.
CloudFormation gets its answer once the image is in the registry, at the latest when the build ends.

Formats: CloudFormation User Guide, "Custom resource request and response reference"; CodeBuild User
Guide, "Build notifications sample for CodeBuild" (the event).
"""

import hashlib
import io
import json
import shlex
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from botocore.exceptions import ClientError

from droplens import layout
from droplens.errors import DroplensError
from droplens.storage import Bucket, ObjectMissing, error_code
from droplens.telemetry import logger

if TYPE_CHECKING:
    from types_boto3_logs.client import CloudWatchLogsClient

ASKED = f"{layout.BUILD}asked/"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_TAG_CHARACTERS = 24
# CloudFormation takes answers of 4,096 bytes in all.
_MOST_REASON_BYTES = 2000
_LAST_LINES = 6
_ANSWER_SECONDS = 30

Record = dict[str, Any]


class ImageError(DroplensError):
    """An image that cannot be built or used; the message is what CloudFormation shows."""

    def __init__(self, message: str) -> None:
        super().__init__("image", message)


@dataclass(frozen=True, slots=True)
class Sources:
    """What one image is built from. tag: of these very sources; files: by path in the context."""

    tag: str
    files: dict[str, bytes]

    def zip(self) -> bytes:
        """The same bytes for the same sources."""
        body = io.BytesIO()
        with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in self.files.items():
                entry = zipfile.ZipInfo(name)
                entry.external_attr = 0o100644 << 16  # who runs the image is not who unpacks it
                archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
        return body.getvalue()


def dockerfile_of(image: str, variant: str = "") -> str:
    """Its path in the context: batch_prep/Dockerfile, trainer/finetune.Dockerfile."""
    name = f"{variant}.Dockerfile" if variant else "Dockerfile"
    return f"{image.replace('-', '_')}/{name}"


def collect(context: Path, image: str, variant: str = "", base: str = "") -> Sources:
    """The Dockerfile of `image` and what it copies. `base`: the address of what it starts from.

    A variant's tag begins with its name. Raises ImageError for a file that is not there.
    """
    dockerfile = context / dockerfile_of(image, variant)
    if not dockerfile.is_file():
        raise ImageError(f"image {image}: there is no {dockerfile.relative_to(context)}")
    paths = {dockerfile, *_copied(context, dockerfile)}
    files = {path.relative_to(context).as_posix(): path.read_bytes() for path in sorted(paths)}
    digest = hashlib.sha256(base.encode())
    for name, content in files.items():
        digest.update(f"{name}\n{hashlib.sha256(content).hexdigest()}\n".encode())
    tag = digest.hexdigest()[:_TAG_CHARACTERS]
    return Sources(f"{variant}-{tag}" if variant else tag, files)


def _copied(context: Path, dockerfile: Path) -> Iterator[Path]:
    text = dockerfile.read_text("utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        keyword, *words = shlex.split(line, comments=True) or [""]
        if keyword.upper() != "COPY":
            continue
        *names, _ = (word for word in words if not word.startswith("--"))
        for name in names:
            path = context / name
            if not path.exists():
                raise ImageError(f"{dockerfile.relative_to(context)}: COPY {name}: not there")
            yield from [path] if path.is_file() else _files_below(path)


def _files_below(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageBuilder:
    """Answers a custom resource with the properties `Image` (its name), `Repository` (its ECR
    repository's name) and `RepositoryUri`; and, for an image made from another, `Variant` and
    `Base` (the other's address). The physical id is the image's address.

    context: the folder that the Dockerfiles copy from; project: CodeBuild's.
    """

    context: Path
    bucket: Bucket
    project: str
    codebuild: Any
    ecr: Any
    logs: "CloudWatchLogsClient"

    def asked(self, request: Record) -> None:
        """A custom resource's Create, Update or Delete: answered now, or when the build ends."""
        if request["RequestType"] == "Delete":
            # Its repository goes with all images in it; a replaced image may still serve a model.
            _answer(request, request["PhysicalResourceId"])
            return
        try:
            self._provide(request)
        except Exception as error:  # noqa: BLE001 - CloudFormation would wait an hour for it
            logger.exception("no build could be started")
            _answer(request, _known_id(request), str(error))

    def built(self, detail: Record) -> None:
        """The detail of the event that a build of ours has ended."""
        about = detail["additional-information"]
        variables = {
            variable["name"]: variable["value"]
            for variable in about["environment"]["environment-variables"]
        }
        try:
            body, _ = self.bucket.read(variables["ASKED"])
        except ObjectMissing:
            logger.info("answered before", extra={"build": detail["build-id"]})
            return
        request = json.loads(body)
        uri = variables["IMAGE_URI"]
        try:
            if detail["build-status"] != "SUCCEEDED":
                raise ImageError(self._why(uri, detail["build-status"], about))
            if not self._is_there(request["ResourceProperties"]["Repository"], uri):
                raise ImageError(f"{uri}: its build succeeded, and it is not in the registry")
        except Exception as error:  # noqa: BLE001 - CloudFormation would wait an hour for it
            logger.exception("no image")
            _answer(request, _known_id(request), str(error))
        else:
            _answer(request, uri)
        self.bucket.client.delete_object(Bucket=self.bucket.name, Key=variables["ASKED"])

    def _provide(self, request: Record) -> None:
        properties = request["ResourceProperties"]
        image, repository = properties["Image"], properties["Repository"]
        variant, base = properties.get("Variant", ""), properties.get("Base", "")
        sources = collect(self.context, image, variant, base)
        uri = f"{properties['RepositoryUri']}:{sources.tag}"
        if self._is_there(repository, uri):
            _answer(request, uri)
            return
        key = f"{layout.BUILD}{image}/{sources.tag}.zip"
        asked = f"{ASKED}{uuid4()}.json"
        client, bucket = self.bucket.client, self.bucket.name
        client.put_object(Bucket=bucket, Key=key, Body=sources.zip())
        # Its pre-signed address is for nobody else's eyes: not among the build's variables.
        client.put_object(Bucket=bucket, Key=asked, Body=json.dumps(request).encode())
        variables = {
            "IMAGE_URI": uri,
            "DOCKERFILE": dockerfile_of(image, variant),
            "ASKED": asked,
            **({"BASE": base} if base else {}),
        }
        self.codebuild.start_build(
            projectName=self.project,
            sourceTypeOverride="S3",
            sourceLocationOverride=f"{bucket}/{key}",
            environmentVariablesOverride=[
                {"name": name, "value": value, "type": "PLAINTEXT"}
                for name, value in variables.items()
            ],
            idempotencyToken=request["RequestId"],
        )

    def _is_there(self, repository: str, uri: str) -> bool:
        """Raises ImageError where SageMaker would refuse the image."""
        tag = uri.rpartition(":")[2]
        try:
            answer = self.ecr.describe_images(
                repositoryName=repository, imageIds=[{"imageTag": tag}]
            )
        except ClientError as error:
            if error_code(error) == "ImageNotFoundException":
                return False
            raise
        for found in answer["imageDetails"]:
            kind = found.get("imageManifestMediaType", DOCKER_MANIFEST)
            if kind != DOCKER_MANIFEST:
                raise ImageError(f"{uri} is a {kind}, and SageMaker takes {DOCKER_MANIFEST} only")
        return bool(answer["imageDetails"])

    def _why(self, uri: str, status: str, about: Record) -> str:
        """The phase that failed as CodeBuild tells it, and what the build itself said last."""
        phases = [
            f"{phase['phase-type']}: {' '.join(phase.get('phase-context', []))}"
            for phase in about.get("phases", [])
            if phase.get("phase-status") not in (None, "SUCCEEDED")
        ]
        told = "; ".join([f"building {uri} ended as {status}", *phases])
        return "\n".join([told, *self._last_words(about.get("logs", {}))])

    def _last_words(self, logs: Record) -> list[str]:
        if not {"group-name", "stream-name"} <= logs.keys():
            return []
        try:
            events = self.logs.get_log_events(
                logGroupName=logs["group-name"], logStreamName=logs["stream-name"], limit=100
            )["events"]
        except ClientError as error:  # it may have ended before it could say anything
            logger.warning("the build's log cannot be read", extra={"reason": str(error)})
            return []
        lines = [event["message"].rstrip() for event in events]
        # CodeBuild's own lines; the phases have told the same.
        said = [line for line in lines if line and not line.startswith("[Container]")]
        return said[-_LAST_LINES:]


def _known_id(request: Record) -> str:
    """Where there is no image: what CloudFormation knows the resource by, or its name."""
    return str(request.get("PhysicalResourceId", request["LogicalResourceId"]))


def _answer(request: Record, physical_id: str, failure: str | None = None) -> None:
    """Tell CloudFormation, at the address it gave. Raises URLError where it does not listen."""
    answer = {
        "Status": "SUCCESS" if failure is None else "FAILED",
        "Reason": (failure or "").encode()[:_MOST_REASON_BYTES].decode(errors="ignore"),
        "PhysicalResourceId": physical_id,
        **{name: request[name] for name in ("StackId", "RequestId", "LogicalResourceId")},
    }
    # The signature covers an empty content type.
    put = urllib.request.Request(  # noqa: S310 - CloudFormation's own, signed https address
        request["ResponseURL"],
        data=json.dumps(answer, ensure_ascii=False).encode(),
        headers={"Content-Type": ""},
        method="PUT",
    )
    with urllib.request.urlopen(put, timeout=_ANSWER_SECONDS):  # noqa: S310
        logger.info("answered", extra={"status": answer["Status"], "image": physical_id})
