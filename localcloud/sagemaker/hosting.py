"""Hosts endpoints by SageMaker's container contract: /opt/ml/model, `serve`, /ping, /invocations.

Each endpoint is one process on a free port of 127.0.0.1, called through InvokeEndpoint only.
"""

import http.client
import json
import logging
import random
import tarfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import botocore.exceptions

from localcloud.containers.images import ImageError
from localcloud.containers.processes import ContainerProcess
from localcloud.containers.runtime import SHUTDOWN_GRACE, RoleError, Runtime
from localcloud.emulator import events
from localcloud.emulator.service import Response, ServiceError
from localcloud.faults import InvokeFault
from localcloud.ports import free_port
from localcloud.probe import responds
from localcloud.sagemaker.unpacking import extract
from localcloud.settings import ACCOUNT, HOST, REGION

log = logging.getLogger("localcloud.hosting")

Record = dict[str, Any]

LOG_GROUP = "/aws/sagemaker/Endpoints/"
OPT_ML = "/opt/ml"
REALTIME_LIMIT = 6 * 1024 * 1024
SERVERLESS_LIMIT = 4 * 1024 * 1024
INVOCATION_SECONDS = 60.0
STARTUP_SECONDS = 180.0
"""The time until /ping has to return 200, unless the variant has its own limit."""
IN_PROGRESS = ("Creating", "Updating", "SystemUpdating", "RollingBack")
"""Statuses in which an endpoint can be neither changed nor deleted."""
_SERVING = ("InService", "Updating", "SystemUpdating", "RollingBack")
NO_CAPACITY = (
    "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. "
    "Please retry using a different ML instance type or after some time."
)
_SYSTEM_UPDATE_SECONDS = 3.0
_PING_SECONDS = 0.1
_RESTART_SECONDS = 1.0
_FORWARDED = ("content-type", "accept", "x-amzn-sagemaker-custom-attributes")


class StartFailed(Exception):
    """The endpoint becomes Failed; the message is its FailureReason."""


@dataclass(slots=True)
class _Server:
    """The process behind one endpoint."""

    process: ContainerProcess
    port: int
    healthy: bool = False
    ended: threading.Event = field(default_factory=threading.Event)
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=3))


