"""Checks whether a deployment and a first run would succeed in the account.

    python -m tools.preflight --config samconfig.account.toml
    python -m tools.preflight --stack droplens --region eu-west-1 --parameters Recipe=probe

CONFIG is the file in which `make deploy` keeps its answers. The exit status is 1 where the
deployment or the first run would fail, else 0. Nothing is created or changed.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from tools.account import Saved
from tools.preflight import build_environment, permissions, stack
from tools.preflight.account import Account, UnavailableError
from tools.preflight.capacity import Capacity
from tools.preflight.chosen import Chosen, chosen
from tools.preflight.findings import Finding, Place, State, report, verdict
from tools.preflight.quotas import Quotas

DEFAULT_STACK = "droplens"
LOCAL_ACCOUNT = "000000000000"


def checks(
    account: Account, wanted: Chosen, place: Place, identity: dict[str, str]
) -> Iterator[Finding]:
    """Every finding, in the order in which a deployment would meet it."""
    yield Finding(State.OK, "credentials", identity["Arn"])
    local = identity["Account"] == LOCAL_ACCOUNT
    for sentence in wanted.invalid():
        yield Finding(State.FAILS, "parameters", sentence)
    if not local:
        # The local cloud uses the Python that it was started with, and builds on this machine.
        yield build_environment.runtime(wanted)
        yield from build_environment.registries(wanted)
    status: str | None = None
    try:
        status = stack.status(account, wanted.stack)
        yield stack.state(wanted.stack, status, place)
    except UnavailableError as error:
        yield Finding(State.UNKNOWN, "stack", str(error))
    new = status is None or status == "REVIEW_IN_PROGRESS"
    if new:
        yield from stack.leftovers(account, wanted, place)
    try:
        yield stack.upload_bucket(account)
    except UnavailableError as error:
        yield Finding(State.UNKNOWN, "upload bucket", str(error))
    values = {
        "Partition": place.partition,
        "Region": place.region,
        "Account": identity["Account"],
        "Stack": wanted.stack,
    }
    yield from permissions.findings(account, wanted, identity["Arn"], values)
    yield from Capacity(account, Quotas(account), wanted, new).findings()


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, check, print the table; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.preflight", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--config", type=Path)
    parser.add_argument("--stack", help="another stack than the saved one")
    parser.add_argument("--region", help="another region than the saved one")
    parser.add_argument("--profile", help="other credentials than the saved ones")
    parser.add_argument(
        "--parameters", nargs="*", default=[], metavar="NAME=VALUE", help="beside those saved"
    )
    options = parser.parse_args(arguments)
    pairs = [pair.partition("=") for text in options.parameters for pair in text.split()]
    if any(not separator for _, separator, _ in pairs):
        parser.error("--parameters takes NAME=VALUE")
    saved = Saved(options.config) if options.config else Saved(Path())
    session_options = {
        **saved.session_options,
        **({"region_name": options.region} if options.region else {}),
        **({"profile_name": options.profile} if options.profile else {}),
    }
    given = {**saved.parameters, **{name: value for name, _, value in pairs}}
    wanted = chosen(given, options.stack or saved.stack or DEFAULT_STACK)
    return preflight(session_options, wanted)


def preflight(session_options: dict[str, Any], wanted: Chosen) -> int:
    """Check with these credentials; prints the table and returns the exit status."""
    try:
        session = boto3.Session(**session_options)
        region = session.region_name
        if region is None:
            print("FAILS  no region is named: --region, AWS_REGION or the saved answers name one")
            return 1
        account = Account(session, region)
        identity = account.client("sts").get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        print(f"FAILS  no usable credentials: {error}")
        print("       `aws sts get-caller-identity` says who you are; `aws configure` or")
        print("       `aws sso login` sets credentials; a region that the account has not enabled")
        print("       refuses them, too")
        return 1
    place = Place(region, identity["Arn"].split(":")[1], session_options.get("profile_name"))
    print(f"{wanted.stack} in {region}, account {identity['Account']}")
    findings = []
    for finding in checks(account, wanted, place, identity):
        findings.append(finding)
        if sys.stderr.isatty():
            print(f"\r  {finding.what:<30}", end="\r", file=sys.stderr, flush=True)
    print("\n".join(report(findings, place)))
    sentence, status = verdict(findings)
    print(f"\n{sentence}")
    return status


if __name__ == "__main__":
    sys.exit(main())
