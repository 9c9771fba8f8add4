"""The columns of the comparison, defined once for the terminal, Markdown and the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mobilenets.evaluation.results import Comparison, Interval, NetworkRow
from mobilenets.evaluation.wording import megabytes, three_digits
from mobilenets.report.wording import (
    MISSING,
    interval_range,
    latency_tail,
    millions,
    runtime_name,
    runtimes,
)


@dataclass(frozen=True)
class Figure:
    """One cell: the number to sort by (None when it was not measured), how it is written, and its spread."""

    value: float | None
    text: str
    detail: str = ""


@dataclass(frozen=True)
class Column:
    """One column: its heading, a brief one of a word a line, its unit, and the cell of a row.

    `context` marks what neither bounds nor choice go by: a narrow terminal does without it.
    """

    key: str
    heading: str
    brief: str
    unit: str
    figure: Callable[[NetworkRow], Figure]
    context: bool = False


def _percent(interval: Interval) -> Figure:
    return Figure(interval.mean, f"{interval.mean:.1f}", interval_range(interval))


def _latency(key: str) -> Column:
    def figure(row: NetworkRow) -> Figure:
        latency = row.latency.get(key)
        if latency is None:
            return Figure(None, MISSING)
        return Figure(latency.median_ms, three_digits(latency.median_ms), latency_tail(latency))

    # Bounds and choice go by the exported file's latency.
    return Column(
        f"latency_{key}",
        f"{runtime_name(key)} latency",
        runtime_name(key).replace(" ", "\n"),
        "ms",
        figure,
        context=key != "onnxruntime",
    )


def _validation(comparison: Comparison) -> tuple[Column, ...]:
    """What the choice goes by; comparisons of earlier versions have none."""
    if not all(row.validation_top1 is not None for row in comparison.rows):
        return ()
    return (
        Column(
            "validation_top1", "Validation accuracy", "Valid.\naccuracy", "%", lambda row: _percent(row.deciding_top1)
        ),
    )


def columns(comparison: Comparison) -> tuple[Column, ...]:
    """Return the columns after the network's name, with one latency column for each runtime that was measured."""
    return (
        Column("parameters", "Parameters", "Params", "M", lambda row: Figure(row.parameters, millions(row.parameters))),
        Column("macs", "Multiply-adds", "Mult-\nadds", "M", lambda row: Figure(row.macs, millions(row.macs))),
        Column("file_bytes", "File", "File", "MB", lambda row: Figure(row.file_bytes, megabytes(row.file_bytes))),
        Column(
            "train_top1", "Train accuracy", "Train\naccuracy", "%", lambda row: _percent(row.train_top1), context=True
        ),
        *_validation(comparison),
        Column("test_top1", "Test accuracy", "Test\naccuracy", "%", lambda row: _percent(row.test_top1)),
        Column(
            "seconds_per_epoch",
            "Epoch",
            "Epoch",
            "s",
            lambda row: Figure(row.seconds_per_epoch, three_digits(row.seconds_per_epoch)),
            context=True,
        ),
        *(_latency(key) for key in runtimes(row.latency for row in comparison.rows)),
        Column(
            "peak_memory_mb",
            "Peak memory",
            "Peak\nmemory",
            "MiB",
            lambda row: Figure(row.peak_memory_mb, f"{row.peak_memory_mb:,.0f}"),
        ),
    )