class Hosting:
    """Endpoints, each with a thread that keeps its process running."""

    def __init__(self, runtime: Runtime, tags_of: Callable[[str], list[Record]]):
        self._runtime = runtime
        self._state = runtime.state
        self._endpoints = self._state.table("sagemaker.endpoints")
        self._tags = self._state.table("sagemaker.tags")
        self._tags_of = tags_of
        self._servers: dict[str, _Server] = {}
        self._slots: dict[str, threading.BoundedSemaphore] = {}

    def start(self, endpoint: Record) -> None:
        threading.Thread(
            target=self._keep_running,
            args=(endpoint,),
            name=f"endpoint-{endpoint['EndpointName']}",
            daemon=True,
        ).start()

    def resume(self) -> None:
        """After a restart: start every endpoint that was in service, without an event if it starts;
        continue the creation or removal of the others."""
        for endpoint in list(self._endpoints.values()):
            if endpoint["EndpointStatus"] == "Deleting":
                self._remove(endpoint)
            elif endpoint["EndpointStatus"] in ("Creating", *_SERVING):
                if endpoint["EndpointStatus"] != "Creating":
                    endpoint["EndpointStatus"] = "InService"
                self.start(endpoint)

    def stop(self) -> None:
        """End every server; the endpoints' records stay unchanged, for the next start."""
        threads = [
            threading.Thread(target=server.process.stop, args=(SHUTDOWN_GRACE,))
            for server in self._servers.values()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def delete(self, endpoint: Record) -> None:
        self._change(endpoint, "Deleting")

        def remove() -> None:
            if server := self._servers.get(endpoint["EndpointName"]):
                server.process.stop()
            self._remove(endpoint)

        threading.Thread(target=remove, daemon=True).start()

    def kill_one(self, chance: random.Random) -> bool:
        """SIGKILL the process of one healthy endpoint; returns whether there was one."""
        servers = [
            server
            for server in self._servers.values()
            if server.healthy and not server.ended.is_set()
        ]
        if servers:
            chance.choice(servers).process.kill()
        return bool(servers)

    def update_one(self, chance: random.Random) -> bool:
        """Set one endpoint in service to SystemUpdating for a while: it responds, but cannot be
        changed. Returns whether there was one. RULE: system-updating"""
        names = [
            name for name, one in self._endpoints.items() if one["EndpointStatus"] == "InService"
        ]
        if not names:
            return False
        endpoint = self._endpoints[chance.choice(names)]
        self._change(endpoint, "SystemUpdating")

        def end() -> None:
            if endpoint["EndpointStatus"] == "SystemUpdating":
                self._change(endpoint, "InService")

        timer = threading.Timer(_SYSTEM_UPDATE_SECONDS, end)
        timer.daemon = True
        timer.start()
        return True

    # ---- invocations

    def invoke(self, name: str, headers: Mapping[str, str], body: bytes) -> Response:
        """InvokeEndpoint, with the limits and the errors of the real one. RULE: invoke-size"""
        endpoint = self._endpoints.get(name)
        server = self._servers.get(name)
        if endpoint is None or endpoint["EndpointStatus"] not in _SERVING or server is None:
            message = f"Endpoint {name} of account {ACCOUNT} not found."
            return ServiceError("ValidationError", message).response()
        variant = endpoint["_variant"]
        limit = SERVERLESS_LIMIT if "ServerlessConfig" in variant else REALTIME_LIMIT
        if len(body) > limit:
            message = f"HTTP content length exceeded {limit} bytes."
            return ServiceError("413", message, 413).response()
        fault = self._runtime.faults.invoke_fault()
        if fault is InvokeFault.FAILED:
            return _model_error(name, 500, "injected by `python -m localcloud faults`")
        slots = self._slots[name]
        if fault is InvokeFault.THROTTLED or not slots.acquire(blocking=False):
            return ServiceError("ThrottlingException", "Rate exceeded", 429).response()
        try:
            status, response_headers, response = _forward(server.port, headers, body)
        except TimeoutError:
            return _model_error(
                name,
                0,
                "Your invocation timed out while waiting for a response from container primary. "
                "Review the latency metrics for each container in Amazon CloudWatch, resolve the "
                "issue, and try again.",
            )
        except (OSError, http.client.HTTPException) as error:
            return _model_error(name, 500, f"the container sent no response: {error}")
        finally:
            slots.release()
        if not 200 <= status < 300:
            return _model_error(name, status, response.decode("utf-8", "replace"))
        shown = {"x-amzn-invoked-production-variant": variant["VariantName"]}
        for header in ("content-type", "x-amzn-sagemaker-custom-attributes"):
            if header in response_headers:
                shown[header] = response_headers[header]
        return 200, shown, response

    # ---- the process

    def _keep_running(self, endpoint: Record) -> None:
        name = endpoint["EndpointName"]
        restarted = endpoint["EndpointStatus"] == "InService"
        variant = endpoint["_variant"]
        serverless = variant.get("ServerlessConfig", {})
        # A real-time endpoint queues; this bound protects the server's threads from one client.
        self._slots[name] = threading.BoundedSemaphore(serverless.get("MaxConcurrency", 200))
        try:
            if not serverless and not restarted and self._runtime.faults.lacks_capacity():
                raise StartFailed(NO_CAPACITY)
            while not self._is_ended(endpoint):
                server = self._launch(endpoint)
                self._wait_until_healthy(endpoint, server)
                if endpoint["EndpointStatus"] == "Creating":
                    self._change(endpoint, "InService")
                elif restarted:
                    log.info("endpoint %s is in service again", name)
                server.ended.wait()
                if not self._is_ended(endpoint):
                    self._write(endpoint, "the container ended and is restarted")
                    time.sleep(_RESTART_SECONDS)
        except (StartFailed, ImageError, RoleError, botocore.exceptions.ClientError) as error:
            self._fail(endpoint, str(error))
        except Exception as error:  # the fault of the local cloud: the endpoint must still end
            log.exception("endpoint %s", name)
            self._fail(endpoint, f"The local cloud failed to serve the endpoint: {error!r}")

    def _is_ended(self, endpoint: Record) -> bool:
        served = endpoint["EndpointStatus"] in ("Creating", *_SERVING)
        return self._runtime.shutting_down.is_set() or not served

    def _launch(self, endpoint: Record) -> _Server:
        model = endpoint["_model"]
        container = model["PrimaryContainer"]
        image = self._runtime.image(container["Image"], lambda line: self._write(endpoint, line))
        credentials = self._runtime.assume(model["ExecutionRoleArn"], "sagemaker.amazonaws.com")
        base = self._runtime.work_folder(_work_name(endpoint))
        (base / "tmp").mkdir()
        self._download_model(container.get("ModelDataUrl"), base, self._runtime.s3(credentials))
        port = free_port()
        mounts = {OPT_ML: base}
        environment = {
            **credentials.environment(self._runtime.settings),
            "SAGEMAKER_BASE_DIR": str(base),
            "SAGEMAKER_BIND_TO_PORT": str(port),
            "SERVE_HOST": HOST,
            "HOME": str(base),
            "TMPDIR": str(base / "tmp"),
            **container.get("Environment", {}),
        }
        lines: deque[str] = deque(maxlen=3)

        def on_line(line: str) -> None:
            lines.append(line)
            self._write(endpoint, line)

        process = ContainerProcess(
            image.command(["serve"], mounts=mounts),
            cwd=image.workdir,
            environment=image.run_environment(environment, mounts),
            on_line=on_line,
        )
        server = _Server(process, port, last_lines=lines)

        def run() -> None:
            try:
                process.run()
            except OSError as error:
                on_line(f"the container cannot be started: {error}")
            finally:
                server.ended.set()

        self._servers[endpoint["EndpointName"]] = server
        threading.Thread(target=run, name=f"serve-{port}", daemon=True).start()
        if self._is_ended(endpoint):
            process.stop()  # deleted during the download
        return server

    def _download_model(self, url: str | None, base: Path, s3: Any) -> None:
        target = base / "model"
        target.mkdir()
        if not url:
            return
        parsed = urlparse(url)
        archive = base / "model.tar.gz"
        try:
            s3.download_file(parsed.netloc, parsed.path.lstrip("/"), str(archive))
        except botocore.exceptions.ClientError as error:
            raise StartFailed(
                f"Failed to download model data from {url}: {error}. Please ensure that there is "
                "an object located at the URL and that the role passed to CreateModel has "
                "permissions to download the object."
            ) from error
        try:
            extract(archive, target)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise StartFailed(f"Failed to extract model data archive {url}: {error}") from error
        archive.unlink()

    def _wait_until_healthy(self, endpoint: Record, server: _Server) -> None:
        """Raises StartFailed when the container ends, or when /ping does not return 200 in time."""
        variant = endpoint["_variant"]
        limit = variant.get("ContainerStartupHealthCheckTimeoutInSeconds", STARTUP_SECONDS)
        until = time.monotonic() + limit
        problem = f"it did not return 200 within {limit:.0f} s"
        while time.monotonic() < until:
            if responds(server.port, "/ping", seconds=2):
                server.healthy = True
                return
            if server.ended.wait(_PING_SECONDS):
                problem = "it ended; its last lines: " + " | ".join(server.last_lines)
                break
        server.process.stop()
        if self._is_ended(endpoint):
            return
        raise StartFailed(
            f"The primary container for production variant {variant['VariantName']} did not pass "
            f"the ping health check: {problem}. Please check CloudWatch logs for this endpoint."
        )

    # ---- logs, status and events

    def _write(self, endpoint: Record, line: str) -> None:
        variant = endpoint["_variant"]["VariantName"]
        self._runtime.logs.write(LOG_GROUP + endpoint["EndpointName"], f"{variant}/local", line)

    def _fail(self, endpoint: Record, reason: str) -> None:
        if self._is_ended(endpoint):
            return
        self._write(endpoint, reason)
        self._runtime.logs.flush()
        with self._state.lock:
            endpoint["FailureReason"] = reason[:1024]
        self._runtime.remove_work_folder(_work_name(endpoint))
        self._change(endpoint, "Failed")

    def _change(self, endpoint: Record, status: str) -> None:
        with self._state.lock:
            if endpoint["EndpointStatus"] == "Deleting":
                return
            endpoint["EndpointStatus"] = status
            endpoint["LastModifiedTime"] = time.time()
            if status == "InService":
                endpoint["ProductionVariants"] = [_variant_summary(endpoint["_variant"])]
            self._state.save()
            shown = json.loads(json.dumps(endpoint))
        tags = self._tags_of(endpoint["EndpointArn"])
        self._runtime.send_event(events.endpoint_changed(shown, tags))

    def _remove(self, endpoint: Record) -> None:
        name = endpoint["EndpointName"]
        with self._state.lock:
            self._endpoints.pop(name, None)
            self._tags.pop(endpoint["EndpointArn"], None)
            self._servers.pop(name, None)
            self._state.save()
        self._runtime.remove_work_folder(_work_name(endpoint))


def _work_name(endpoint: Record) -> str:
    return f"endpoint-{endpoint['EndpointName']}"


def _variant_summary(variant: Record) -> Record:
    weight = variant.get("InitialVariantWeight", 1.0)
    summary = {
        "VariantName": variant["VariantName"],
        "CurrentWeight": weight,
        "DesiredWeight": weight,
    }
    if "ServerlessConfig" in variant:
        return {**summary, "CurrentServerlessConfig": variant["ServerlessConfig"]}
    count = variant["InitialInstanceCount"]
    return {**summary, "CurrentInstanceCount": count, "DesiredInstanceCount": count}


def _forward(
    port: int, headers: Mapping[str, str], body: bytes
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(HOST, port, timeout=INVOCATION_SECONDS)
    try:
        passed = {name: headers[name] for name in _FORWARDED if headers.get(name)}
        connection.request("POST", "/invocations", body, passed)
        response = connection.getresponse()
        content = response.read()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, content
    finally:
        connection.close()


def _model_error(name: str, status: int, original: str) -> Response:
    side = "client" if 400 <= status < 500 else "server"
    console = f"https://{REGION}.console.aws.amazon.com/cloudwatch/home?region={REGION}"
    return ServiceError(
        "ModelError",
        f'Received {side} error ({status}) from primary with message "{original}". See '
        f"{console}#logEventViewer:group={LOG_GROUP}{name} in account {ACCOUNT} for more "
        "information.",
        424,
        OriginalStatusCode=status,
        OriginalMessage=original,
        LogStreamArn=f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{LOG_GROUP}{name}",
    ).response()
