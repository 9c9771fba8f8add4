"""A comparison as text: the terminal's table, Markdown, CSV and JSON.

A terminal narrower than 156 columns gets each interval and 95th percentile on a second line, one narrower than 110
also loses the columns that are context only (its caption says which); CSV and JSON always hold everything.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json as to_json_bytes
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mobilenets.errors import RunError
from mobilenets.evaluation.results import Comparison, Interval, Metrics, NetworkRow
from mobilenets.files import write_text_atomically
from mobilenets.formatting import (
    MISSING,
    NBSP,
    megabytes,
    millions,
    plural,
    printable,
    short_labels,
    spreadsheet_cell,
    three_digits,
)
from mobilenets.limits import check_json, read_bytes
from mobilenets.report.layout import plain_table
from mobilenets.report.scores import interval_range, latency_tail, pair_sentence, parted_pairs, runtime_name, runtimes

# The columns of the comparison, defined once for the terminal, Markdown and the page.


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


ONE_LINE_WIDTH = 156
ALL_COLUMNS_WIDTH = 110
CHOSEN_MARK = "★"

_COMPARISON = TypeAdapter(Comparison)
# Inside a JSON string a line end is escaped, so this only ever matches a list.
_NUMBER_LIST = re.compile(r"\[\n\s*([-+.\deE]+(?:,\n\s*[-+.\deE]+)*)\n\s*\]")


def comparison_table(comparison: Comparison, *, width: int | None = None) -> Table:
    """Build the terminal's table, a row a network, the chosen one marked with a star.

    Args:
        comparison: what to show.
        width: columns of the terminal, which decide the layout (see the module docstring); default: those of
            the terminal this runs in.
    """
    width = Console().width if width is None else width
    shown = columns(comparison)
    if width < ALL_COLUMNS_WIDTH:
        shown = tuple(column for column in shown if not column.context)
    labels = [row.label for row in comparison.rows]
    names = tuple(labels) if width >= ONE_LINE_WIDTH else short_labels(labels)
    heading = "Network" if names == tuple(labels) else "Network\nmobilenet_…"
    table = plain_table(caption=_caption(comparison, shown))
    table.add_column("", no_wrap=True)
    table.add_column(heading, overflow="fold", vertical="top")
    for column in shown:
        table.add_column(f"{column.brief}\n{column.unit}", justify="right", no_wrap=True)
    separator = "  " if width >= ONE_LINE_WIDTH else "\n"
    for row, name in zip(comparison.rows, names, strict=True):
        chosen = row.label == comparison.choice.label
        cells = [_cell(column.figure(row), separator) for column in shown]
        # Text, not str: a label with square brackets must not be read as rich's markup.
        table.add_row(Text(CHOSEN_MARK if chosen else ""), Text(name), *cells, style="bold" if chosen else None)
    return table


def verdict_lines(comparison: Comparison) -> tuple[str, ...]:
    """Say in words what the tests found on the recommended network (the most accurate, if none fits), a line a test."""
    about, _ = parted_pairs(comparison)
    return tuple(pair_sentence(pair).replace(NBSP, " ") for pair in about)


def metrics_table(metrics: Metrics) -> Table:
    """Build the terminal's table of one split's scores: the totals in the title, then a row a class."""
    title = (
        f"top-1 {metrics.top1:.1f} %, top-5 {metrics.top5:.1f} % of {plural(metrics.count, 'image')}; "
        f"calibration error {metrics.ece:.1f} points, loss {metrics.loss:.3f}"
        f"{'; each answered together with its mirror image' if metrics.flip_test else ''}"
    )
    table = plain_table(title=title)
    table.add_column("Class", overflow="fold")
    for heading in ("Images", "Recall\n%", "Precision\n%", "F1\n%"):
        table.add_column(heading, justify="right", no_wrap=True)
    for score in metrics.classes:
        figures = (score.recall, score.precision, score.f1)
        table.add_row(Text(printable(score.name)), f"{score.count:,}", *(f"{figure:.1f}" for figure in figures))
    table.add_section()
    averages = (metrics.macro_recall, metrics.macro_precision, metrics.macro_f1)
    table.add_row("macro average", f"{metrics.count:,}", *(f"{figure:.1f}" for figure in averages), style="bold")
    return table


def _cell(figure: Figure, separator: str) -> Text:
    text = Text(figure.text)
    if figure.detail:
        text.append(f"{separator}{figure.detail}", style="dim")
    return text


def _caption(comparison: Comparison, shown: Sequence[Column]) -> str | None:
    kept = {column.key for column in shown}
    names = [column.heading for column in columns(comparison) if column.key not in kept]
    if not names:
        return None
    listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    return f"No space here for {listed}: the CSV file and the page have them."


def _markdown_cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _markdown_figure(figure: Figure) -> str:
    return f"{figure.text} ({figure.detail})" if figure.detail else figure.text


def markdown_table(comparison: Comparison) -> str:
    """Return the table as GitHub Markdown, the chosen network in bold; ends with a newline."""
    shown = columns(comparison)
    lines = [
        "| Network | " + " | ".join(f"{column.heading} ({column.unit})" for column in shown) + " |",
        "| :-- | " + " | ".join("--:" for _ in shown) + " |",
    ]
    for row in comparison.rows:
        label = _markdown_cell(row.label)
        label = f"**{label}**" if row.label == comparison.choice.label else label
        lines.append(f"| {label} | " + " | ".join(_markdown_figure(column.figure(row)) for column in shown) + " |")
    return "\n".join(lines) + "\n"


def _interval_fields(name: str, interval: Interval | None) -> dict[str, float | str | None]:
    """Four fields; empty where there is no interval, as of validation images in earlier versions."""
    return {
        f"{name}_percent": None if interval is None else interval.mean,
        f"{name}_low_percent": None if interval is None else interval.low,
        f"{name}_high_percent": None if interval is None else interval.high,
        f"{name}_interval_basis": None if interval is None else interval.basis,
    }


def _csv_record(row: NetworkRow, runtime_keys: tuple[str, ...], chosen: bool) -> dict[str, object]:
    record: dict[str, object] = {
        "network": spreadsheet_cell(row.label),
        "model": row.model,
        "width_mult": row.width_mult,
        "image_size": row.image_size,
        "parameters": row.parameters,
        "macs": row.macs,
        "file_bytes": row.file_bytes,
        **_interval_fields("train_top1", row.train_top1),
        **_interval_fields("validation_top1", row.validation_top1),
        **_interval_fields("test_top1", row.test_top1),
        "test_top5_percent": row.test_top5,
        **{f"test_macro_{name}_percent": _macro(row, name) for name in ("recall", "precision", "f1")},
        "ece_percent": row.ece,
        "seconds_per_epoch": row.seconds_per_epoch,
    }
    for key in runtime_keys:
        latency = row.latency.get(key)
        record[f"latency_{key}_median_ms"] = None if latency is None else latency.median_ms
        record[f"latency_{key}_p95_ms"] = None if latency is None else latency.p95_ms
        record[f"latency_{key}_iqr_ms"] = None if latency is None else latency.iqr_ms
    readings = [one for run in row.runs for one in run.test_readings if not one.repeats]
    return record | {
        "peak_memory_mib": row.peak_memory_mb,
        "seeds": len(row.runs),
        "validation_images": row.runs[0].validation.count if row.runs and row.runs[0].validation else None,
        "test_images_first_read": min((one.at for one in readings), default=None),
        "test_readings": len(readings),
        "chosen": "yes" if chosen else "no",
    }


def _macro(row: NetworkRow, name: str) -> float | None:
    """A macro average over the test images, the mean over seeds."""
    return fmean(getattr(run.test, f"macro_{name}") for run in row.runs) if row.runs else None


def write_csv(comparison: Comparison, path: Path) -> None:
    """Write a row a network with every figure at full precision; a unit ends each column's name.

    Raises:
        RunError: the comparison has no network, or the file can't be written.
    """
    keys = runtimes(row.latency for row in comparison.rows)
    records = [_csv_record(row, keys, row.label == comparison.choice.label) for row in comparison.rows]
    if not records:
        raise RunError(f"{path}: the comparison holds no network; compare at least one")
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    write_text_atomically(path, text.getvalue())


def to_json(comparison: Comparison) -> str:
    """Return the whole comparison as JSON text for programs and people: indented, a list of numbers on one line.

    NaN and infinities, which JSON lacks, become strings.
    """
    text = to_json_bytes(comparison, indent=2, inf_nan_mode="strings").decode()
    return _NUMBER_LIST.sub(lambda found: f"[{' '.join(found[1].split())}]", text)


def write_json(comparison: Comparison, path: Path) -> None:
    """Write the whole comparison as JSON; `read_json` gives an equal one back.

    Raises:
        RunError: the file can't be written.
    """
    write_text_atomically(path, to_json(comparison) + "\n")


def read_json(path: Path) -> Comparison:
    """Read a comparison that `write_json` wrote.

    Raises:
        RunError: the file can't be read or is no comparison; the message names the first wrong field.
    """
    try:
        return _COMPARISON.validate_json(check_json(read_bytes(path)))
    except OSError as error:
        raise RunError(f"{path}: can't be read ({error.strerror}); give the JSON file of a comparison") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise RunError(f"{path}: not a comparison: {where}: {first['msg']}; run the comparison again") from error
    except ValueError as error:
        raise RunError(f"{path}: not a comparison: the file: {error}; run the comparison again") from error
