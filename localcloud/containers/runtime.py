"""What every container gets here: an image, a role's credentials, a log stream, a folder."""

import json
import logging
import os
import queue
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import boto3
import botocore.exceptions
from botocore.config import Config

from localcloud.containers.images import Image, ImageStore, check_runs_here, image_name
from localcloud.credentials import operator_key
from localcloud.emulator.authorization import Permission
from localcloud.emulator.events import Event
from localcloud.emulator.quotas import Quotas
from localcloud.emulator.service import Request, ServiceError
from localcloud.emulator.state import State
from localcloud.faults import FaultInjector
from localcloud.settings import REGION, LocalCloudError, Settings

log = logging.getLogger("localcloud")

SHIP_SECONDS = 0.2
"""How long a log line waits at most, so that a chatty job costs a few calls a second."""


GOING_DOWN_GRACE = 3.0
"""Seconds between SIGTERM and SIGKILL for a container when the whole cloud goes down."""


class GoingDown(Exception):
    """The cloud is being shut down: leave everything as it is, for the next start to take up."""


class RoleError(LocalCloudError):
    """A role that the service may not assume."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Temporary credentials of one role."""

    key: str
    secret: str
    token: str

    def environment(self, settings: Settings) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": settings.url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_SESSION_TOKEN": self.token,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


class LogShipper:
    """Carries log lines to CloudWatch Logs from one background thread, in order."""

    def __init__(self, append: Callable[[str, str, list[tuple[int, str]]], None]):
        self._append = append
        self._lines: queue.Queue[tuple[str, str, int, str]] = queue.Queue()
        threading.Thread(target=self._ship, name="log-shipper", daemon=True).start()

    def write(self, group: str, stream: str, line: str) -> None:
        self._lines.put((group, stream, int(time.time() * 1000), line))

    def flush(self) -> None:
        """Wait until every line written before has arrived."""
        self._lines.join()

    def _ship(self) -> None:
        while True:
            first = self._lines.get()
            time.sleep(SHIP_SECONDS)
            batch = [first]
            while not self._lines.empty():
                batch.append(self._lines.get())
            streams = defaultdict(list)
            for group, stream, at, line in batch:
                streams[group, stream].append((at, line))
            for (group, stream), lines in streams.items():
                try:
                    self._append(group, stream, lines)
                except Exception:  # the next lines may fare better; the server's log has these
                    log.exception("could not write %d lines to %s %s", len(lines), group, stream)
            for _ in batch:
                self._lines.task_done()


