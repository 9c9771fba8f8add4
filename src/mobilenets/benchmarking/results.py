"""What a benchmark found: plain frozen records, written as JSON.

Times are milliseconds of one call, memory is MiB, accuracies are percentages. Measuring fills these records;
`report.benchmark` and `report.plots.benchmark` show them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mobilenets.evaluation.results import Latency
from mobilenets.result import Result


@dataclass(frozen=True)
class Measurement:
    """One candidate at one batch size.

    Attributes:
        batch_size: images a call.
        latency: time of one call, hence of `batch_size` images.
        images_per_second: throughput at the median.
        drift: median of the second half of the rounds over that of the first; far from 1, the machine changed pace.
    """

    batch_size: int
    latency: Latency
    images_per_second: float
    drift: float


@dataclass(frozen=True)
class BenchmarkRow:
    """One way to run one file, and what it costs.

    Attributes:
        label: names the row; no two rows share one.
        path: the file or folder as given; empty for a network that has none (PyTorch eager).
        source: `artifact`, run as `predict` runs it; `file`, opened with the runtime's defaults; `pytorch`.
        backend: `onnxruntime`, `openvino`, `litert`, `executorch` or `pytorch`.
        precision: arithmetic it computed in.
        threads: threads, and cores, it was given.
        peer: whether it is what the others are compared against.
        network: name and width of the network, as far as the file tells.
        file_bytes: bytes on disk; None where there is no file.
        peak_memory_mb: peak resident memory of a fresh process that answered one image.
        cold_start_ms: from starting that process until its first answer, median over the starts.
        measurements: one a batch size.
        top1: accuracy in percent where it is known.
        top1_basis: the images it was found on.
    """

    label: str
    path: str
    source: str
    backend: str
    precision: str
    threads: int
    peer: bool
    network: str
    file_bytes: int | None
    peak_memory_mb: float
    cold_start_ms: float
    measurements: tuple[Measurement, ...]
    top1: float | None = None
    top1_basis: str = ""

    def at(self, batch_size: int) -> Measurement | None:
        """What was measured at this batch size, None where nothing was."""
        return next((one for one in self.measurements if one.batch_size == batch_size), None)


@dataclass(frozen=True)
class Accuracy:
    """Top-1 in percent, and the images it was found on."""

    top1: float
    basis: str


@dataclass(frozen=True)
class Ratio:
    """Time of `first` over time of `second` at one batch size, with its 95 % interval: below 1, `first` is faster.

    `distinct` tells whether the difference is measurable on this machine as it was: the interval leaves out 1 and the
    difference exceeds what two processes of one and the same file differed by.
    """

    first: str
    second: str
    batch_size: int
    ratio: float
    low: float
    high: float
    distinct: bool

    def turned(self) -> Ratio:
        """The same finding seen from the other side."""
        return Ratio(
            self.second, self.first, self.batch_size, 1 / self.ratio, 1 / self.high, 1 / self.low, self.distinct
        )


@dataclass(frozen=True)
class Failure:
    """A candidate that could not be measured, and why."""

    label: str
    reason: str


@dataclass(frozen=True, repr=False)
class BenchmarkReport(Result):
    """A benchmark's result.

    Attributes:
        created: when it began, ISO 8601 with the offset from UTC.
        environment: processor, its units that matter here, cores, load, versions.
        settings: batch sizes, seconds and starts asked for.
        rows: every candidate that was measured, peers last.
        ratios: every pair of rows at every batch size both were measured at.
        noise: for each batch size, two processes of one and the same file against each other.
        failures: candidates that could not be measured.
        warnings: what a reader must know before believing a difference, a sentence each.
    """

    created: str
    environment: Mapping[str, str]
    settings: Mapping[str, str]
    rows: tuple[BenchmarkRow, ...]
    ratios: tuple[Ratio, ...]
    noise: tuple[Ratio, ...]
    failures: tuple[Failure, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Every batch size some row was measured at, smallest first."""
        return tuple(sorted({one.batch_size for row in self.rows for one in row.measurements}))

    def row(self, label: str) -> BenchmarkRow:
        """Find a row.

        Raises:
            KeyError: no row has this label.
        """
        for row in self.rows:
            if row.label == label:
                return row
        raise KeyError(label)

    def ratio(self, first: str, second: str, batch_size: int) -> Ratio | None:
        """Time of row `first` over time of row `second`, None where they were not measured together."""
        for ratio in self.ratios:
            if ratio.batch_size == batch_size and {ratio.first, ratio.second} == {first, second}:
                return ratio if ratio.first == first else ratio.turned()
        return None

    def fastest(self, batch_size: int) -> BenchmarkRow | None:
        """The row with the lowest median at this batch size that is no peer, None where nothing was measured."""
        measured = [(one.latency.median_ms, row) for row in self.rows if not row.peer and (one := row.at(batch_size))]
        return min(measured, key=lambda pair: pair[0])[1] if measured else None

    def with_accuracies(self, accuracies: Mapping[str, Accuracy]) -> BenchmarkReport:
        """Return the same report with the accuracies of these rows, by label."""
        rows = (
            replace(row, top1=found.top1, top1_basis=found.basis) if (found := accuracies.get(row.label)) else row
            for row in self.rows
        )
        return replace(self, rows=tuple(rows))

    def to_dict(self) -> dict[str, Any]:
        """The whole report."""
        return asdict(self)

    def _headline(self) -> str:
        batch = next(iter(self.batch_sizes), None)
        fastest = None if batch is None else self.fastest(batch)
        measured = None if fastest is None or batch is None else fastest.at(batch)
        if fastest is None or measured is None:
            return "nothing was measured"
        return f"fastest at batch {batch}: {fastest.label}, {measured.latency.median_ms:.3g} ms"

    def _rows(self) -> Sequence[Mapping[str, object]]:
        return [
            {
                "candidate": row.label,
                "batch_size": one.batch_size,
                "median_ms": one.latency.median_ms,
                "p95_ms": one.latency.p95_ms,
                "images_per_second": one.images_per_second,
                "file_bytes": row.file_bytes,
                "peak_memory_mb": row.peak_memory_mb,
                "cold_start_ms": row.cold_start_ms,
                "top1": row.top1,
            }
            for row in self.rows
            for one in row.measurements
        ]
