"""Starts and stops the processes of the local cloud."""

import fcntl
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping

from localcloud.emulator.server import prepare_folders, server_environment
from localcloud.orphans import listener_of, refuse_orphan
from localcloud.probe import responds
from localcloud.settings import HOST, LocalCloudError, Settings

START_SECONDS = 60.0
STOP_SECONDS = 45.0
"""The time that the server has to stop its containers and to write its state."""
_POLL_SECONDS = 0.1


def up(settings: Settings, caller: Mapping[str, str] = os.environ) -> bool:
    """Return once it responds: whether it had to be started. Raises LocalCloudError."""
    settings.cloud.mkdir(parents=True, exist_ok=True)
    with (settings.cloud / "up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two at once, the second finds it up
        return _up(settings, caller)


def _up(settings: Settings, caller: Mapping[str, str]) -> bool:
    if is_running(settings):
        _await_health(settings, None)
        return False
    refuse_orphan(settings)
    if not settings.lambda_python.is_file():
        raise LocalCloudError(
            f"{settings.lambda_python} is missing: the functions run on it; `make up` makes it"
        )
    if _port_is_used(settings):
        raise LocalCloudError(
            f"port {settings.port} on {HOST} is used by {listener_of(settings.port)}; choose a "
            "free one, for example DROPLENS_PORT=4577"
        )
    prepare_folders(settings)
    settings.version_file.write_text(_code_digest(settings), encoding="utf-8")
    with settings.server_log.open("w") as log:
        guard = subprocess.Popen(
            [sys.executable, "-m", "localcloud.emulator.server", "guard"],
            cwd=settings.root,
            env=server_environment(settings, caller),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _await_health(settings, guard)
    return True


def down(settings: Settings) -> bool:
    """Return when no process is left: whether there was one. Raises LocalCloudError."""
    if not is_running(settings):
        refuse_orphan(settings)
        settings.pid_file.unlink(missing_ok=True)
        return False
    until = time.monotonic() + STOP_SECONDS
    signalled = False
    while is_running(settings) and time.monotonic() < until:
        if not signalled and (pids := running_pids(settings)):
            os.kill(pids["guard"], signal.SIGTERM)
            signalled = True
        time.sleep(_POLL_SECONDS)
    if is_running(settings):
        # The guard kills what is left as soon as the server has ended.
        os.kill(running_pids(settings)["server"], signal.SIGKILL)
        while is_running(settings) and time.monotonic() < until + STOP_SECONDS:
            time.sleep(_POLL_SECONDS)
    if is_running(settings):
        raise LocalCloudError(f"it does not end; its log: {settings.server_log}")
    return True


def unfinished_jobs(settings: Settings) -> list[str]:
    """The jobs that `down` interrupts, for messages, by the state on disk."""
    try:
        tables = json.loads(settings.records_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    trainings = tables.get("sagemaker.trainingJobs", {}).values()
    packing = tables.get("batch.jobs", {}).values()
    return [
        *(
            f"training {job['TrainingJobName']}"
            for job in trainings
            if job["TrainingJobStatus"] == "InProgress"
        ),
        *(
            f"packing job {job['jobName']} ({job['jobId']})"
            for job in packing
            if job["status"] not in ("SUCCEEDED", "FAILED") and ":" not in job["jobId"]
        ),
    ]


def is_outdated(settings: Settings) -> bool:
    """Whether it runs, and was started from other code than there is now."""
    if not is_running(settings):
        return False
    try:
        started_from = settings.version_file.read_text(encoding="utf-8")
    except FileNotFoundError:  # versions before 0.2.0 did not write it
        return True
    return started_from != _code_digest(settings)


def is_running(settings: Settings) -> bool:
    """Whether the guard holds its lock, which ends with its process: no file can be stale."""
    if not settings.lock_file.is_file():
        return False
    with settings.lock_file.open("r") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def running_pids(settings: Settings) -> dict[str, int]:
    """Process ids of `guard` and `server`, and `port`; empty while the cloud starts."""
    try:
        pids: dict[str, int] = json.loads(settings.pid_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return pids


def is_healthy(settings: Settings) -> bool:
    """Whether it responds."""
    return responds(settings.port, "/_ministack/health", seconds=5)


def _code_digest(settings: Settings) -> str:
    """SHA-256 of the package's sources and its locked requirements, as hexadecimal digits."""
    folder = settings.root / "localcloud"
    digest = hashlib.sha256()
    for file in sorted([*folder.rglob("*.py"), folder / "requirements.txt"]):
        digest.update(f"{file.relative_to(folder)}\n".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _await_health(settings: Settings, guard: "subprocess.Popen[bytes] | None") -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if is_healthy(settings):
            return
        if guard is not None and guard.poll() is not None:
            break
        time.sleep(_POLL_SECONDS)
    lines = settings.server_log.read_text(encoding="utf-8", errors="replace").splitlines()
    last_lines = "\n".join(f"  {line}" for line in lines[-8:])
    raise LocalCloudError(f"it did not start; log: {settings.server_log}\n{last_lines}")


def _port_is_used(settings: Settings) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, settings.port)) == 0
