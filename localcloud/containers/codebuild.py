"""Runs CodeBuild's builds of container images without Docker.

The buildspec is not executed: as the template's does, a build makes the image of a Dockerfile
(variables IMAGE_URI and DOCKERFILE) in the zip that StartBuild names, with the project's role, and
sends an event when it ends. The unpacked zip represents the pushed image: images.py builds from it.
An image based on another of the stack (variable BASE) is refused: that needs Docker.

As strict as AWS; docs/local-cloud.md has the sources. RULE: build-file-modes, build-concurrency,
build-tokens, build-source-versions, build-roles. The zip's file modes are restored, and a file of
the image that another user could not read fails the build here, as it would fail the container on
AWS; an account runs as many builds as its quota allows, without a queue; StartBuild with a token
used within five minutes returns the first build; the named version of the source is read.
"""

import io
import json
import logging
import shutil
import stat
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from localcloud.containers.dockerfile import PROGRAM
from localcloud.containers.images import Image, image_name
from localcloud.containers.runtime import Runtime
from localcloud.emulator.events import build_changed
from localcloud.emulator.quotas import SMALL_BUILDS
from localcloud.settings import LocalCloudError

log = logging.getLogger("localcloud.codebuild")

Record = dict[str, Any]

TOKEN_SECONDS = 300.0
"""How long a start's idempotency token is remembered."""


class CodeBuild:
    """Runs builds one at a time, each in its caller's thread."""

    def __init__(self, runtime: Runtime):
        self._runtime = runtime
        self._build_lock = threading.Lock()

    def start_error(self, running: int) -> tuple[str, str] | None:
        """(code, message) of StartBuild's error while `running` builds run; None if it starts."""
        limit = int(self._runtime.quotas.value(SMALL_BUILDS))
        if running < limit:
            return None
        # AWS also has a queue; a new account's has no capacity.
        message = f"Cannot have more than {limit} builds in queue for the account"
        return "AccountLimitExceededException", message

    def build(self, record: Record, project: Record, request: Record) -> None:
        """Run the build of `record`, its description by BatchGetBuilds, and send its event."""
        overrides = request.get("environmentVariablesOverride", [])
        record["environment"] = {**record["environment"], "environmentVariables": overrides}
        variables = {variable["name"]: variable["value"] for variable in overrides}
        group = record["logs"]["groupName"]
        stream = record["id"].partition(":")[2]
        record["logs"]["streamName"] = stream

        def write_line(line: str) -> None:
            self._runtime.logs.write(group, stream, line)

        failure = None
        try:
            with self._build_lock:
                if "BASE" in variables:
                    raise LocalCloudError(
                        f"{variables['DOCKERFILE']}: without Docker no image is made from another: "
                        "on this machine deploy with Recipe=probe"
                    )
                self._make(variables, project, request, write_line)
        except (LocalCloudError, ClientError, zipfile.BadZipFile) as error:
            failure = str(error)
            for line in failure.splitlines():
                write_line(line)
        except Exception as error:  # a build must end with a reason
            log.exception("build %s", record["id"])
            failure = repr(error)
        context = [] if failure is None else [_context(failure)]
        status = "FAILED" if failure else "SUCCEEDED"
        record["phases"] = [{"phaseType": "BUILD", "phaseStatus": status, "contexts": context}]
        record |= {"buildStatus": status, "currentPhase": "COMPLETED", "endTime": int(time.time())}
        self._runtime.logs.flush()
        self._runtime.send_event(build_changed(record))

    def _make(
        self, variables: dict[str, str], project: Record, request: Record, write_line: Any
    ) -> None:
        uri = variables["IMAGE_URI"]
        credentials = self._runtime.assume(project["serviceRole"], "codebuild.amazonaws.com")
        bucket, _, key = request["sourceLocationOverride"].partition("/")
        version = request.get("sourceVersion")
        source = {"Bucket": bucket, "Key": key, **({"VersionId": version} if version else {})}
        body = self._runtime.s3(credentials).get_object(**source)["Body"].read()
        folder = self._runtime.pushed_sources(uri)
        unpacked = folder.with_name(folder.name + ".new")
        shutil.rmtree(unpacked, ignore_errors=True)
        _unpack(body, unpacked)
        name = image_name(uri)
        try:
            image = self._runtime.build_image(name, unpacked, write_line, variables)
            check_readable_by_others(image)
        except LocalCloudError:
            shutil.rmtree(unpacked)
            raise
        repository, _, tag = uri.partition("/")[2].partition(":")
        self._runtime.ecr(credentials).put_image(
            repositoryName=repository,
            imageTag=tag,
            imageManifest=json.dumps({"program": str(image.program)}),
        )
        shutil.rmtree(folder, ignore_errors=True)
        unpacked.rename(folder)
        write_line(f"pushed {uri}")


def _context(message: str) -> Record:
    return {"statusCode": "COMMAND_EXECUTION_ERROR", "message": message.splitlines()[0]}


def _unpack(body: bytes, folder: Path) -> None:
    """With the modes of the zip, which `extractall` drops."""
    folder.mkdir(parents=True)
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        archive.extractall(folder)  # which keeps names inside the folder
        for entry in archive.infolist():
            mode = stat.S_IMODE(entry.external_attr >> 16)
            if entry.create_system == 3 and mode:  # 3: made on Unix
                (folder / entry.filename).chmod(mode)


def check_readable_by_others(image: Image) -> None:
    """Docker's COPY makes root the owner of a file and keeps its mode; the container runs as
    another user. Raises LocalCloudError with the container's message."""
    for path in sorted(image.program.rglob("*")):
        if not path.is_file() or "__pycache__" in path.parts:
            continue  # bytecode is compiled again if it cannot be read
        mode = path.stat().st_mode
        if not mode & stat.S_IROTH:
            inside = f"{PROGRAM}/{path.relative_to(image.program).as_posix()}"
            raise LocalCloudError(
                f"PermissionError: [Errno 13] Permission denied: {inside!r}: its mode is "
                f"{stat.filemode(mode)}, and the container runs as another user than its owner"
            )
