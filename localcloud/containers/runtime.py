"""The environment of containers, shared by Batch, SageMaker and CodeBuild."""

import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import boto3
import botocore.exceptions
from botocore.config import Config

from localcloud.containers.images import Image, ImageStore, check_runs_here, image_name
from localcloud.containers.log_shipper import LogShipper
from localcloud.credentials import operator_key
from localcloud.emulator.authorization import Permission
from localcloud.emulator.events import Event
from localcloud.emulator.quotas import Quotas
from localcloud.emulator.service import Request, ServiceError
from localcloud.emulator.state import State
from localcloud.faults import FaultInjector
from localcloud.settings import REGION, LocalCloudError, Settings

log = logging.getLogger("localcloud")

SHUTDOWN_GRACE = 3.0
"""Seconds between SIGTERM and SIGKILL for a container when the whole cloud goes down."""


class ShuttingDown(Exception):
    """The cloud shuts down: records stay unchanged, for the next start to continue."""


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


class Runtime:
    """Images, credentials, logs and folders of containers.

    Methods that call AWS must run in a worker thread: the event loop answers those calls.
    """

    def __init__(
        self,
        settings: Settings,
        build_environment: Mapping[str, str],
        *,
        append_log: Callable[[str, str, list[tuple[int, str]]], None],
        send_event: Callable[[Event], None],
        denial: Callable[[Request, Permission], str | None],
        issue: Callable[[str, str], tuple[str, str, str]],
    ):
        """`append_log` writes (epoch ms, line) to a group's stream; `send_event` puts an event on
        the default bus; `denial` returns why the sender of a request lacks a permission, or None;
        `issue` returns (key, secret, token) of a new session, by role ARN and session name."""
        self.settings = settings
        operator = operator_key(settings)
        self._operator = Credentials(operator.key, operator.secret, "")
        self.state = State(settings.records_file)
        self.quotas = Quotas(settings.quotas_file)
        self.logs = LogShipper(append_log)
        self.send_event = send_event
        self._denial = denial
        self._issue = issue
        self._build_environment = build_environment
        self._images = self._images_of(settings.context)
        self.faults = FaultInjector(settings.faults_file)
        self.shutting_down = threading.Event()
        self.processors = max(2, os.cpu_count() or 2)
        self._slots = threading.BoundedSemaphore(self.processors)

    @property
    def slots(self) -> threading.BoundedSemaphore:
        """Acquired by each running job: as many run at once as this machine has processors."""
        return self._slots

    def authorizer(
        self, needed: Callable[[str, dict[str, Any]], Iterable[Permission]]
    ) -> Callable[[Request, str, dict[str, Any]], None]:
        """The permission check that a service's front calls before each operation."""

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
        """The folder that represents a pushed image: the sources that it was built from."""
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
        """Credentials of the role, if it exists and trusts `service`. Raises RoleError, also while
        a new role has not propagated. RULE: iam-propagation"""
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

    def raise_if_shutting_down(self) -> None:
        """Raises ShuttingDown where the cloud shuts down: a container that ended was stopped."""
        if self.shutting_down.is_set():
            raise ShuttingDown

    def remove_work_folder(self, name: str) -> None:
        shutil.rmtree(self.settings.work / name, ignore_errors=True)

    def _client(self, service: str, credentials: Credentials | None = None) -> Any:
        used = credentials or self._operator
        connect: Any = boto3.client  # typed for literal service names only
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
