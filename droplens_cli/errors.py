"""Errors that end a command, and its exit codes, which do not change between versions."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from botocore.exceptions import BotoCoreError, ClientError

from droplens_cli.aws_errors import explained


class ExitCode(IntEnum):
    """The exit codes of `droplens`.

    FAILED: refused, or not completed; USAGE: of the command line, as click has it; NO_TARGET: no
    target, or nothing is deployed there; BAD_INPUT: a folder or a picture cannot be used; TIMEOUT:
    not finished within the time given; INTERRUPTED: by Ctrl-C, as shells have it.
    """

    OK = 0
    FAILED = 1
    USAGE = 2
    NO_TARGET = 3
    BAD_INPUT = 4
    TIMEOUT = 5
    INTERRUPTED = 130


class CommandError(Exception):
    """Ends a command. next_step: what the user can do, "" for nothing."""

    def __init__(
        self, sentence: str, next_step: str = "", code: ExitCode = ExitCode.FAILED
    ) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.next_step = next_step
        self.code = code

    def __str__(self) -> str:
        return "\n".join(filter(None, [self.sentence, self.next_step]))


@contextmanager
def errors_explained(*more: str) -> Iterator[None]:
    """Raise errors of AWS and of the network to it as CommandError; more: further next steps."""
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        sentence, next_step = explained(error)
        raise CommandError(sentence, "\n".join([next_step, *more])) from error
