"""Retries a run now that waits, or that failed for a limit of AWS.

It continues from the stage that it had reached: a finished training is not repeated.
"""

from droplens_cli.stack import Stack


def resume(stack: Stack, classifier: str, run_id: str = "") -> str:
    """Have the run retried; returns a sentence on it.

    run_id: "" for the newest that waits, or the newest of all. Raises CommandError where it cannot
    be retried.
    """
    request = {"classifier": classifier} | ({"run_id": run_id} if run_id else {})
    result = stack.call_function("ResumeFunctionName", "resume", request)
    run = result["run"]
    return (
        f"{run['classifier']}: run {run['run_id']} is retried from stage {result['stage']}; "
        f"`{stack.command('status')}` shows its progress"
    )
