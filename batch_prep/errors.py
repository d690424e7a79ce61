"""The ways in which packing ends badly."""

from droplens.domain.text import one_line


class JobError(Exception):
    """The dataset cannot be packed; the message is one sentence that tells its owner why,
    bounded and on one line whatever names it quotes.

    exit_code: 1 says that another attempt would end in the same way.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class StorageError(JobError):
    """S3 could not be reached or refused a request: another attempt may fare better."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


def out_of_memory(detail: str) -> JobError:
    """The job's memory did not suffice, and would not for another attempt."""
    return JobError(
        f"Packing ran out of memory ({detail}): give its jobs more, by the stack's parameter "
        "PackingMemoryMiB."
    )
