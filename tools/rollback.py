"""Have an earlier model back, and wait until it answers.

    python -m tools.rollback cars                       # the newest before the live one
    python -m tools.rollback cars --run 20261122-120000-1a2b3c --reclassify all
    python -m tools.rollback cars --config samconfig.account.toml

CONFIG is the file in which `make deploy` keeps its answers; without it, the stack
"droplens" of the account and endpoint that the environment names.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import boto3

from tools.account import Saved

STACK = "droplens"
# An endpoint that is made again takes seconds here, and minutes on SageMaker.
ASK_AGAIN_SECONDS = 5
PATIENCE_SECONDS = 1800


def rollback_function(session: boto3.Session, stack: str) -> str:
    """The name of the stack's rollback function."""
    [found] = session.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in found["Outputs"]}
    return outputs["RollbackFunctionName"]


def ask(functions: Any, name: str, request: dict[str, str]) -> dict[str, Any]:
    """Call the function once. Raises SystemExit with its words where it refuses."""
    answer = functions.invoke(FunctionName=name, Payload=json.dumps(request))
    said: dict[str, Any] = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        raise SystemExit(f"rollback: {said.get('errorMessage', said)}")
    return said


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, roll back, and say which run answers then."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("classifier")
    parser.add_argument("--run", help="the run to go back to; else the newest before the live one")
    parser.add_argument("--reclassify", choices=["all", "unsure", "none"])
    parser.add_argument("--config", type=Path)
    options = parser.parse_args(arguments)
    saved = Saved(options.config) if options.config else None
    session = boto3.Session(**(saved.session_options if saved else {}))
    name = rollback_function(session, (saved and saved.stack) or STACK)
    functions = session.client("lambda")
    request = {"classifier": options.classifier}
    if options.run:
        request["run_id"] = options.run
    if options.reclassify:
        request["reclassify"] = options.reclassify
    until = time.monotonic() + PATIENCE_SECONDS
    said = ask(functions, name, request)
    while said["status"] == "restoring" and time.monotonic() < until:
        print("its endpoint is being made again", file=sys.stderr, flush=True)
        time.sleep(ASK_AGAIN_SECONDS)
        # From now on this very run, whatever has become live.
        said = ask(functions, name, {**request, "run_id": said["run"]["run_id"]})
    run = said["run"]
    print(f"{run['classifier']}: run {run['run_id']} is {said['status']}")
    if said["status"] != "live":
        raise SystemExit(1)


if __name__ == "__main__":
    main()
