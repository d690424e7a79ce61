"""Container images for CloudFormation: built in the account, addressed by their sources' content.

A custom resource requests an image; CodeBuild builds it from a zip of what its Dockerfile copies.
CloudFormation gets its response once the image is in the registry, at the latest when the build
ends. Until then the request is kept in the bucket as an `Order`, which is deleted with the zip.

Behaviour of AWS that this module tolerates (docs/images.md has the sources):
- CodeBuild restores the file modes of the zip, and an image's COPY keeps them.
- An account may allow a single build at a time; StartBuild then refuses the next.
- A new policy or role takes effect after some seconds.
- Requests and events may be delivered twice.

Formats: CloudFormation User Guide, "Custom resource request and response reference"; CodeBuild User
Guide, "Build notifications sample for CodeBuild" (the event).
"""

import hashlib
import io
import json
import re
import shlex
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from droplens.aws.errors import error_code
from droplens.aws.s3 import Bucket
from droplens.domain import layout
from droplens.domain.errors import DroplensError, ObjectMissing
from droplens.runtime.telemetry import logger

if TYPE_CHECKING:
    from types_boto3_logs.client import CloudWatchLogsClient

ASKED = f"{layout.BUILD}asked/"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
RECIPE = 2
"""Incremented whenever the same sources become another image, so that every account builds it."""

_TAG_CHARACTERS = 24
# CloudFormation accepts responses of at most 4,096 bytes.
_MAX_REASON_BYTES = 2000
_LAST_LINES = 6
_RESPONSE_SECONDS = 30

# Together 90 seconds: a new policy usually takes effect within seconds, rarely after more than a
# minute (DataDog/stratus-red-team #358; aws-cdk #18237 and #37675 for a key's).
_UNTIL_IAM_KNOWS = (1, 2, 4, 8, 15, 15, 15, 15, 15)
_DENIED = {"AccessDenied", "AccessDeniedException", "403"}
# In CodeBuild's message about a role that it cannot assume yet (terraform-provider-aws #4233).
_ROLE_UNKNOWN = "sts:AssumeRole"

