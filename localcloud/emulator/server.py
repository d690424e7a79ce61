"""The processes of the local cloud: `guard` owns `server`, which is MiniStack with our services.

    python -m localcloud.emulator.server guard        # what `up` starts
    python -m localcloud.emulator.server serve        # what the guard starts

The guard is the parent of last resort of everything that runs in the cloud. When the server ends,
however it ends, the guard kills what it left behind; when the guard itself is killed, the kernel
tells the server, which then shuts down in order.
"""

import asyncio
import fcntl
import json
import logging
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localcloud.batch.cloudformation import install as install_batch_types
from localcloud.batch.service import Batch
from localcloud.containers.codebuild import TOKEN_SECONDS, CodeBuild
from localcloud.containers.processes import adopt_orphans, die_with_parent, kill_descendants
from localcloud.containers.runtime import Runtime
from localcloud.credentials import operator_key
from localcloud.emulator.admission import Admission
from localcloud.emulator.service_quotas import ServiceQuotas
from localcloud.sagemaker.service import SageMaker
from localcloud.settings import (
    HOST,
    REGION,
    LocalCloudError,
    Settings,
    build_environment,
)

log = logging.getLogger("localcloud")

SAVE_EVERY_SECONDS = 30.0
NOTIFICATIONS_GROUP = "sns/notifications"
# What a function sees of the server's environment besides what MiniStack gives it.
_LEFT_TO_FUNCTIONS = ("PATH", "HOME", "TMPDIR", "LANG", "TZ")


