"""Numbers as evaluation.json has them: rounded, and shares with their intervals."""

from droplens.statistics.intervals import wilson


def six_decimals(value: float) -> float:
    """A share or a probability."""
    return round(value, 6)


def six_digits(value: float) -> float:
    """A number of any size, to six significant digits."""
    return float(f"{value:.6g}")


def share(right: int, total: int) -> dict[str, float]:
    """`right` of `total` (> 0), with its 95 % Wilson interval."""
    low, high = wilson(right, total)
    return {"value": right / total, "low": six_decimals(low), "high": six_decimals(high)}
