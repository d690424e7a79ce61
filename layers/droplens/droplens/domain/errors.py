"""Errors of the functions, permanent or to be retried."""

from droplens.domain.text import one_line


class DroplensError(Exception):
    """Base of all errors that Droplens raises itself.

    code: a short stable identifier for programs; message: a sentence for people, of bounded length
    and on one line, whatever names it quotes.
    """

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = one_line(message)
        super().__init__(self.message)


class UserError(DroplensError):
    """A permanent error: the run ends, and its record has code and message."""


class LimitReached(UserError):
    """A temporary limit of AWS: the run waits for it where its stage can be retried."""


class CapacityMissing(LimitReached):
    """AWS has no capacity for the instance type at present."""

    def __init__(self, reason: str) -> None:
        super().__init__("aws.capacity", f"AWS has no capacity for it at present: {reason}")


class QuotaReached(LimitReached):
    """A service quota of the account is reached; its owner can request an increase."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(
            "account.quota",
            f"the AWS account's quota is reached; ask for more in the Service Quotas console, or "
            f"choose another instance type: {reason}",
        )


class RetryLater(DroplensError):
    """A transient fault (throttling, a missing endpoint): the event must be retried."""


class NotBegun(RetryLater):
    """The invocation had no time left: nothing was tried, and a retry should come soon."""


class ObjectMissing(DroplensError):
    """The object, or the requested version of it, does not exist."""

    def __init__(self, key: str) -> None:
        super().__init__("object.missing", f"{key} is not in the bucket")