_BUSY = {
    "AccountLimitExceededException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
_NO_BUILDS_AT_ALL = re.compile(r"more than 0 builds")
_SECONDS_BETWEEN_STARTS = 20.0
MOST_SECONDS_FOR_A_START = 780.0
"""How long StartBuild is repeated. With the project's own time limits, this stays below the hour
that CloudFormation waits for a custom resource."""

# Builds of one request in all: a build fails at once while its role's policy has no effect yet.
_MOST_BUILDS = 3
_SECONDS_BEFORE_A_REBUILD = 30.0
_BEFORE_THE_BUILD = {"SUBMITTED", "QUEUED", "PROVISIONING", "DOWNLOAD_SOURCE"}
_REFUSED = re.compile(r"access.?denied|not authorized|does not allow|assumerole", re.IGNORECASE)
# The part of an invocation's time that is not spent on waiting.
_RESERVE_SECONDS = 60.0

BUILD_ARGUMENTS = {"BaseImageRegistry": "BASE_REGISTRY", "PipIndexUrl": "PIP_INDEX_URL"}
"""Properties of the custom resource that every Dockerfile takes as build arguments."""

VARIANT_ARGUMENTS = {"Backbone": "BACKBONE"}
"""The same, of variants."""
UNTAGGED = {"BackboneWeights": "BACKBONE_WEIGHTS"}
"""Properties that become variables of the build, and no part of the image's tag: pretrained weights
are read by the first build only, whose weights are those of every other one."""

Record = dict[str, Any]
T = TypeVar("T")


class ImageError(DroplensError):
    """An image that cannot be built or used; CloudFormation shows the message."""

    def __init__(self, message: str) -> None:
        super().__init__("image", message)


@dataclass(frozen=True, slots=True)
class Sources:
    """What one image is built from. tag: derived from the contents; files: by path in the context;
    executable: paths of the executable ones."""

    tag: str
    files: dict[str, bytes]
    executable: frozenset[str] = frozenset()

    def mode(self, name: str) -> int:
        """The same for every user: a container may run as another one than the build did."""
        return 0o755 if name in self.executable else 0o644

    def zip(self) -> bytes:
        """The same bytes for the same sources."""
        body = io.BytesIO()
        with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in self.files.items():
                entry = zipfile.ZipInfo(name)
                entry.create_system = 3  # Unix: else the mode below means nothing
                entry.external_attr = (0o100000 | self.mode(name)) << 16
                archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
        return body.getvalue()


def dockerfile_of(image: str, variant: str = "") -> str:
    """Its path in the context: batch_prep/Dockerfile, trainer/finetune.Dockerfile."""
    name = f"{variant}.Dockerfile" if variant else "Dockerfile"
    return f"{image.replace('-', '_')}/{name}"


def collect(
    context: Path,
    image: str,
    variant: str = "",
    base: str = "",
    arguments: Mapping[str, str] | None = None,
) -> Sources:
    """The Dockerfile of `image` and what it copies. base: the address of the image it starts from;
    arguments: the other build arguments, by name.

    A variant's tag begins with its name. Raises ImageError for a file that is missing.
    """
    dockerfile = context / dockerfile_of(image, variant)
    if not dockerfile.is_file():
        raise ImageError(f"image {image}: there is no {dockerfile.relative_to(context)}")
    paths = sorted({dockerfile, *_copied(context, dockerfile)})
    named = {path.relative_to(context).as_posix(): path for path in paths}
    files = {name: path.read_bytes() for name, path in named.items()}
    executable = frozenset(name for name, path in named.items() if path.stat().st_mode & 0o100)
    sources = Sources("", files, executable)
    digest = hashlib.sha256(f"{RECIPE}\n{base}\n".encode())
    for name, value in sorted((arguments or {}).items()):
        digest.update(f"{name}={value}\n".encode())
    for name, content in files.items():
        line = f"{name}\n{sources.mode(name):o}\n{hashlib.sha256(content).hexdigest()}\n"
        digest.update(line.encode())
    tag = digest.hexdigest()[:_TAG_CHARACTERS]
    return replace(sources, tag=f"{variant}-{tag}" if variant else tag)


def _copied(context: Path, dockerfile: Path) -> Iterator[Path]:
    text = dockerfile.read_text("utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        keyword, *words = shlex.split(line, comments=True) or [""]
        if keyword.upper() != "COPY":
            continue
        if any(word.startswith("--from=") for word in words):
            continue  # out of another stage
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


@dataclass(frozen=True, slots=True)
class Order:
    """A request whose image is being built. key: of this record in the bucket; builds: how many
    were started; variables: the build's environment."""

    key: str
    request: Record
    uri: str
    sources_key: str
    sources_version: str | None
    variables: dict[str, str]
    builds: int = 1

    @property
    def repository(self) -> str:
        return str(self.request["ResourceProperties"]["Repository"])

    @property
    def is_new(self) -> bool:
        return _has_new_permissions(self.request)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageBuilder:
    """Provides the images that custom resources request.

    Their properties are `Image` (its name), `Repository` (its ECR repository's name) and
    `RepositoryUri`; for an image built from another, `Variant` and `Base` (the other's address);
    and where they are set, `BaseImageRegistry` and `PipIndexUrl`, which become build arguments. The
    physical id is the image's address.

    context: the folder that the Dockerfiles copy from; project: CodeBuild's.
    """

    context: Path
    bucket: Bucket
    project: str
    codebuild: Any
    ecr: Any
    logs: "CloudWatchLogsClient"
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def handle(self, request: Record, seconds: float) -> None:
        """Respond to a custom resource's Create, Update or Delete, or start the build for it.

        seconds: what is left of the invocation.
        """
        if request["RequestType"] == "Delete":
            # A replaced image may still serve a model; all are deleted with their repository.
            self._discard_orders(request)
            _respond(request, request["PhysicalResourceId"])
            return
        try:
            uri = self._provide(request, self._deadline(seconds))
        except Exception as error:  # noqa: BLE001 - CloudFormation would wait an hour for it
            logger.exception("no build could be started")
            self._discard_orders(request)
            _respond(request, _known_id(request), str(error))
        else:
            if uri is not None:
                _respond(request, uri)

    def build_ended(self, detail: Record, seconds: float) -> None:
        """Respond to the request whose build has ended. detail: the event's; seconds: as above."""
        deadline = self._deadline(seconds)
        about = detail["additional-information"]
        variables = {
            variable["name"]: variable["value"]
            for variable in about["environment"]["environment-variables"]
        }
        if not {"ASKED", "BUILD"} <= variables.keys():
            logger.info("the build was started by others", extra={"build": detail["build-id"]})
            return
        try:
            # The policy that lets this role use the user's key may be seconds old.
            order = self._once_permitted(True, lambda: self._order(variables["ASKED"]))
        except ObjectMissing:
            logger.info("response was sent before", extra={"build": detail["build-id"]})
            return
        if int(variables["BUILD"]) < order.builds:
            logger.info("built again since", extra={"build": detail["build-id"]})
            return
        try:
            # Also after a failure: another build may have pushed the same immutable tag first.
            if not self._is_there(order.repository, order.uri):
                if self._was_refused_too_early(order, about):
                    self.sleep(_SECONDS_BEFORE_A_REBUILD)
                    self._build_again(order, deadline)
                    return
                if detail["build-status"] != "SUCCEEDED":
                    raise ImageError(self._why(order.uri, detail["build-status"], about))
                raise ImageError(f"{order.uri}: its build succeeded, and it is not in the registry")
        except Exception as error:  # noqa: BLE001 - CloudFormation would wait an hour for it
            logger.exception("no image")
            _respond(order.request, _known_id(order.request), str(error))
        else:
            _respond(order.request, order.uri)
        self._discard(order)

    def _deadline(self, seconds: float) -> float:
        return self.clock() + min(MOST_SECONDS_FOR_A_START, seconds - _RESERVE_SECONDS)

    def _provide(self, request: Record, deadline: float) -> str | None:
        """The image's address, or None while it is being built."""
        properties = request["ResourceProperties"]
        image, variant = properties["Image"], properties.get("Variant", "")
        base = properties.get("Base", "")
        arguments = _given(properties, BUILD_ARGUMENTS | VARIANT_ARGUMENTS)
        sources = collect(self.context, image, variant, base, arguments)
        uri = f"{properties['RepositoryUri']}:{sources.tag}"
        new = _has_new_permissions(request)
        if self._once_permitted(new, lambda: self._is_there(properties["Repository"], uri)):
            return uri
        variables = {
            "IMAGE_URI": uri,
            "DOCKERFILE": dockerfile_of(image, variant),
            **({"BASE": base} if base else {}),
            **arguments,
            **_given(properties, UNTAGGED),
        }
        order = self._once_permitted(
            new, lambda: self._recorded(request, image, sources, uri, variables)
        )
        self._start(order, deadline)
        return None

    def _recorded(
        self, request: Record, image: str, sources: Sources, uri: str, variables: dict[str, str]
    ) -> Order:
        """The order of this request; the same one where the request is repeated."""
        key = f"{_orders_of(request)}{request['RequestId']}.json"
        try:
            return self._order(key)
        except ObjectMissing:
            pass
        sources_key = f"{layout.BUILD}{image}/{sources.tag}.zip"
        put = self.bucket.client.put_object(
            Bucket=self.bucket.name, Key=sources_key, Body=sources.zip()
        )
        order = Order(key, request, uri, sources_key, put.get("VersionId"), variables)
        # The request's pre-signed address is confidential: it is not among the build's variables.
        if not self.bucket.write_json(key, json.dumps(asdict(order)).encode()):
            return self._order(key)
        return order

    def _order(self, key: str) -> Order:
        """Raises ObjectMissing."""
        body, _ = self.bucket.read(key)
        return Order(**json.loads(body))

    def _start(self, order: Order, deadline: float) -> None:
        """Start the build, again while the account's build quota is used. Raises ImageError."""
        while True:
            try:
                self._once_permitted(order.is_new, lambda: self._start_build(order))
            except ClientError as error:
                if error_code(error) not in _BUSY:
                    raise
                message = error.response["Error"].get("Message", "")
                if _NO_BUILDS_AT_ALL.search(message):
                    raise ImageError(_quota_used(message, "no build at all")) from error
                if self.clock() + _SECONDS_BETWEEN_STARTS > deadline:
                    raise ImageError(_quota_used(message, "no build for too long")) from error
                logger.info("the build quota is in use", extra={"reason": message})
                self.sleep(_SECONDS_BETWEEN_STARTS)
                if self._awaited(order) is None:
                    return
            else:
                return

    def _awaited(self, order: Order) -> str | None:
        """The record's ETag, or None where CloudFormation has cancelled the request meanwhile."""
        try:
            return self.bucket.head(order.key).etag
        except ObjectMissing:
            logger.info("the request was cancelled", extra={"image": order.uri})
            return None

    def _start_build(self, order: Order) -> None:
        variables = {**order.variables, "ASKED": order.key, "BUILD": str(order.builds)}
        version = {"sourceVersion": order.sources_version} if order.sources_version else {}
        self.codebuild.start_build(
            projectName=self.project,
            sourceTypeOverride="S3",
            sourceLocationOverride=f"{self.bucket.name}/{order.sources_key}",
            environmentVariablesOverride=[
                {"name": name, "value": value, "type": "PLAINTEXT"}
                for name, value in variables.items()
            ],
            # For five minutes the same token is the same build.
            idempotencyToken=f"{order.request['RequestId']}-{order.builds}",
            **version,
        )

    def _build_again(self, order: Order, deadline: float) -> None:
        """Started before it is recorded: when interrupted in between, the event is retried."""
        again = replace(order, builds=order.builds + 1)
        etag = self._awaited(order)
        if etag is not None:
            self._start(again, deadline)
            self.bucket.write_json(order.key, json.dumps(asdict(again)).encode(), replacing=etag)

    def _was_refused_too_early(self, order: Order, about: Record) -> bool:
        """Whether the build failed since its role's policy had no effect yet.

        It fails in the phase QUEUED then, or where it fetches its sources (tmokmss/
        deploy-time-build #72).
        """
        if not order.is_new or order.builds >= _MOST_BUILDS:
            return False
        return any(
            phase["phase-type"] in _BEFORE_THE_BUILD
            and _REFUSED.search(" ".join(phase.get("phase-context", [])))
            for phase in _failed_phases(about)
        )

    def _once_permitted(self, new: bool, call: Callable[[], T]) -> T:
        """What `call` returns; repeated while it is denied, where permissions may be `new`."""
        for seconds in _UNTIL_IAM_KNOWS if new else ():
            try:
                return call()
            except ClientError as error:
                if not _is_denied(error):
                    raise
                logger.info(
                    "access denied; retried, as the policy may be new", extra={"reason": str(error)}
                )
            self.sleep(seconds)
        return call()

    def _discard_orders(self, request: Record) -> None:
        """Delete what is left of earlier requests for this resource, which are over.

        A bucket of a stack that could not be created is deleted with it only if it is empty.
        """
        try:
            for version in self._versions(_orders_of(request)):
                try:
                    self._discard(self._order(version["Key"]))
                except ObjectMissing:
                    self._delete(version["Key"])
        except ClientError:
            logger.exception("some sources could not be deleted; they expire")

    def _discard(self, order: Order) -> None:
        """The order itself is deleted last: by it, a repeat finds what is left."""
        self._delete(order.sources_key)
        self._delete(order.key)

    def _delete(self, key: str) -> None:
        """Delete all versions of an object."""
        for version in self._versions(key):
            if version["Key"] == key:
                self.bucket.client.delete_object(
                    Bucket=self.bucket.name, Key=key, VersionId=version["VersionId"]
                )

    def _versions(self, prefix: str) -> list[Any]:
        """At most 1,000 of them; there are a few."""
        found = self.bucket.client.list_object_versions(Bucket=self.bucket.name, Prefix=prefix)
        return [*found.get("Versions", []), *found.get("DeleteMarkers", [])]

    def _is_there(self, repository: str, uri: str) -> bool:
        """Raises ImageError where SageMaker would refuse the image."""
        tag = uri.rpartition(":")[2]
        try:
            described = self.ecr.describe_images(
                repositoryName=repository, imageIds=[{"imageTag": tag}]
            )
        except ClientError as error:
            if error_code(error) == "ImageNotFoundException":
                return False
            raise
        for found in described["imageDetails"]:
            kind = found.get("imageManifestMediaType", DOCKER_MANIFEST)
            if kind != DOCKER_MANIFEST:
                raise ImageError(f"{uri} is a {kind}, and SageMaker takes {DOCKER_MANIFEST} only")
        return bool(described["imageDetails"])

    def _why(self, uri: str, status: str, about: Record) -> str:
        """The phase that failed, with CodeBuild's reason, and the last lines of the build's log."""
        phases = [
            f"{phase['phase-type']}: {' '.join(phase.get('phase-context', []))}"
            for phase in _failed_phases(about)
        ]
        reason = "; ".join([f"building {uri} ended as {status}", *phases])
        return " | ".join([reason, *self._last_lines(about.get("logs", {}))])

    def _last_lines(self, logs: Record) -> list[str]:
        if not {"group-name", "stream-name"} <= logs.keys():
            return []
        try:
            events = self.logs.get_log_events(
                logGroupName=logs["group-name"], logStreamName=logs["stream-name"], limit=100
            )["events"]
        except ClientError as error:  # it may have ended before it had a log
            logger.warning("the build's log cannot be read", extra={"reason": str(error)})
            return []
        lines = [event["message"].rstrip() for event in events]
        # CodeBuild's own lines repeat the phases.
        own = [line for line in lines if line and not line.startswith("[Container]")]
        return own[-_LAST_LINES:]


def _given(properties: Record, variables: Mapping[str, str]) -> dict[str, str]:
    """The variables of those properties that are not empty. variables: by property."""
    return {
        variable: properties[name] for name, variable in variables.items() if properties.get(name)
    }


def _failed_phases(about: Record) -> list[Record]:
    return [
        phase
        for phase in about.get("phases", [])
        if phase.get("phase-status") not in (None, "SUCCEEDED")
    ]


def _orders_of(request: Record) -> str:
    """The prefix of a resource's orders."""
    return f"{ASKED}{request['LogicalResourceId']}/"


def _has_new_permissions(request: Record) -> bool:
    """Whether a policy that the request needs may be seconds old: those of a new stack are created
    just before its images, and the one for a key whenever a stack is given one."""
    return request["RequestType"] == "Create" or bool(request["ResourceProperties"].get("Key"))


def _is_denied(error: ClientError) -> bool:
    return error_code(error) in _DENIED or _ROLE_UNKNOWN in str(error)


def _quota_used(message: str, what: str) -> str:
    return (
        f"CodeBuild let this account start {what}: {message}. Wait for the account's other builds "
        "and deploy again, or have AWS raise the quota of CodeBuild that is called 'Concurrently "
        "running builds for Linux/Small environment', by Service Quotas or AWS Support; a new "
        "account may need a valid method of payment first"
    )


def _known_id(request: Record) -> str:
    """The physical id where there is no image: the one in use, or the resource's logical id."""
    return str(request.get("PhysicalResourceId", request["LogicalResourceId"]))


def _respond(request: Record, physical_id: str, failure: str | None = None) -> None:
    """Send CloudFormation the response, at the request's address. Raises URLError."""
    body = {
        "Status": "SUCCESS" if failure is None else "FAILED",
        "Reason": (failure or "").encode()[:_MAX_REASON_BYTES].decode(errors="ignore"),
        "PhysicalResourceId": physical_id,
        **{name: request[name] for name in ("StackId", "RequestId", "LogicalResourceId")},
    }
    # The signature covers an empty content type.
    put = urllib.request.Request(  # noqa: S310 - CloudFormation's own, signed https address
        request["ResponseURL"],
        data=json.dumps(body, ensure_ascii=False).encode(),
        headers={"Content-Type": ""},
        method="PUT",
    )
    with urllib.request.urlopen(put, timeout=_RESPONSE_SECONDS):  # noqa: S310
        logger.info("response sent", extra={"status": body["Status"], "image": physical_id})
