"""Have a run that waits, or that failed for a limit of AWS, tried again now.

    python -m tools.resume cars                       # the newest that waits
    python -m tools.resume cars --run 20261122-120000-1a2b3c
    python -m tools.resume cars --config samconfig.account.toml

It goes on from the stage that it had reached: what is trained is not trained again. CONFIG is the
file in which `make deploy` keeps its answers; without it, the stack "droplens" of the
account and endpoint that the environment names.
"""

from tools.stack import Stack, in_words, parser


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, have the run tried again, and say from where it goes on."""
    command = parser(__doc__.splitlines()[0])
    command.add_argument("--run", help="the run; else the newest that waits, or the newest of all")
    options = command.parse_args(arguments)
    request = {"classifier": options.classifier}
    if options.run:
        request["run_id"] = options.run
    with in_words():
        stack = Stack(options.config)
        said = stack.ask("ResumeFunctionName", "resume", request)
    run = said["run"]
    print(
        f"{run['classifier']}: run {run['run_id']} is retried from stage {said['stage']}; "
        f"`{stack.command('status')}` shows its progress"
    )


if __name__ == "__main__":
    main()
