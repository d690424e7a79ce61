"""Retry a run now that waits, or that failed for a limit of AWS.

    python -m tools.resume cars                       # the newest that waits
    python -m tools.resume cars --run 20261122-120000-1a2b3c
    python -m tools.resume cars --config samconfig.account.toml

It continues from the stage that it had reached: a finished training is not repeated. CONFIG is the
file in which `make deploy` keeps its answers; without it, the stack "droplens" of the
account and endpoint that the environment names.
"""

from tools.stack import Stack, errors_explained, parser


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, retry the run and print from which stage it continues."""
    command = parser(__doc__.splitlines()[0])
    command.add_argument("--run", help="the run; else the newest that waits, or the newest of all")
    options = command.parse_args(arguments)
    request = {"classifier": options.classifier}
    if options.run:
        request["run_id"] = options.run
    with errors_explained():
        stack = Stack(options.config)
        result = stack.call_function("ResumeFunctionName", "resume", request)
    run = result["run"]
    print(
        f"{run['classifier']}: run {run['run_id']} is retried from stage {result['stage']}; "
        f"`{stack.command('status')}` shows its progress"
    )


if __name__ == "__main__":
    main()
