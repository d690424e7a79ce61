"""How figures are written for people, everywhere alike: in reports, mails, records and the demo."""

from droplens.statistics.intervals import wilson


def percent(share: float, digits: int = 1) -> str:
    """A share as a percentage: 0.914 is "91.4 %"."""
    return f"{100 * share:.{digits}f} %"


def exact_percent(share: float) -> str:
    """A share that somebody has set, with the digits that it was set with: 0.95 is "95 %"."""
    return f"{round(100 * share, 6):g} %"


def counted(right: int, asked: int) -> str:
    """A share with what it was counted on and its 95 % Wilson interval, in percent.

    119 of 129 are "92.2 % (119 of 129; 86.3 to 95.7)".
    """
    low, high = wilson(right, asked)
    return f"{percent(right / asked)} ({right:,} of {asked:,}; {100 * low:.1f} to {100 * high:.1f})"
