"""Checks whether CloudFormation could create or update the stack."""

from collections.abc import Callable, Iterator

from droplens_cli.preflight.account import Account, UnavailableError
from droplens_cli.preflight.chosen import Chosen
from droplens_cli.preflight.findings import Finding, Place, State

# sam's own stack, which has the bucket for uploads (--resolve-s3).
SAM_STACK = "aws-sam-cli-managed-default"
# CloudFormation User Guide, "Stack status codes": those that allow no update.
NEVER_MADE = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED")


def status(account: Account, stack: str) -> str | None:
    """The stack's status; None where there is no such stack. Raises UnavailableError."""
    response = account.call(
        "cloudformation", "describe_stacks", absent=("ValidationError",), StackName=stack
    )
    return str(response["Stacks"][0]["StackStatus"]) if response else None


def state(stack: str, found: str | None, place: Place) -> Finding:
    """What a status means for a deployment."""
    if found is None or found == "REVIEW_IN_PROGRESS":
        return Finding(State.OK, "stack", f"{stack} is not there yet and will be made")
    if found in NEVER_MADE:
        return Finding(
            State.FAILS,
            "stack",
            f"{stack} is {found}: it can only be removed",
            do=(
                f"make destroy STACK={stack}",
                f"or aws cloudformation delete-stack {place.options} --stack-name {stack}",
            ),
        )
    if found == "UPDATE_ROLLBACK_FAILED":
        return Finding(
            State.FAILS,
            "stack",
            f"{stack} is {found}",
            do=(
                f"aws cloudformation continue-update-rollback {place.options} --stack-name {stack}",
            ),
        )
    if found.endswith("_IN_PROGRESS"):
        return Finding(
            State.FAILS,
            "stack",
            f"{stack} is {found}",
            do=("wait until that has ended, and run this again",),
        )
    return Finding(State.OK, "stack", f"{stack} is {found} and will be updated")


def leftovers(account: Account, chosen: Chosen, place: Place) -> Iterator[Finding]:
    """Resources of an earlier stack of this name: those that would make the creation fail, and
    those that only cost."""
    checks: tuple[tuple[str, Callable[[Account, Chosen, Place], list[Finding]]], ...] = (
        ("log groups", _log_groups),
        ("image repositories", _repositories),
        ("an earlier stack's data", _data),
    )
    for what, check in checks:
        try:
            yield from check(account, chosen, place)
        except UnavailableError as error:
            yield Finding(State.UNKNOWN, what, str(error))


def _log_groups(account: Account, chosen: Chosen, place: Place) -> list[Finding]:
    wanted = set(chosen.named("AWS::Logs::LogGroup", "LogGroupName"))
    found: set[str] = set()
    for prefix in sorted({name[: name.index(chosen.stack)] for name in wanted}):
        groups = account.pages(
            "logs", "describe_log_groups", "logGroups", logGroupNamePrefix=prefix + chosen.stack
        )
        found |= wanted & {group["logGroupName"] for group in groups}
    if not found:
        return [Finding(State.OK, "log groups", "none of the stack's names is taken")]
    return [
        Finding(
            State.FAILS,
            "log groups",
            "left by an earlier stack of that name, so that they cannot be made",
            do=tuple(
                f"aws logs delete-log-group {place.options} --log-group-name {name}"
                for name in sorted(found)
            ),
            instead=("another name for the stack",),
        )
    ]


def _repositories(account: Account, chosen: Chosen, place: Place) -> list[Finding]:
    taken = []
    for name in chosen.named("AWS::ECR::Repository", "RepositoryName"):
        response = account.call(
            "ecr",
            "describe_repositories",
            absent=("RepositoryNotFoundException",),
            repositoryNames=[name],
        )
        if response and response["repositories"]:
            taken.append(name)
    if not taken:
        return [Finding(State.OK, "image repositories", "none of the stack's names is taken")]
    return [
        Finding(
            State.FAILS,
            "image repositories",
            "left by an earlier stack of that name, so that they cannot be made",
            do=tuple(
                f"aws ecr delete-repository {place.options} --force --repository-name {name}"
                for name in taken
            ),
            instead=("another name for the stack",),
        )
    ]


def _data(account: Account, chosen: Chosen, _: Place) -> list[Finding]:
    """CloudFormation names bucket and table <stack>-<logical id>-<random>; both are retained."""
    buckets = account.call("s3", "list_buckets") or {}
    prefix = f"{chosen.stack}-bucket-"
    kept = [
        f"s3://{bucket['Name']}"
        for bucket in buckets.get("Buckets", [])
        if bucket["Name"].startswith(prefix)
    ]
    tables = account.pages("dynamodb", "list_tables", "TableNames")
    kept += [f"table {name}" for name in tables if name.startswith(f"{chosen.stack}-Runs-")]
    if not kept:
        return []
    return [
        Finding(
            State.NOTE,
            "an earlier stack's data",
            f"{', '.join(kept)}: not in the way, and billed until you remove it",
        )
    ]


def upload_bucket(account: Account) -> Finding:
    """The bucket that sam uploads to, and creates on first use."""
    what = "upload bucket"
    response = account.call(
        "cloudformation", "describe_stacks", absent=("ValidationError",), StackName=SAM_STACK
    )
    if not response:
        return Finding(State.OK, what, "sam has none here yet and will make one")
    stack = response["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
    bucket = outputs.get("SourceBucket")
    if bucket is None:
        return Finding(
            State.FAILS,
            what,
            f"sam's stack {SAM_STACK} is {stack['StackStatus']} and has no bucket",
            do=("remove that stack; sam creates it again",),
        )
    found = account.call("s3", "head_bucket", absent=("404", "NoSuchBucket"), Bucket=bucket)
    if found is None:
        return Finding(
            State.FAILS,
            what,
            f"s3://{bucket} of sam's stack {SAM_STACK} is gone",
            do=(f"remove the stack {SAM_STACK}; sam creates it again",),
        )
    return Finding(State.OK, what, f"s3://{bucket}")
