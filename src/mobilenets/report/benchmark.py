"""A benchmark for people: tables for each batch size, one of what each candidate costs at rest, and the warnings."""

from __future__ import annotations

from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mobilenets.benchmarking.candidates import DEFAULTS, RUNTIME_WORDS
from mobilenets.benchmarking.results import BenchmarkReport, BenchmarkRow, Measurement, Ratio
from mobilenets.formatting import three_digits
from mobilenets.report.layout import plain_table

FASTEST_MARK = "★"
MISSING = "–"
_LABEL_WIDTH = 20


def benchmark_text(report: BenchmarkReport) -> RenderableType:
    """Lay the whole report out for a terminal."""
    parts: list[RenderableType] = []
    for batch in report.batch_sizes:
        parts.append(batch_table(report, batch))
        if any(row.peer for row in report.rows):
            parts.append(peer_table(report, batch))
    parts.append(cost_table(report))
    lines = [*verdicts(report), *(f"failed: {one.label}: {one.reason}" for one in report.failures)]
    lines += [f"warning: {sentence}" for sentence in report.warnings]
    # Text, not str: a path with square brackets must not be read as rich's markup.
    return Group(*parts, *(Text(line) for line in lines))


def verdicts(report: BenchmarkReport) -> tuple[str, ...]:
    """Say which candidate is fastest at each batch size, and how it compares with each peer of its kind."""
    said = []
    for batch in report.batch_sizes:
        fastest = report.fastest(batch)
        measured = None if fastest is None else fastest.at(batch)
        if fastest is None or measured is None:
            continue
        line = f"batch {batch}: fastest is {fastest.label} with {three_digits(measured.latency.median_ms)} ms"
        for peer in peers_of(report, fastest):
            ratio = report.ratio(peer.label, fastest.label, batch)
            if ratio is not None:
                line += f"; {times_as_fast(ratio)} as fast as {peer.label}"
        said.append(line)
    return tuple(said)


def times_as_fast(peer_over_row: Ratio) -> str:
    """Write how many times as fast as its peer a row is, with the 95 % interval: `6.1× (5.8–6.4)`."""
    ratio, interval = _times(peer_over_row)
    return f"{ratio} ({interval})"


def _times(ratio: Ratio) -> tuple[str, str]:
    digits = 1 if ratio.ratio >= 3 else 2
    return f"{ratio.ratio:.{digits}f}×", f"{ratio.low:.{digits}f}–{ratio.high:.{digits}f}"


def peers_of(report: BenchmarkReport, row: BenchmarkRow) -> tuple[BenchmarkRow, ...]:
    """Peers a row is fairly compared with: as many threads, and the same network as far as the peer's is known."""
    return tuple(
        peer
        for peer in report.rows
        if peer.peer and peer is not row and peer.threads == row.threads and peer.network in ("", row.network)
    )


def batch_table(report: BenchmarkReport, batch_size: int) -> Table:
    """Times at one batch size, the fastest first."""
    fastest = report.fastest(batch_size)
    table = plain_table(f"batch {batch_size}")
    table.add_column("", no_wrap=True)
    table.add_column("Candidate", overflow="fold", min_width=_LABEL_WIDTH)
    for heading in ("Median\nms", "p95\nms", "IQR\nms", "Images\n/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row, one in _measured(report, batch_size):
        table.add_row(
            Text(FASTEST_MARK if row is fastest else ""),
            Text(row.label),
            *(three_digits(value) for value in (one.latency.median_ms, one.latency.p95_ms, one.latency.iqr_ms)),
            three_digits(one.images_per_second),
            style="bold" if row is fastest else "dim" if row.peer else None,
        )
    return table


def peer_table(report: BenchmarkReport, batch_size: int) -> Table:
    """How many times as fast as each kind of peer every candidate is; of several of a kind, as the fastest."""
    measured = _measured(report, batch_size)
    kinds = tuple(dict.fromkeys(_kind(row) for row in report.rows if row.peer))
    table = plain_table(f"batch {batch_size}: how many times as fast as its peer, with the 95 % interval")
    table.add_column("Candidate", overflow="fold", min_width=_LABEL_WIDTH)
    for kind in kinds:
        table.add_column(Text(kind), justify="right", overflow="fold")
    for row in (row for row, _ in measured if not row.peer):
        fair = peers_of(report, row)
        against = {_kind(peer): peer for peer, _ in reversed(measured) if peer in fair}
        ratios = [
            report.ratio(against[kind].label, row.label, batch_size) if kind in against else None for kind in kinds
        ]
        cells = [MISSING if ratio is None else "\n".join(_times(ratio)) for ratio in ratios]
        table.add_row(Text(row.label), *cells, style="bold" if row is report.fastest(batch_size) else None)
    return table


def _measured(report: BenchmarkReport, batch_size: int) -> list[tuple[BenchmarkRow, Measurement]]:
    measured = [(row, one) for row in report.rows if (one := row.at(batch_size)) is not None]
    return sorted(measured, key=lambda pair: pair[1].latency.median_ms)


def cost_table(report: BenchmarkReport) -> Table:
    """What each candidate costs besides time, in the order they were given."""
    with_accuracy = any(row.top1 is not None for row in report.rows)
    table = plain_table("size, memory, start")
    table.add_column("Candidate", overflow="fold")
    for heading in ("File\nMB", "Peak memory\nMiB", "Cold start\nms", *(("Top-1\n%",) if with_accuracy else ())):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in report.rows:
        size = MISSING if row.file_bytes is None else three_digits(row.file_bytes / 1e6)
        cells = [size, three_digits(row.peak_memory_mb), three_digits(row.cold_start_ms)]
        if with_accuracy:
            cells.append(MISSING if row.top1 is None else f"{row.top1:.1f}")
        table.add_row(Text(row.label), *cells)
    return table


def _kind(peer: BenchmarkRow) -> str:
    """Heading of a peer's column: PyTorch and default runtimes are one peer a network, a file is its own."""
    if peer.source == "pytorch":
        return "PyTorch\neager"
    return (
        f"{RUNTIME_WORDS[peer.backend]}\n{DEFAULTS}" if peer.network and peer.source == "file" else Path(peer.path).name
    )
