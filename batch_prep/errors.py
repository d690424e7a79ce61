"""The errors that end a packing job, each with its exit code."""

from droplens.domain.text import one_line


class JobError(Exception):
    """The dataset cannot be packed; the message is one sentence for its owner.

    The message has bounded length and no line break, whatever names it quotes. exit_code: 1 means
    that another attempt would end in the same way.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class StorageError(JobError):
    """S3 could not be reached or refused a request; another attempt may succeed."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


def out_of_memory(detail: str) -> JobError:
    """The error of a job whose memory does not suffice; `detail`: in what way."""
    return JobError(
        f"Packing ran out of memory ({detail}): give its jobs more, by the stack's parameter "
        "PackingMemoryMiB."
    )
