"""What a comparison knows when it is done: plain frozen records, written to and read from JSON.

Computing, printing and drawing are apart: `mobilenets.comparison` fills these records, `mobilenets.report` shows them.
Accuracies, calibration errors and differences between them are percentages (0 to 100); times are milliseconds or
seconds as their names say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from mobilenets.errors import MobilenetsError
from mobilenets.progress import EpochPoint
from mobilenets.result import Result


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval; `basis` says what varied, e.g. `3 seeds` or `360 test images, 1 seed`."""

    mean: float
    low: float
    high: float
    basis: str


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class: its images, its recall and the precision of its predictions, both in percent.

    `f1` is the harmonic mean of the two in percent; it is worked out where a file of an earlier version has none.
    """

    name: str
    count: int
    recall: float
    precision: float
    f1: float = math.nan

    def __post_init__(self) -> None:
        """Fill in what earlier files lack."""
        if math.isnan(self.f1):
            total = self.recall + self.precision
            object.__setattr__(self, "f1", 2 * self.recall * self.precision / total if total else 0.0)


@dataclass(frozen=True)
class Metrics:
    """Scores of a predict function on one split. `confusion[t][p]` counts images of class t called p.

    `macro_recall` (also called balanced accuracy), `macro_precision` and `macro_f1` are plain means over the classes
    that have images, so that a rare class weighs as much as a frequent one; worked out where earlier files lack them.
    `flip_test` says that each image was answered together with its mirror image.
    """

    count: int
    loss: float
    top1: float
    top5: float
    ece: float
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    macro_recall: float = math.nan
    macro_precision: float = math.nan
    macro_f1: float = math.nan
    flip_test: bool = False

    def __post_init__(self) -> None:
        """Fill in what earlier files lack."""
        present = [score for score in self.classes if score.count]
        for name in ("recall", "precision", "f1"):
            if math.isnan(getattr(self, f"macro_{name}")):
                mean = fmean(getattr(score, name) for score in present) if present else 0.0
                object.__setattr__(self, f"macro_{name}", mean)


@dataclass(frozen=True)
class LedgerEntry:
    """One time that a network was scored on its test images.

    Attributes:
        at: when, ISO 8601 in UTC.
        command: the verb that did it, e.g. `compare`.
        images: how many.
        digest: of the data set they are of.
        repeats: whether it repeats one that was stopped before it left scores.
    """

    at: str
    command: str
    images: int
    digest: str = ""
    repeats: bool = False


@dataclass(frozen=True)
class Latency:
    """Time of one call in milliseconds: median, 95th percentile, and the interquartile range as spread."""

    median_ms: float
    p95_ms: float
    iqr_ms: float
    calls: int


@dataclass(frozen=True)
class Mistake:
    """A misclassified test image, with `confidence` percent; `thumbnail` is a `data:image/png;base64,...` address."""

    image: str
    thumbnail: str
    truth: str
    predicted: str
    confidence: float


@dataclass(frozen=True, repr=False)
class SeedRun(Result):
    """One network trained once: where its run folder is, how it learned and how it scored.

    `plan` says where and how it was computed, e.g. `cpu, float32, channels_last`. `validation` is None where there were
    no validation images. `test_readings` is what the run folder remembers of who scored it on test images.
    """

    seed: int
    folder: str
    train: Metrics
    test: Metrics
    seconds_per_epoch: float
    curve: tuple[EpochPoint, ...]
    plan: str = ""
    validation: Metrics | None = None
    test_readings: tuple[LedgerEntry, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """See `Result`."""
        return asdict(self)

    def _headline(self) -> str:
        name = Path(self.folder).name
        return f"{name[:60]}: test accuracy {self.test.top1:.2f} % ({self.test.count:,} images), seed {self.seed}"

    def _rows(self) -> Sequence[Mapping[str, object]]:
        return [asdict(point) for point in self.curve]


@dataclass(frozen=True)
class NetworkRow:
    """A network's row: what it costs and how well it answers.

    `macs` are multiply-adds of convolutions and linear layers for one image. `latency` is keyed by runtime
    (`pytorch`, `onnxruntime`), batch 1. `peak_memory_mb` is the peak resident memory (MiB) of a fresh process that
    answers one image from the exported file. `file_bytes` is that file's size. `validation_top1` is what the choice
    goes by; comparisons of earlier versions have none and went by `test_top1`.
    """

    label: str
    model: str
    width_mult: float
    image_size: int
    parameters: int
    macs: int
    file_bytes: int
    train_top1: Interval
    test_top1: Interval
    test_top5: float
    ece: float
    seconds_per_epoch: float
    latency: dict[str, Latency]
    peak_memory_mb: float
    runs: tuple[SeedRun, ...]
    mistakes: tuple[Mistake, ...]
    validation_top1: Interval | None = None

    @property
    def deciding_top1(self) -> Interval:
        """The accuracy the choice goes by."""
        return self.test_top1 if self.validation_top1 is None else self.validation_top1


@dataclass(frozen=True)
class PairedTest:
    """Two networks on the same images, those the choice goes by.

    `difference` is first minus second in points of top-1, with 95 % interval.

    `p_adjusted` is Holm's correction over all pairs of the comparison; `differs` is `p_adjusted < 0.05`.
    """

    first: str
    second: str
    difference: float
    low: float
    high: float
    p_value: float
    p_adjusted: float
    differs: bool
    method: str


@dataclass(frozen=True)
class Bounds:
    """What the user's device and task allow; `None` where there is no bound.

    Raises:
        MobilenetsError: a bound that can't be: said before hours of training, not after.
    """

    max_latency_ms: float | None = None
    max_params: int | None = None
    min_top1: float | None = None

    def __post_init__(self) -> None:
        """Refuse bounds nothing can be within."""
        for name, value in (("max_latency_ms", self.max_latency_ms), ("max_params", self.max_params)):
            if value is not None and not 0 < value < math.inf:
                raise MobilenetsError(f"{name} must be a number above 0, not {value}")
        if self.min_top1 is not None and not 0 <= self.min_top1 <= 100:
            raise MobilenetsError(f"min_top1 is a percentage from 0 to 100, not {self.min_top1}")


@dataclass(frozen=True)
class Choice:
    """The recommended network (`label` of a row, or None when none fits), and why in one or two sentences."""

    label: str | None
    reason: str


@dataclass(frozen=True)
class DataSummary:
    """The images compared on. `skipped` names unreadable images that were left out on request.

    `train_images` are those trained on; of comparisons of earlier versions, which had no validation images, all.
    """

    name: str
    classes: tuple[str, ...]
    train_images: int
    test_images: int
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    validation_images: int = 0


@dataclass(frozen=True, repr=False)
class Comparison(Result):
    """A comparison's result. `recipe` holds the recipe's fields, `environment` versions and the machine."""

    created: str
    command: str
    data: DataSummary
    recipe: dict[str, str | int | float | bool]
    environment: dict[str, str]
    rows: tuple[NetworkRow, ...]
    pairs: tuple[PairedTest, ...]
    bounds: Bounds
    choice: Choice
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Everything; NaN and infinities, which JSON lacks, are strings."""
        from pydantic_core import to_jsonable_python

        found: dict[str, Any] = to_jsonable_python(self, inf_nan_mode="strings")
        return found

    def _headline(self) -> str:
        return f"{len(self.rows)} networks on {self.data.name}; recommended: {self.choice.label or 'none'}"

    def _rows(self) -> Sequence[Mapping[str, object]]:
        return [
            {
                "network": row.label,
                "validation_top1": None if row.validation_top1 is None else row.validation_top1.mean,
                "test_top1": row.test_top1.mean,
                "parameters": row.parameters,
                "macs": row.macs,
                "file_bytes": row.file_bytes,
                "peak_memory_mb": row.peak_memory_mb,
                **{f"{runtime}_ms": latency.median_ms for runtime, latency in row.latency.items()},
                "recommended": row.label == self.choice.label,
            }
            for row in self.rows
        ]
