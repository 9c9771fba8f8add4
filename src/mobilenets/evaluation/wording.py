"""How numbers are written wherever a result is put into words: the reason of a choice, the tables and the page.

Plain spaces only; the report, whose lines break, replaces them by ones that don't.
"""

from __future__ import annotations


def three_digits(value: float) -> str:
    """Write `value` with three significant digits and no exponent: 0.0312, 0.312, 12.4, 1,234."""
    for bound, digits in ((0.1, 4), (1.0, 3), (10.0, 2), (100.0, 1)):
        # Rounding may reach the bound (0.9996): then the next row, with a digit fewer, writes it.
        if round(abs(value), digits) < bound:
            return f"{value:.{digits}f}"
    return f"{value:,.0f}"


def p_value(probability: float) -> str:
    """Write a p-value as a reader needs it: two digits, and no pretended precision near 0."""
    if probability < 0.001:
        return "p < 0.001"
    return f"p = {probability:.{3 if probability < 0.1 else 2}f}"


def megabytes(size: int) -> str:
    """Write bytes as MB (10^6 bytes)."""
    return three_digits(size / 1e6)
