"""Roll back to an earlier model.

    python -m tools.rollback cars                       # what was live before the live one
    python -m tools.rollback cars --run 20261122-120000-1a2b3c --reclassify all
    python -m tools.rollback cars --config samconfig.account.toml

Without --run it lists the earlier models, prints what it will do, and asks for confirmation, unless
there is no terminal or --yes is given. It waits until the model is live. CONFIG is the file in
which `make deploy` keeps its answers; without it, the stack "droplens" of the account and endpoint
that the environment names.
"""

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from droplens.aws.s3 import Bucket
from droplens.domain import layout
from droplens.domain.errors import ObjectMissing
from droplens.domain.rollback_target import to_go_back_to
from droplens.domain.run import MAY_RETURN, Run
from droplens.state.runs import Runs
from tools.stack import Stack, errors_explained, parser
from tools.table import measured, percent, table, when

# To re-create an endpoint takes seconds on the local cloud, and minutes on SageMaker.
POLL_SECONDS = 5
TIMEOUT_SECONDS = 1800


def choose(stack: Stack, classifier: str) -> str:
    """Print the earlier models and what will be done. Returns the id of the run to roll back to.

    Raises SystemExit where there is none.
    """
    bucket = Bucket(stack.client("s3"), stack.output("BucketName"))
    try:
        live = json.loads(bucket.read(layout.live_card_key(classifier))[0])
    except ObjectMissing:
        raise SystemExit(
            f"{classifier} has no live model: `{stack.command('status')}` lists what has"
        ) from None
    runs = Runs(stack.runs_table, owner="tools.rollback").of(classifier)
    earlier = {
        run.key.run_id: run
        for run in runs
        if run.status in MAY_RETURN and run.key.run_id != live["run_id"]
    }
    print(
        f"{classifier}: run {live['run_id']} is live since {when(live['promoted_at'])} UTC, "
        f"validation accuracy {measured(live)}"
    )
    target = to_go_back_to(live["run_id"], live.get("way_back"), live.get("replaces"), earlier)
    if earlier:
        print()
        print(_listed(sorted(earlier.values(), key=lambda run: run.key.run_id), target))
        print()
    if target is None:
        raise SystemExit(
            "no model was live before it to go back to"
            + ("; RUN=... names another" if earlier else "; a new dataset trains a new one")
        )
    reason = "which was live before the live one"
    if _is_kept(earlier[target]):
        print(
            f"Roll back to run {target}, {reason}. Its endpoint is in service: the switch is "
            "immediate."
        )
    else:
        print(
            f"Roll back to run {target}, {reason}. Its endpoint has to be re-created, which takes "
            "SageMaker some minutes; the live model keeps serving until then."
        )
    return target


def _listed(runs: Sequence[Run], target: str | None) -> str:
    return table(
        (
            "",
            "run",
            "validation accuracy",
            "live from (UTC)",
            "replaced (UTC)",
            "replaced by",
            "endpoint",
        ),
        [
            (
                ">" if run.key.run_id == target else "",
                run.key.run_id,
                percent(run.accuracy),
                when(run.ended_at),
                when(run.replaced_at),
                run.replaced_by,
                "in service" if _is_kept(run) else "removed",
            )
            for run in reversed(runs)
        ],
    )


def _is_kept(run: Run) -> bool:
    return bool(run.endpoint) and not run.retired


def confirmed() -> bool:
    """Whether the user confirms; True where there is no terminal."""
    if not sys.stdin.isatty():
        return True
    try:
        return input("Roll back? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def roll_back(stack: Stack, request: dict[str, str]) -> dict[str, Any]:
    """Call the stack's function until the model is live; returns its last result."""
    until = time.monotonic() + TIMEOUT_SECONDS
    result = stack.call_function("RollbackFunctionName", "rollback", request)
    while result["status"] == "restoring" and time.monotonic() < until:
        print("the endpoint is being created", file=sys.stderr, flush=True)
        time.sleep(POLL_SECONDS)
        # The same run in each call, also if another has become live.
        request = {**request, "run_id": result["run"]["run_id"]}
        result = stack.call_function("RollbackFunctionName", "rollback", request)
    return result


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, roll back, and print which run is live."""
    command = parser(__doc__.splitlines()[0])
    command.add_argument("--run", help="the run to go back to; else what was live before")
    command.add_argument("--reclassify", choices=["all", "unsure", "none"])
    command.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    options = command.parse_args(arguments)
    with errors_explained():
        stack = Stack(options.config)
        request = {"classifier": options.classifier, "run_id": options.run or ""}
        if not options.run:
            request["run_id"] = choose(stack, options.classifier)
            if not options.yes and not confirmed():
                raise SystemExit("nothing was changed")
        if options.reclassify:
            request["reclassify"] = options.reclassify
        result = roll_back(stack, request)
    run = result["run"]
    print(f"{run['classifier']}: run {run['run_id']} is {result['status']}")
    if result["status"] != "live":
        raise SystemExit(1)


if __name__ == "__main__":
    main()
