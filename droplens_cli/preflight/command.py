"""Checks whether a deployment and a first run would succeed in the account.

Nothing is created or changed.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from droplens_cli.errors import CommandError, ExitCode
from droplens_cli.preflight import build_environment, permissions, stack
from droplens_cli.preflight.account import Account, UnavailableError
from droplens_cli.preflight.capacity import Capacity
from droplens_cli.preflight.chosen import Chosen, chosen
from droplens_cli.preflight.findings import Finding, Place, State, report, verdict
from droplens_cli.preflight.quotas import Quotas
from droplens_cli.saved_answers import Saved
from droplens_cli.session import session_of
from droplens_cli.target import Target

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


def check_account(target: Target, parameters: Sequence[str]) -> int:
    """Check, print the table; returns the exit status: 1 where something would fail, else 0.

    parameters: NAME=VALUE, besides those that `make deploy` saved. Raises CommandError for any
    other text.
    """
    pairs = [pair.partition("=") for text in parameters for pair in text.split()]
    if wrong := [name for name, separator, _ in pairs if not separator]:
        raise CommandError(f"{wrong[0]} is not NAME=VALUE", code=ExitCode.USAGE)
    saved = Saved(Path(target.config)).parameters if target.config else {}
    given = {**saved, **{name: value for name, _, value in pairs}}
    return preflight(target, chosen(given, target.stack))


def preflight(target: Target, wanted: Chosen) -> int:
    """Check with the target's credentials; prints the table and returns the exit status."""
    try:
        session = session_of(target)
        region = session.region_name
        if region is None:
            print("FAILS  no region is named: --region, AWS_REGION or the target names one")
            return 1
        account = Account(session, region)
        identity = account.client("sts").get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        print(f"FAILS  no usable credentials: {error}")
        print("       `aws sts get-caller-identity` says who you are; `aws configure` or")
        print("       `aws sso login` sets credentials; a region that the account has not enabled")
        print("       refuses them, too")
        return 1
    place = Place(region, identity["Arn"].split(":")[1], target.profile or None)
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
