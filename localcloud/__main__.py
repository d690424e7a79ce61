"""The command line of the local cloud: `python -m localcloud --help`."""

import argparse
import os
import shlex
import sys
import time
from dataclasses import fields

from localcloud.containers.images import ImageStore
from localcloud.credentials import operator_key
from localcloud.emulator import lifecycle
from localcloud.emulator.quotas import QUOTAS, Quotas
from localcloud.faults import Faults
from localcloud.settings import (
    REGION,
    LocalCloudError,
    Settings,
    client_environment,
)

FORMER_FAULTS_COMMAND = "trouble"


def _up(settings: Settings, arguments: argparse.Namespace) -> None:
    if lifecycle.is_outdated(settings):
        print("the local cloud was started from another version of its code: restarting it")
        _down(settings, arguments)
    started = time.monotonic()
    fresh = lifecycle.up(settings)
    took = f"in {time.monotonic() - started:.1f} s" if fresh else "already"
    print(f"local cloud up {took}: {settings.url} (log: {settings.server_log})")


def _down(settings: Settings, _: argparse.Namespace) -> None:
    if lifecycle.is_running(settings):
        for job in lifecycle.unfinished_jobs(settings):
            print(f"{job} is cut off; the next `make up` begins it again", flush=True)
    stopped = lifecycle.down(settings)
    print("local cloud down; its state is kept" if stopped else "local cloud was not up")


def _status(settings: Settings, _: argparse.Namespace) -> int:
    if not lifecycle.is_running(settings):
        print(f"down (state: {settings.state})")
        return 1
    health = "healthy" if lifecycle.is_healthy(settings) else "not answering"
    pids = lifecycle.running_pids(settings)
    print(f"up, {health}: {settings.url}, process {pids.get('server')}, log {settings.server_log}")
    return 0


def _logs(settings: Settings, options: argparse.Namespace) -> None:
    if not lifecycle.is_running(settings):
        raise LocalCloudError(
            f"the cloud is down; its own log of the last time: {settings.server_log}"
        )
    import boto3

    from localcloud.logs import show

    operator = operator_key(settings)
    client = boto3.client(
        "logs",
        endpoint_url=settings.url,
        region_name=REGION,
        aws_access_key_id=operator.key,
        aws_secret_access_key=operator.secret,
    )
    try:
        show(client, sys.stdout, name=options.name, follow=options.follow)
    except KeyboardInterrupt:
        print(file=sys.stderr)
    except BrokenPipeError:
        # The reader (head, less) has ended; without this, Python reports the broken pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _images(settings: Settings, options: argparse.Namespace) -> None:
    store = ImageStore(settings.context, settings.images)
    for name in options.names or store.names():
        image = store.get(name, lambda line: print(line, file=sys.stderr, flush=True))
        print(f"{name}\t{image.program}")


def _faults(settings: Settings, options: argparse.Namespace) -> None:
    if options.command == FORMER_FAULTS_COMMAND:
        print(f"`{FORMER_FAULTS_COMMAND}` is now called `faults`", file=sys.stderr)
    if not lifecycle.is_running(settings):
        raise LocalCloudError("the cloud is down")
    requested = Faults(**{field.name: getattr(options, field.name) for field in fields(Faults)})
    requested.store(settings.faults_file)
    print("faults are injected" if requested != Faults() else "no faults are injected any more")


def _quotas(settings: Settings, options: argparse.Namespace) -> None:
    quotas = Quotas(settings.quotas_file)
    if options.new:
        quotas.reset()
    if options.published:
        quotas.apply_published_defaults()
    changes = {}
    for change in options.set:
        reference, equals, value = change.rpartition("=")
        try:
            changes[reference] = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise LocalCloudError(f"--set {change}: a quota's code or name, '=' and a number")
    if changes:
        quotas.change(changes)
    if not (options.new or options.published or changes):
        for quota in QUOTAS:
            now = f"{quotas.value(quota.name):g}"
            print(f"{quota.service}\t{quota.code}\t{now}\t{quota.name}")


def _env(settings: Settings, options: argparse.Namespace) -> None:
    if options.up and not lifecycle.is_running(settings):
        raise LocalCloudError(
            "the local cloud is down: `make up` starts it, with all that it had the last time, and "
            "`make deploy-local` deploys the stack where it has none"
        )
    for name, value in client_environment(settings).items():
        print(f"export {name}={shlex.quote(value)}")


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code: 0, or 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(
        prog="python -m localcloud",
        description="One machine as the cloud, on 127.0.0.1.",
        epilog="DROPLENS_PORT chooses the port (4566), DROPLENS_LOCAL the folder (.local). Started "
        "with DROPLENS_AUTH=true it evaluates IAM policies as AWS does, with "
        "DROPLENS_DELIVERY=rough it delivers every event one to three times, late and in any "
        "order.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start it, or see that it runs").set_defaults(call=_up)
    commands.add_parser("down", help="stop it; its state stays").set_defaults(call=_down)
    commands.add_parser("status", help="say whether it runs").set_defaults(call=_status)
    logs = commands.add_parser("logs", help="show what functions and containers logged")
    logs.add_argument("name", nargs="?", default="", help="part of a log's name")
    logs.add_argument("--follow", "-f", action="store_true", help="go on as lines come")
    logs.set_defaults(call=_logs)
    images = commands.add_parser("images", help="build the containers' images")
    images.add_argument("names", nargs="*", help="these only")
    images.set_defaults(call=_images)
    faults = commands.add_parser(
        "faults",
        aliases=[FORMER_FAULTS_COMMAND],
        help="inject faults from now on; without options, none",
    )
    for option, meaning in {
        "throttle": "share of InvokeEndpoint calls that are throttled",
        "fail": "share of InvokeEndpoint calls that fail with 500",
        "kill-workers": "mean seconds from one SIGKILL of a busy Lambda worker to the next",
        "kill-endpoints": "mean seconds from one SIGKILL of an endpoint's process to the next",
        "system-updates": "mean seconds from one SystemUpdating of an endpoint to the next",
        "no-capacity": "share of training jobs and real-time endpoints that find no instances",
        "propagation": "seconds for which a new model or endpoint configuration is not found",
        "iam-delay": "seconds until a change of roles and policies takes effect",
    }.items():
        faults.add_argument(f"--{option}", type=float, default=0.0, help=meaning)
    faults.set_defaults(call=_faults)
    quotas = commands.add_parser("quotas", help="list the account's quotas, or change them")
    quotas.add_argument("--set", action="append", default=[], metavar="CODE=VALUE", help="one")
    quotas.add_argument("--published", action="store_true", help="take AWS's published defaults")
    quotas.add_argument("--new", action="store_true", help="a new account's, as at the beginning")
    quotas.set_defaults(call=_quotas)
    env = commands.add_parser("env", help="print export lines for AWS clients and sam")
    env.add_argument("--up", action="store_true", help="fail where the cloud is down")
    env.set_defaults(call=_env)
    options = parser.parse_args(arguments)
    try:
        return options.call(Settings.from_environment(), options) or 0
    except LocalCloudError as error:
        print(f"localcloud {options.command}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