def server_environment(settings: Settings, caller: Mapping[str, str]) -> dict[str, str]:
    """The server's whole environment: nothing of the caller's but our own settings and what image
    builds need, since functions and containers start from here."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(settings.empty_home),
        "TMPDIR": str(settings.temporary),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONPATH": str(settings.root),
        **{name: value for name, value in caller.items() if name.startswith("DROPLENS_")},
        **build_environment(caller),
        "GATEWAY_PORT": str(settings.port),
        "BIND_HOST": HOST,
        "MINISTACK_HOST": HOST,
        "MINISTACK_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AUTH": caller.get("DROPLENS_AUTH", "false"),
        "PERSIST_STATE": "1",
        "STATE_DIR": str(settings.state / "ministack"),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(settings.state / "s3"),
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "DOCKER_HOST": f"unix://{settings.cloud / 'no-docker.sock'}",
        "LOG_LEVEL": caller.get("DROPLENS_LOG_LEVEL", "INFO"),
    }


# ---- guard


def guard(settings: Settings) -> int:
    """Runs until the server has ended and nothing of it is left; -> the exit code."""
    # Never closed: the lock goes with this process, so that who waits for it waits for the end.
    lock = os.open(settings.lock_file, os.O_WRONLY | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"another local cloud runs on {settings.cloud}", flush=True)
        return 1
    adopt_orphans()
    server = subprocess.Popen(
        [sys.executable, "-m", "localcloud.emulator.server", "serve"],
        preexec_fn=lambda: die_with_parent(signal.SIGTERM),
    )
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: server.send_signal(signal.SIGTERM))
    pids = {"guard": os.getpid(), "server": server.pid, "port": settings.port}
    settings.pid_file.write_text(json.dumps(pids), encoding="utf-8")
    code = server.wait()
    kill_descendants()
    settings.pid_file.unlink(missing_ok=True)
    return 0 if code == 0 else 1


# ---- server


def serve(settings: Settings) -> None:
    """MiniStack on 127.0.0.1 with Batch and SageMaker, until SIGTERM."""
    builds = build_environment(os.environ)
    interpreter = _function_interpreter(settings)

    # MiniStack reads its settings from the environment when it is imported.
    from hypercorn.asyncio import serve as serve_asgi
    from hypercorn.config import Config

    from localcloud.emulator import ministack_limits as limits
    from localcloud.emulator import ministack_patches as patches

    for name in builds:
        del os.environ[name]  # kept for image builds; no function or container may see them
    logging.getLogger("persistence").setLevel(logging.WARNING)  # a line per service and save
    runtime = Runtime(
        settings,
        builds,
        append_log=patches.append_log,
        announce=patches.put_event,
        denial=patches.denial,
        issue=patches.issue_session,
    )
    patches.issue_random_function_sessions()
    batch, sagemaker = Batch(runtime), SageMaker(runtime)
    patches.serve("batch", batch.handle)
    patches.serve("sagemaker", sagemaker.handle)
    patches.serve("servicequotas", ServiceQuotas(runtime).handle)
    patches.check_permissions_of("batch", "sagemaker", "servicequotas")
    codebuild = CodeBuild(runtime)
    patches.build_by(codebuild.build, codebuild.refusal, TOKEN_SECONDS)
    install_batch_types(batch, patches.provide_resource_type)
    patches.take_numbers_as_numbers()
    patches.split_in_conditions()
    patches.move_messages_back()
    patches.run_lambda_workers_with(interpreter)
    patches.share_unzipped_code(settings.temporary / "unzipped")
    patches.invoke_rule_targets_asynchronously()
    patches.let_removed_functions_be_silent()
    patches.name_object_versions_in_events()
    limits.check_event_patterns()
    limits.check_event_sizes()
    limits.check_notifications()
    limits.check_functions()
    limits.delay_new_permissions(lambda: runtime.faults.active.iam_delay)
    if os.environ.get("DROPLENS_DELIVERY") == "rough":
        log.warning("every event is delivered up to three times, late and in any order")
        patches.deliver_roughly()

    def show_notification(topic_arn: str, subject: str, message: str) -> None:
        topic = topic_arn.rsplit(":", 1)[-1]
        runtime.logs.write(NOTIFICATIONS_GROUP, topic, f"{subject}\n{message}".strip())

    patches.watch_notifications(show_notification)

    def go_on() -> None:
        """What a restart has to take up again, once requests are answered."""
        _await_port(settings)
        batch.jobs.start_interrupted()
        sagemaker.training.start_interrupted_jobs()
        sagemaker.hosting.serve_again()
        patches.save_state_every(SAVE_EVERY_SECONDS)
        runtime.faults.start(
            patches.kill_lambda_worker, sagemaker.hosting.kill_one, sagemaker.hosting.update_one
        )

    async def run() -> None:
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked.set)
        threading.Thread(target=go_on, name="go-on", daemon=True).start()

        async def stop_containers_first() -> None:
            await asked.wait()
            log.info("stopping containers")
            runtime.going_down.set()
            await asyncio.gather(
                *(
                    asyncio.to_thread(stop)
                    for stop in (
                        sagemaker.hosting.stop,
                        sagemaker.training.stop,
                        batch.jobs.stop,
                        patches.stop_lambda_workers,
                    )
                )
            )

        config = Config()
        config.bind = [f"{HOST}:{settings.port}"]
        config.keep_alive_timeout = 75
        config.graceful_timeout = 1
        application: Any = Admission(
            patches.asgi_application(),
            settings.port,
            patches.signature_refusal(operator_key(settings)),
        )
        await serve_asgi(application, config, shutdown_trigger=stop_containers_first)

    asyncio.run(run())
    runtime.state.save()
    log.info("the local cloud is down")
    # Threads that wait for work that will never come must not hold the process.
    logging.shutdown()
    os._exit(0)


def _await_port(settings: Settings) -> None:
    while True:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, settings.port)) == 0:
                return
        time.sleep(0.05)


def _function_interpreter(settings: Settings) -> Path:
    """A script that starts the functions' Python without the server's own variables, which would
    otherwise be inherited. A function's own variables reach it by MiniStack's first message."""
    script = settings.cloud / "lambda-python"
    hidden = [
        name
        for name in os.environ
        if name not in _LEFT_TO_FUNCTIONS and re.fullmatch(r"(?!AWS_)[A-Za-z_]\w*", name)
    ]
    names = " ".join(sorted(hidden))
    script.write_text(
        f'#!/bin/sh\nunset {names}\nexec "{settings.lambda_python}" "$@"\n', encoding="utf-8"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


def prepare_folders(settings: Settings) -> None:
    """Whatever is left in the folders of work and temporary files belongs to no one any more."""
    for folder in (settings.work, settings.temporary):
        shutil.rmtree(folder, ignore_errors=True)
    for folder in (settings.work, settings.temporary, settings.empty_home, settings.state):
        folder.mkdir(parents=True, exist_ok=True)
    # MiniStack saves there the secrets of every session and user.
    settings.state.chmod(0o700)


def main(arguments: list[str]) -> int:
    """-> the exit code."""
    settings = Settings.from_environment()
    if arguments == ["guard"]:
        return guard(settings)
    if arguments == ["serve"]:
        serve(settings)
        return 0
    raise LocalCloudError(
        f"usage: python -m localcloud.emulator.server guard|serve, not {arguments}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
