"""Formatting of shares for people, in reports, mails, records and the demo."""

from droplens.statistics.intervals import wilson


def percent(share: float, digits: int = 1) -> str:
    """A share in percent: 0.914 is "91.4 %"."""
    return f"{100 * share:.{digits}f} %"


def exact_percent(share: float) -> str:
    """A share that was configured, with as many digits as it has: 0.95 is "95 %"."""
    return f"{round(100 * share, 6):g} %"


def counted(right: int, total: int) -> str:
    """A share with its counts and its 95 % Wilson interval, in percent.

    119 of 129 are "92.2 % (119 of 129; 86.3 to 95.7)".
    """
    low, high = wilson(right, total)
    return f"{percent(right / total)} ({right:,} of {total:,}; {100 * low:.1f} to {100 * high:.1f})"
