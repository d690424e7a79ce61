"""Roll back to an earlier model, and wait until it is live.

    python -m tools.rollback cars                       # what was live before the live one
    python -m tools.rollback cars --run 20261122-120000-1a2b3c --reclassify all
    python -m tools.rollback cars --config samconfig.account.toml

Without --run it lists what there is, says what it will do, and asks, unless there is no terminal
or --yes. CONFIG is the file in which `make deploy` keeps its answers; without it, the stack
"droplens" of the account and endpoint that the environment names.
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
from tools.stack import Stack, in_words, parser
from tools.table import measured, percent, table, when

# An endpoint that is made again takes seconds here, and minutes on SageMaker.
ASK_AGAIN_SECONDS = 5
PATIENCE_SECONDS = 1800


def choose(stack: Stack, classifier: str) -> str:
    """Print what there is to go back to, and what will be done. Returns the run's id.

    Raises SystemExit where there is nothing to go back to.
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


def agreed() -> bool:
    """Whether whoever sits at the terminal agrees; where there is none, nobody is asked."""
    if not sys.stdin.isatty():
        return True
    try:
        return input("Roll back? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def roll_back(stack: Stack, request: dict[str, str]) -> dict[str, Any]:
    """Ask the stack's function until the model answers; returns what it said last."""
    until = time.monotonic() + PATIENCE_SECONDS
    said = stack.ask("RollbackFunctionName", "rollback", request)
    while said["status"] == "restoring" and time.monotonic() < until:
        print("the endpoint is being created", file=sys.stderr, flush=True)
        time.sleep(ASK_AGAIN_SECONDS)
        # From now on this very run, whatever has become live.
        request = {**request, "run_id": said["run"]["run_id"]}
        said = stack.ask("RollbackFunctionName", "rollback", request)
    return said


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, roll back, and say which run answers then."""
    command = parser(__doc__.splitlines()[0])
    command.add_argument("--run", help="the run to go back to; else what was live before")
    command.add_argument("--reclassify", choices=["all", "unsure", "none"])
    command.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    options = command.parse_args(arguments)
    with in_words():
        stack = Stack(options.config)
        request = {"classifier": options.classifier, "run_id": options.run or ""}
        if not options.run:
            request["run_id"] = choose(stack, options.classifier)
            if not options.yes and not agreed():
                raise SystemExit("nothing was changed")
        if options.reclassify:
            request["reclassify"] = options.reclassify
        said = roll_back(stack, request)
    run = said["run"]
    print(f"{run['classifier']}: run {run['run_id']} is {said['status']}")
    if said["status"] != "live":
        raise SystemExit(1)


if __name__ == "__main__":
    main()