class Runtime:
    """Shared by Batch and SageMaker; methods that call AWS must run in a worker thread."""

    def __init__(
        self,
        settings: Settings,
        build_environment: Mapping[str, str],
        *,
        append_log: Callable[[str, str, list[tuple[int, str]]], None],
        announce: Callable[[Event], None],
        denial: Callable[[Request, Permission], str | None],
        issue: Callable[[str, str], tuple[str, str, str]],
    ):
        """`append_log` writes (epoch ms, line) to a group's stream; `announce` sends an event;
        `denial` says why the sender of a request lacks a permission, or None if it has it; `issue`
        gives the (key, secret, token) of a role's session by the role's ARN and a session name."""
        self.settings = settings
        operator = operator_key(settings)
        self._operator = Credentials(operator.key, operator.secret, "")
        self.state = State(settings.records_file)
        self.quotas = Quotas(settings.quotas_file)
        self.logs = LogShipper(append_log)
        self.announce = announce
        self._denial = denial
        self._issue = issue
        self._build_environment = build_environment
        self._images = self._images_of(settings.context)
        self.faults = FaultInjector(settings.faults_file)
        self.going_down = threading.Event()
        self.processors = max(2, os.cpu_count() or 2)
        self._slots = threading.BoundedSemaphore(self.processors)

    @property
    def slots(self) -> threading.BoundedSemaphore:
        """Taken by each running job: as many run at once as this machine has processors."""
        return self._slots

    def authorizer(
        self, needed: Callable[[str, dict[str, Any]], Iterable[Permission]]
    ) -> Callable[[Request, str, dict[str, Any]], None]:
        """What a service's front asks before each operation."""

        def authorize(request: Request, operation: str, parameters: dict[str, Any]) -> None:
            for permission in needed(operation, parameters):
                if reason := self._denial(request, permission):
                    log.warning(reason)
                    raise ServiceError("AccessDeniedException", reason, 403)

        return authorize

    def image(self, uri: str, report: Callable[[str], None]) -> Image:
        """Raises ImageError for an image that cannot run here or cannot be built."""
        check_runs_here(uri)
        pushed = self.pushed_sources(uri)
        store = self._images_of(pushed) if pushed.is_dir() else self._images
        return store.get(image_name(uri), report)

    def pushed_sources(self, uri: str) -> Path:
        """The folder that stands for a pushed image: the sources that it was built from."""
        return self.settings.state / "pushed" / uri.rpartition("/")[2].replace(":", "/")

    def build_image(
        self,
        name: str,
        context: Path,
        report: Callable[[str], None],
        arguments: Mapping[str, str],
    ) -> Image:
        """Build from the sources in `context`, with these build arguments. Raises ImageError."""
        return self._images_of(context, arguments).get(name, report)

    def ecr(self, credentials: Credentials) -> Any:
        return self._client("ecr", credentials)

    def _images_of(self, context: Path, arguments: Mapping[str, str] | None = None) -> ImageStore:
        environment = {**self._build_environment, **(arguments or {})}
        return ImageStore(context, self.settings.images, environment)

    def assume(self, role_arn: str, service: str) -> Credentials:
        """Credentials of the role, if it exists and trusts `service`. Raises RoleError, also where
        the role is too new to be known. RULE: iam-propagation"""
        try:
            role = self._client("iam").get_role(RoleName=role_arn.rsplit("/", 1)[-1])["Role"]
        except botocore.exceptions.ClientError as error:
            raise RoleError(f"Could not assume role {role_arn}: {error}") from error
        if role["Arn"] != role_arn or not _trusts(role["AssumeRolePolicyDocument"], service):
            raise RoleError(
                f"Could not assume role {role_arn}. Please ensure that the role exists and allows "
                f"principal '{service}' to assume the role."
            )
        if time.time() - role["CreateDate"].timestamp() < self.faults.active.iam_delay:
            raise RoleError(
                f"Could not assume role {role_arn}. Please ensure that the role exists and allows "
                f"principal '{service}' to assume the role."
            )
        return Credentials(*self._issue(role_arn, service.partition(".")[0]))

    def s3(self, credentials: Credentials) -> Any:
        return self._client("s3", credentials)

    def work_folder(self, name: str) -> Path:
        """A new, empty folder for one container."""
        folder = self.settings.work / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def stay_up(self) -> None:
        """Raises GoingDown when what just happened happened because the cloud goes down."""
        if self.going_down.is_set():
            raise GoingDown

    def remove_work_folder(self, name: str) -> None:
        shutil.rmtree(self.settings.work / name, ignore_errors=True)

    def _client(self, service: str, credentials: Credentials | None = None) -> Any:
        used = credentials or self._operator
        connect: Any = boto3.client  # typed for names that are written out only
        return connect(
            service,
            endpoint_url=self.settings.url,
            region_name=REGION,
            aws_access_key_id=used.key,
            aws_secret_access_key=used.secret,
            aws_session_token=used.token or None,
            config=Config(s3={"addressing_style": "path"}, retries={"mode": "standard"}),
        )


def _trusts(document: Any, service: str) -> bool:
    """Whether a trust policy lets a service principal assume the role."""
    if isinstance(document, str):
        document = json.loads(unquote(document))
    statements = document["Statement"]
    for statement in statements if isinstance(statements, list) else [statements]:
        principal = statement.get("Principal", {})
        services = principal.get("Service", []) if isinstance(principal, dict) else []
        actions = statement.get("Action", [])
        if (
            statement.get("Effect") == "Allow"
            and service in ([services] if isinstance(services, str) else services)
            and "sts:AssumeRole" in ([actions] if isinstance(actions, str) else actions)
        ):
            return True
    return False
