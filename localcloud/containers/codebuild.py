"""CodeBuild's builds of container images, without Docker: the zip in, an image out, an event sent.

Of the buildspec nothing is carried out: like the template's, a build takes a Dockerfile's image
(variables IMAGE_URI and DOCKERFILE) from the zip that its start names, under the project's role.
What stands for the pushed image is the unpacked zip, from which images.py builds, once, and starts.
An image that is made from another of the stack (variable BASE) is refused: that takes Docker.

As strict as AWS, docs/local-cloud.md has the sources. RULE: build-file-modes, build-concurrency,
build-tokens, build-source-versions, build-roles. The zip's file modes are restored, and a file of
the image that another user could not read fails the build here as it would fail the container
there; an account has room for as many builds as its quota says, and no queue; a start with a token
that was used within five minutes is that very start; the version of the source that is named is the
one that is read.
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
    """Carries out builds, each in its caller's thread, one after the other."""

    def __init__(self, runtime: Runtime):
        self._runtime = runtime
        self._turn = threading.Lock()

    def refusal(self, running: int) -> tuple[str, str] | None:
        """The (code, message) by which StartBuild is refused while `running` builds are."""
        limit = int(self._runtime.quotas.value(SMALL_BUILDS))
        if running < limit:
            return None
        # Not a queue, which AWS has beside it: a new account's holds nothing.
        message = f"Cannot have more than {limit} builds in queue for the account"
        return "AccountLimitExceededException", message

    def build(self, record: Record, project: Record, request: Record) -> None:
        """`record` is the build as BatchGetBuilds shows it, and told the end by an event."""
        given = request.get("environmentVariablesOverride", [])
        record["environment"] = {**record["environment"], "environmentVariables": given}
        variables = {variable["name"]: variable["value"] for variable in given}
        group = record["logs"]["groupName"]
        stream = record["id"].partition(":")[2]
        record["logs"]["streamName"] = stream

        def say(line: str) -> None:
            self._runtime.logs.write(group, stream, line)

        failure = None
        try:
            with self._turn:
                if "BASE" in variables:
                    raise LocalCloudError(
                        f"{variables['DOCKERFILE']}: without Docker no image is made from another: "
                        "on this machine deploy with Recipe=probe"
                    )
                self._make(variables, project, request, say)
        except (LocalCloudError, ClientError, zipfile.BadZipFile) as error:
            failure = str(error)
            for line in failure.splitlines():
                say(line)
        except Exception as error:  # a build never ends without a word
            log.exception("build %s", record["id"])
            failure = repr(error)
        context = [] if failure is None else [_context(failure)]
        status = "FAILED" if failure else "SUCCEEDED"
        record["phases"] = [{"phaseType": "BUILD", "phaseStatus": status, "contexts": context}]
        record |= {"buildStatus": status, "currentPhase": "COMPLETED", "endTime": int(time.time())}
        self._runtime.logs.flush()
        self._runtime.announce(build_changed(record))

    def _make(self, variables: dict[str, str], project: Record, request: Record, say: Any) -> None:
        uri = variables["IMAGE_URI"]
        credentials = self._runtime.assume(project["serviceRole"], "codebuild.amazonaws.com")
        bucket, _, key = request["sourceLocationOverride"].partition("/")
        version = request.get("sourceVersion")
        source = {"Bucket": bucket, "Key": key, **({"VersionId": version} if version else {})}
        body = self._runtime.s3(credentials).get_object(**source)["Body"].read()
        folder = self._runtime.pushed_sources(uri)
        half = folder.with_name(folder.name + ".new")
        shutil.rmtree(half, ignore_errors=True)
        _unpack(body, half)
        name = image_name(uri)
        try:
            image = self._runtime.build_image(name, half, say, variables)
            check_readable_by_others(image)
        except LocalCloudError:
            shutil.rmtree(half)
            raise
        repository, _, tag = uri.partition("/")[2].partition(":")
        self._runtime.ecr(credentials).put_image(
            repositoryName=repository,
            imageTag=tag,
            imageManifest=json.dumps({"program": str(image.program)}),
        )
        shutil.rmtree(folder, ignore_errors=True)
        half.rename(folder)
        say(f"pushed {uri}")


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
    another user. Raises LocalCloudError with what Python says there."""
    for path in sorted(image.program.rglob("*")):
        if not path.is_file() or "__pycache__" in path.parts:
            continue  # bytecode that cannot be read is made anew
        mode = path.stat().st_mode
        if not mode & stat.S_IROTH:
            inside = f"{PROGRAM}/{path.relative_to(image.program).as_posix()}"
            raise LocalCloudError(
                f"PermissionError: [Errno 13] Permission denied: {inside!r}: its mode is "
                f"{stat.filemode(mode)}, and the container runs as another user than its owner"
            )
