"""How numbers are written wherever a result is put into words: digits, units, counts and durations.

Plain spaces only, but for `NBSP` where a line must not part a number from its unit.
"""

from __future__ import annotations

from collections.abc import Sequence


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


def mebibytes(size: int) -> str:
    """Write bytes as MiB (2^20 bytes) with their unit: `13.37 MiB`."""
    return f"{size / 2**20:,.2f} MiB"


def multiply_adds(count: int) -> str:
    """Write multiply-adds in millions with their unit: `300.77 M`."""
    return f"{count / 1e6:,.2f} M"


MISSING = "–"
NBSP = "\u00a0"  # between a number and its unit, which a line must not part


def millions(count: int) -> str:
    """Write a count in millions with two decimals, or three below a tenth of a million."""
    return f"{count / 1e6:,.2f}" if count >= 100_000 else f"{count / 1e6:.3f}"


def unbroken_p_value(probability: float) -> str:
    """Write a p-value so that no line parts it."""
    return p_value(probability).replace(" ", NBSP)


def duration(seconds: float) -> str:
    """Seconds as people say them: `8 s`, `3:20 min`, `2:05 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h"


def signed(value: float) -> str:
    """Write a difference with one decimal and a real minus sign; what rounds to zero has no sign."""
    return f"{round(value, 1) + 0.0:.1f}".replace("-", "−")


def short_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """Drop the `mobilenet_` that all labels share, for small plots; distinct labels stay distinct."""
    prefix = "mobilenet_"
    if all(label.startswith(prefix) and label != prefix for label in labels):
        return tuple(label.removeprefix(prefix) for label in labels)
    return tuple(labels)


def shortened(text: str, length: int) -> str:
    """Cut `text` to `length` characters, an ellipsis for its middle: names often differ only at their end."""
    if len(text) <= length:
        return text
    tail = length // 3
    return f"{text[: length - tail - 1].rstrip()}…{text[-tail:].lstrip()}"
