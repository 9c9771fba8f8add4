"""What a deployment knows when it is done: plain frozen records, for printing, for the page and as JSON.

Accuracies and drops are percentages and points (0 to 100), sizes bytes, times milliseconds, memory MiB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mobilenets.benchmarking.results import BenchmarkReport, Ratio
from mobilenets.evaluation.results import Latency
from mobilenets.quantization.results import QuantizationReport, finite, within
from mobilenets.result import Result

Status = Literal["made", "missing", "failed", "refused"]


@dataclass(frozen=True)
class FileOutcome:
    """What became of one file that was to be made.

    Attributes:
        name: below the folder of candidates.
        kind: its format, one of `artifact.description.KINDS`.
        precision: `fp32` or `int8`.
        status: `made`; `missing` lacks a package; `failed` could not be made or answers incorrectly; `refused` loses
            more accuracy than allowed.
        path: the file or folder; empty unless made.
        file_bytes: bytes on disk; 0 unless made.
        reason: why there is no file, and what to do; empty where there is one.
    """

    name: str
    kind: str
    precision: str
    status: Status
    path: str = ""
    file_bytes: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Way:
    """One way to run one file here, scored and measured.

    Attributes:
        label: names it; no two ways share one.
        path: the file or folder.
        kind: its format.
        stored: what the file was exported as, `fp32` or `int8`.
        backend: the runtime.
        precision: the arithmetic it computes in there.
        threads: threads, and cores, it was given.
        file_bytes: bytes on disk.
        top1: accuracy on the images that decide, answered by this backend in this precision.
        drop: points lost on them against the network in PyTorch; negative where it is better.
        latency: of one image.
        peak_memory_mb: peak resident memory of a fresh process that answered one image.
        cold_start_ms: from starting that process until its first answer.
        test_top1: accuracy on the test images, asked when the choice was made; None where they decided themselves.
    """

    label: str
    path: str
    kind: str
    stored: str
    backend: str
    precision: str
    threads: int
    file_bytes: int
    top1: float
    drop: float
    latency: Latency
    peak_memory_mb: float
    cold_start_ms: float
    test_top1: float | None = None


@dataclass(frozen=True)
class Decision:
    """The way that is kept, and why.

    Attributes:
        label: the way's.
        holds: whether it is within the drop allowed; where no way is, a float file is kept all the same.
        reason: one or two sentences.
        tied: ways as fast as it as far as this machine can tell, the kept one left out.
    """

    label: str
    holds: bool
    reason: str
    tied: tuple[str, ...] = ()


@dataclass(frozen=True)
class Advantage:
    """How much faster the kept way is than a peer: `ratio` is the peer's time over its own, above 1 it is faster."""

    peer: str
    ratio: Ratio


@dataclass(frozen=True)
class DeploymentTest:
    """The test images, asked once the choice was made: in words, and the network's own accuracy on them in PyTorch."""

    data: str
    float_top1: float


@dataclass(frozen=True, repr=False)
class DeploymentReport(Result):
    """Everything `deploy` found out.

    Attributes:
        created: when it began, ISO 8601.
        command: how it was asked for.
        network: name, width and input size.
        data: the images that decide in words: validation images, or test images where those can't be known.
        max_drop: points of top-1 allowed.
        float_top1: the network's own accuracy on them in PyTorch.
        path: the file kept, or OpenVINO's folder.
        decision: which way that is, and why.
        advantages: how it compares with PyTorch eager, and with ONNX Runtime and OpenVINO with their defaults.
        files: what became of every file that was to be made.
        ways: every way to run them here, the fastest first.
        quantizations: the ladder searches; `runtimes` of each is empty, since `survey` times all files.
        survey: all ways measured in one alternation.
        final: the kept way and its peers measured again, undisturbed by the others; None where there are no peers.
        environment: the machine and versions.
        notes: what the user should know, a sentence each.
        test: what the test images are, and PyTorch's accuracy on them; None where they decided themselves.
    """

    created: str
    command: str
    network: str
    data: str
    max_drop: float
    float_top1: float
    path: str
    decision: Decision
    advantages: tuple[Advantage, ...]
    files: tuple[FileOutcome, ...]
    ways: tuple[Way, ...]
    quantizations: tuple[QuantizationReport, ...]
    survey: BenchmarkReport
    final: BenchmarkReport | None
    environment: Mapping[str, str]
    notes: tuple[str, ...]
    test: DeploymentTest | None = None

    @property
    def kept(self) -> Way:
        """The way that is kept."""
        return next(way for way in self.ways if way.label == self.decision.label)

    def test_drop(self, way: Way) -> float | None:
        """Points it loses on the test images against the network in PyTorch, where these were asked of it."""
        return None if self.test is None or way.test_top1 is None else self.test.float_top1 - way.test_top1

    def verdict(self, way: Way) -> str:
        """Why this way was kept or not, in a few words."""
        kept = self.kept
        if way.label == kept.label:
            return "kept"
        if not within(way.drop, self.max_drop):
            return f"loses {way.drop:.2f} points, {self.max_drop:g} allowed"
        if way.label in self.decision.tied:
            return "not measurably slower"
        return f"holds, {way.latency.median_ms / kept.latency.median_ms:.2f}× the time"

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON can hold it, with each way's verdict; NaN and infinity become null."""
        record: dict[str, Any] = finite(asdict(self))
        record["quantizations"] = [_without_refused(one.to_dict()) for one in self.quantizations]
        record["kept"] = finite(asdict(self.kept))
        for way, shown in zip(self.ways, record["ways"], strict=True):
            shown["verdict"] = self.verdict(way)
        return record

    def _headline(self) -> str:
        kept = self.kept
        held = "" if self.decision.holds else "nothing holds the accuracy; "
        return f"{self.network}: {held}{kept.label}, {kept.latency.median_ms:.3g} ms, top-1 {kept.top1:.2f} %"

    def _rows(self) -> Sequence[Mapping[str, object]]:
        return [
            {
                "way": way.label,
                "median_ms": way.latency.median_ms,
                "top1": way.top1,
                "drop": way.drop,
                "test_top1": way.test_top1,
                "file_bytes": way.file_bytes,
                "peak_memory_mb": way.peak_memory_mb,
                "verdict": self.verdict(way),
            }
            for way in self.ways
        ]


def _without_refused(record: dict[str, Any]) -> dict[str, Any]:
    """Whether a ladder was refused, the outcome of its file says here."""
    return {name: value for name, value in record.items() if name != "refused"}
