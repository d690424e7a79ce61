"""Have an earlier model back, and wait until it answers.

    python -m tools.rollback cars                       # the newest before the live one
    python -m tools.rollback cars --run 20261122-120000-1a2b3c --reclassify all
    python -m tools.rollback cars --config samconfig.account.toml

CONFIG is the file in which `make deploy` keeps its answers; without it, the stack
"droplens" of the account and endpoint that the environment names.
"""

import sys
import time

from tools.stack_functions import StackFunction, parser

# An endpoint that is made again takes seconds here, and minutes on SageMaker.
ASK_AGAIN_SECONDS = 5
PATIENCE_SECONDS = 1800


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, roll back, and say which run answers then."""
    command = parser(__doc__.splitlines()[0])
    command.add_argument("--run", help="the run to go back to; else the newest before the live one")
    command.add_argument("--reclassify", choices=["all", "unsure", "none"])
    options = command.parse_args(arguments)
    function = StackFunction("RollbackFunctionName", options.config)
    request = {"classifier": options.classifier}
    if options.run:
        request["run_id"] = options.run
    if options.reclassify:
        request["reclassify"] = options.reclassify
    until = time.monotonic() + PATIENCE_SECONDS
    said = function.ask("rollback", request)
    while said["status"] == "restoring" and time.monotonic() < until:
        print("its endpoint is being made again", file=sys.stderr, flush=True)
        time.sleep(ASK_AGAIN_SECONDS)
        # From now on this very run, whatever has become live.
        said = function.ask("rollback", {**request, "run_id": said["run"]["run_id"]})
    run = said["run"]
    print(f"{run['classifier']}: run {run['run_id']} is {said['status']}")
    if said["status"] != "live":
        raise SystemExit(1)


if __name__ == "__main__":
    main()
