"""CodeBuild's builds of container images, without Docker: the zip in, an image out, an event sent.

Of the buildspec nothing is carried out: like the template's, a build takes a Dockerfile's image
(variables IMAGE_URI and DOCKERFILE) from the zip that its start names, under the project's role.
What stands for the pushed image is the unpacked zip, from which images.py builds, once, and starts.
An image that is made from another of the stack (variable BASE) is refused: that takes Docker.
"""

import io
import json
import logging
import shutil
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from localcloud.events import build_changed
from localcloud.images import image_name
from localcloud.runtime import Runtime
from localcloud.settings import LocalCloudError

log = logging.getLogger("localcloud.codebuild")

Record = dict[str, Any]


class CodeBuild:
    """Carries out builds, each in its caller's thread, one after the other."""

    def __init__(self, runtime: Runtime):
        self._runtime = runtime
        self._turn = threading.Lock()

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
                self._make(variables["IMAGE_URI"], project, request["sourceLocationOverride"], say)
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

    def _make(self, uri: str, project: Record, location: str, say: Any) -> None:
        credentials = self._runtime.assume(project["serviceRole"], "codebuild.amazonaws.com")
        bucket, _, key = location.partition("/")
        body = self._runtime.s3(credentials).get_object(Bucket=bucket, Key=key)["Body"].read()
        folder = self._runtime.pushed_sources(uri)
        half = folder.with_name(folder.name + ".new")
        shutil.rmtree(half, ignore_errors=True)
        _unpack(body, half)
        name = image_name(uri)
        try:
            image = self._runtime.build_image(name, half, say)
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
    folder.mkdir(parents=True)
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        archive.extractall(folder)  # which keeps names inside the folder
