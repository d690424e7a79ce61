"""The two processes of the local cloud: the guard, and the server that it starts.

    python -m localcloud.emulator.server guard        # what `up` starts
    python -m localcloud.emulator.server serve        # what the guard starts

The server is MiniStack with our services. The guard adopts every orphaned process of the cloud
(subreaper) and kills those that are left when the server ends. When the guard itself is killed, the
kernel sends the server SIGTERM, on which it shuts down.
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
# The server's variables that a function gets, besides those that MiniStack sets.
_FUNCTION_VARIABLES = ("PATH", "HOME", "TMPDIR", "LANG", "TZ")


def server_environment(settings: Settings, caller: Mapping[str, str]) -> dict[str, str]:
    """The server's whole environment. Of the caller's it has our settings and what image builds
    need only, since functions and containers inherit it."""
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
    """Run until the server and all its processes have ended; returns the exit code."""
    # Never closed: the lock is released when this process ends, for which others wait by it.
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
    build_variables = build_environment(os.environ)
    interpreter = _function_interpreter(settings)

    # MiniStack reads its settings from the environment when it is imported.
    from hypercorn.asyncio import serve as serve_asgi
    from hypercorn.config import Config

    from localcloud.emulator import ministack_auth as auth
    from localcloud.emulator import ministack_limits as limits
    from localcloud.emulator import ministack_patches as patches

    for name in build_variables:
        del os.environ[name]  # kept for image builds; functions and containers do not get them
    logging.getLogger("persistence").setLevel(logging.WARNING)  # a line per service and save
    runtime = Runtime(
        settings,
        build_variables,
        append_log=patches.append_log,
        send_event=patches.put_event,
        denial=auth.denial,
        issue=auth.issue_session,
    )
    auth.issue_function_sessions()
    batch, sagemaker = Batch(runtime), SageMaker(runtime)
    patches.register_service("batch", batch.handle)
    patches.register_service("sagemaker", sagemaker.handle)
    patches.register_service("servicequotas", ServiceQuotas(runtime).handle)
    auth.delegate_permission_checks("batch", "sagemaker", "servicequotas")
    auth.correct_permission_checks()
    auth.check_message_moves(patches.sources_of_dead_letters)
    codebuild = CodeBuild(runtime)
    patches.run_builds_with(codebuild.build, codebuild.start_error, TOKEN_SECONDS)
    install_batch_types(batch, patches.provide_resource_type)
    patches.convert_numeric_parameters()
    patches.apply_time_to_live()
    patches.evaluate_functions_in_conditions()
    patches.provide_message_move_task()
    patches.provide_metric_math_alarms()
    patches.run_lambda_workers_with(interpreter)
    patches.share_unzipped_code(settings.temporary / "unzipped")
    patches.invoke_rule_targets_asynchronously()
    patches.drop_logs_of_removed_functions()
    patches.add_version_to_object_events()
    limits.check_event_patterns()
    limits.check_event_sizes()
    limits.check_notifications()
    limits.check_functions()
    limits.delay_new_permissions(lambda: runtime.faults.active.iam_delay)
    if os.environ.get("DROPLENS_DELIVERY") == "rough":
        log.warning("every event is delivered up to three times, late and in any order")
        patches.deliver_repeatedly()

    def show_notification(topic_arn: str, subject: str, message: str) -> None:
        topic = topic_arn.rsplit(":", 1)[-1]
        runtime.logs.write(NOTIFICATIONS_GROUP, topic, f"{subject}\n{message}".strip())

    patches.call_on_notification(show_notification)

    def continue_work() -> None:
        """Continue the work of the last run, once the server responds."""
        _await_port(settings)
        batch.jobs.restart_interrupted()
        sagemaker.training.restart_interrupted()
        sagemaker.hosting.resume()
        patches.save_state_periodically(SAVE_EVERY_SECONDS)
        runtime.faults.start(
            patches.kill_lambda_worker, sagemaker.hosting.kill_one, sagemaker.hosting.update_one
        )

    async def run() -> None:
        stop_requested = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop_requested.set)
        threading.Thread(target=continue_work, name="continue-work", daemon=True).start()

        async def stop_containers_first() -> None:
            await stop_requested.wait()
            log.info("stopping containers")
            runtime.shutting_down.set()
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
            auth.signature_refusal(operator_key(settings)),
        )
        await serve_asgi(application, config, shutdown_trigger=stop_containers_first)

    asyncio.run(run())
    runtime.state.save()
    log.info("the local cloud is down")
    # Threads that wait for work must not keep the process running.
    logging.shutdown()
    os._exit(0)


def _await_port(settings: Settings) -> None:
    while True:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, settings.port)) == 0:
                return
        time.sleep(0.05)


def _function_interpreter(settings: Settings) -> Path:
    """A script that starts the functions' Python without the server's own variables, which it would
    inherit. A function's own variables are in MiniStack's first message to it."""
    script = settings.cloud / "lambda-python"
    hidden = [
        name
        for name in os.environ
        if name not in _FUNCTION_VARIABLES and re.fullmatch(r"(?!AWS_)[A-Za-z_]\w*", name)
    ]
    names = " ".join(sorted(hidden))
    script.write_text(
        f'#!/bin/sh\nunset {names}\nexec "{settings.lambda_python}" "$@"\n', encoding="utf-8"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


def prepare_folders(settings: Settings) -> None:
    """Create the folders, those for work and temporary files empty."""
    for folder in (settings.work, settings.temporary):
        shutil.rmtree(folder, ignore_errors=True)
    for folder in (settings.work, settings.temporary, settings.empty_home, settings.state):
        folder.mkdir(parents=True, exist_ok=True)
    # MiniStack saves the secrets of sessions and users there.
    settings.state.chmod(0o700)


def main(arguments: list[str]) -> int:
    """Return the exit code."""
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
