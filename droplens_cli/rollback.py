"""Rolls back to an earlier model.

Without a run's id the earlier models are listed and the plan is printed; a person confirms it,
unless there is no terminal. It waits until the model is live.
"""

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from droplens.domain import layout
from droplens.domain.errors import ObjectMissing
from droplens.domain.rollback_target import to_go_back_to
from droplens.domain.run import MAY_RETURN, Run
from droplens.state.runs import Runs
from droplens_cli.errors import CommandError, ExitCode
from droplens_cli.stack import Stack
from droplens_cli.table import measured, percent, table, when

# To re-create an endpoint takes seconds on the local cloud, and minutes on SageMaker.
POLL_SECONDS = 5
TIMEOUT_SECONDS = 1800


def choose(stack: Stack, classifier: str) -> str:
    """Print the earlier models and what will be done. Returns the id of the run to roll back to.

    Raises CommandError where there is none.
    """
    bucket = stack.bucket
    try:
        live = json.loads(bucket.read(layout.live_card_key(classifier))[0])
    except ObjectMissing:
        raise CommandError(
            f"{classifier} has no live model: `{stack.command('status')}` lists what has"
        ) from None
    runs = Runs(stack.runs_table, owner="droplens_cli.rollback").of(classifier)
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
        raise CommandError(
            "no model was live before it to go back to",
            "--run (RUN=... of make) names another"
            if earlier
            else "a new dataset trains a new one",
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


def rollback(stack: Stack, classifier: str, run_id: str, reclassify: str, *, yes: bool) -> str:
    """Roll back, and return a sentence on it.

    run_id: "" for what was live before; reclassify: all, unsure, none, or "" for the stack's own
    setting; yes: do not ask. Raises CommandError where the model is not live in the end.
    """
    request = {"classifier": classifier, "run_id": run_id}
    if not run_id:
        request["run_id"] = choose(stack, classifier)
        if not yes and not confirmed():
            raise CommandError("nothing was changed")
    if reclassify:
        request["reclassify"] = reclassify
    result = roll_back(stack, request)
    run = result["run"]
    sentence = f"{run['classifier']}: run {run['run_id']} is {result['status']}"
    if result["status"] == "live":
        return sentence
    code = ExitCode.TIMEOUT if result["status"] == "restoring" else ExitCode.FAILED
    raise CommandError(sentence, f"`{stack.command('status')}` shows what is live", code)
