"""The errors that the functions tell apart: the user's to mend, and those that time mends."""

from droplens.domain.text import one_line


class DroplensError(Exception):
    """Base of all errors that Droplens raises itself.

    code: a short stable word for programs; message: a sentence for people, of bounded length and
    on one line whatever names it quotes.
    """

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = one_line(message)
        super().__init__(self.message)


class UserError(DroplensError):
    """Trying again cannot help: the run ends, and its record says why."""


class LimitReached(UserError):
    """A limit of AWS that passes: the run waits for it where its stage can be tried again."""


class CapacityMissing(LimitReached):
    """AWS has no instances of the kind just now."""

    def __init__(self, said: str) -> None:
        super().__init__("aws.capacity", f"AWS has no capacity for it at present: {said}")


class QuotaReached(LimitReached):
    """The account has no room for it: only its owner can ask AWS for more."""

    def __init__(self, said: Exception) -> None:
        super().__init__(
            "account.quota",
            f"the AWS account's quota is reached; ask for more in the Service Quotas console, or "
            f"choose another instance type: {said}",
        )


class RetryLater(DroplensError):
    """The system's own trouble (throttling, an endpoint away): the event must come again."""


class NotBegun(RetryLater):
    """There was no time left for it: nothing was tried, and it should come again soon."""


class ObjectMissing(DroplensError):
    """The object, or the version of it that was asked for, is not there."""

    def __init__(self, key: str) -> None:
        super().__init__("object.missing", f"{key} is not in the bucket")
