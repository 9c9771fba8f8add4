"""What quantization knows when it is done: plain frozen records, for printing, for JSON, and for other packages.

How they hang together:

- `Top1` holds one predict function's accuracy.
- `Rung` is one attempt of the ladder (`quantization.search`): what was tried, how it scored, what it bought.
- `RuntimeRow` is one way to run one file: backend and precision, size, accuracy, latency.
- `QuantizationReport` is all of it, what `quantize` returns; `chosen` is None exactly where it refused.

Another format has a `search.Ladder` of its own and fills the same records.

Which images decide. A ladder that picks the best of many rungs on the images it reports on flatters itself. So the
validation images, the *selection*, decide what later rungs build on and which rung is taken; the test images, the
*report*, are asked once, of the float file and the chosen one. Where no validation images are known the test images are
cut into two stratified halves by a seed: one is the selection, the other the report; `whole` is both, where the drop
must be within the bound as well, since it is what others will measure. The report half so has a veto and no other say.
What is bounded is the drop, float minus int8 on the same images.

Accuracies and drops are percentages and points (0 to 100), sizes bytes, times seconds or milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mobilenets.errors import QuantizationError
from mobilenets.evaluation.results import Latency
from mobilenets.result import Result


def within(drop: float, max_drop: float) -> bool:
    """Whether a drop is allowed; differences of percentages carry errors of rounding, which must not decide."""
    return drop <= max_drop + 1e-9


def points(count: float) -> str:
    """Write a number of percentage points: `1 point`, `0.5 points`."""
    return f"{count:g} point{'' if count == 1 else 's'}"


def finite(value: Any) -> Any:
    """What JSON can hold: NaN and infinity become null, tuples lists."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class Top1:
    """Top-1 in percent, of 100.

    Attributes:
        selection: on the images that decide: validation images, or one half of the test images.
        report: on those that don't: the test images, None where they were not asked, or their other half.
        whole: on all images that rungs are scored on: the validation images, or both halves.
    """

    selection: float
    report: float | None
    whole: float

    def drop_from(self, reference: Top1) -> Top1:
        """Points lost against `reference` on each of the three; negative where this one is better."""
        known = self.report is not None and reference.report is not None
        report = reference.report - self.report if known else None  # type: ignore[operator]
        return Top1(reference.selection - self.selection, report, reference.whole - self.whole)


@dataclass(frozen=True)
class CalibrationSummary:
    """Where the activation ranges come from.

    Attributes:
        images: how many training images were drawn, without augmentation.
        classes: how many of the classes they show.
        seed: chose them; the same seed draws the same images.
    """

    images: int
    classes: int
    seed: int


@dataclass(frozen=True)
class Rung:
    """One attempt: a way to quantize the network, and how well the result answers.

    Attributes:
        name: short and unique within its ladder, e.g. `accurate bias correction`.
        what: one sentence saying what is done and against which fault.
        top1: of the 8-bit file.
        drop: points lost against float, likewise on each set of images.
        bought: points of selection accuracy won over the best rung before it; 0 for the first.
        file_bytes: size of the file.
        float_layers: the layers kept in float, by name in the file.
        symmetric: every zero point is 0 and every value int8, as TensorRT demands of an explicit QDQ file.
        seconds: time to make and score it.
    """

    name: str
    what: str
    top1: Top1
    drop: Top1
    bought: float
    file_bytes: int
    float_layers: tuple[str, ...]
    symmetric: bool
    seconds: float

    @property
    def lost(self) -> float:
        """What is held against the drop allowed: that on the images that decide, or on all where it is greater."""
        return max(self.drop.selection, self.drop.whole)


@dataclass(frozen=True)
class RuntimeRow:
    """One way to run one file on this machine, batch 1, one thread, measured in alternation with the others.

    Attributes:
        file: `float` or `int8`.
        backend: which runtime.
        precision: its arithmetic: fp32, bf16, fp16 or int8.
        file_bytes: size on disk, description included.
        top1: its accuracy, in this runtime.
        drop: points lost against the float file in ONNX Runtime.
        latency: of one image on one thread.
        as_fast: labels of the other ways that are as fast, by `evaluation.selection.as_fast_as`.
    """

    file: str
    backend: str
    precision: str
    file_bytes: int
    top1: Top1
    drop: Top1
    latency: Latency
    as_fast: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """File, runtime and arithmetic."""
        return f"{self.file} {self.backend} {self.precision}"


@dataclass(frozen=True, repr=False)
class QuantizationReport(Result):
    """Everything `quantize` found out.

    Attributes:
        network: the network's name.
        run: where it came from.
        data: the images' name.
        kind: format of the 8-bit file, `onnx` or `litert`.
        out: the file written: the 8-bit one or, where it refused, the float one beside it.
        max_drop: points of top-1 allowed.
        seed: drew the calibration images, and cut the test images in halves where these decided.
        selection_images: images that decided.
        report_images: images that did not: the test images, 0 where they were not asked, or their other half.
        calibration: where the ranges come from.
        float_top1: of the float file.
        float_bytes: its size.
        rungs: in the order they were tried.
        chosen: name of the first rung within `max_drop`, None where none is.
        runtimes: both files in every installed runtime; none in a deployment, which times all its files itself.
        notes: what a user should know, a sentence each.
        validated: whether validation images decided, and not one half of the test images.
        chance_level: accuracy in percent of always answering the most frequent class.
        keeps_tensorrt_rules: whether the ONNX file keeps TensorRT's rules; None of another format or no 8-bit file.
    """

    network: str
    run: str
    data: str
    kind: str
    out: str
    max_drop: float
    seed: int
    selection_images: int
    report_images: int
    calibration: CalibrationSummary
    float_top1: Top1
    float_bytes: int
    rungs: tuple[Rung, ...]
    chosen: str | None
    runtimes: tuple[RuntimeRow, ...]
    notes: tuple[str, ...]
    validated: bool = False
    chance_level: float = 0.0
    keeps_tensorrt_rules: bool | None = None

    @property
    def refused(self) -> bool:
        """Whether no 8-bit network was good enough, so that the float file was written instead."""
        return self.chosen is None

    @property
    def best(self) -> Rung:
        """The chosen rung or, where there is none, the one that came nearest."""
        return min(self.rungs, key=lambda rung: (rung.name != self.chosen, rung.lost))

    def raise_if_refused(self) -> None:
        """Raise what the command line ends with where no rung was good enough.

        Raises:
            QuantizationError: it names the drop allowed and the least one found.
        """
        if self.refused:
            raise QuantizationError(
                f"no 8-bit {self.network} within {self.max_drop:g} points of float: the best, {self.best.name}, lost "
                f"{self.best.lost:.2f}; kept the float file, {self.out}. Allow more with `max_drop`"
            )

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON can hold it; the key of the notes is older than their name."""
        shown = {name: value for name, value in asdict(self).items() if name not in _NOT_IN_JSON}
        record: dict[str, Any] = finite({_JSON_NAMES.get(name, name): value for name, value in shown.items()})
        return {**record, "refused": self.refused}

    def _headline(self) -> str:
        if self.refused:
            return f"{self.network}: no 8-bit {self.kind} file within {points(self.max_drop)} of float"
        return f"{self.network}: {self.best.name}, {self.best.lost:.2f} points of top-1 lost"

    def _rows(self) -> Sequence[Mapping[str, object]]:
        return [
            {
                "rung": rung.name,
                "top1": rung.top1.selection,
                "drop": rung.drop.selection,
                "bought": rung.bought,
                "file_bytes": rung.file_bytes,
                "chosen": rung.name == self.chosen,
            }
            for rung in self.rungs
        ]


_JSON_NAMES = {"notes": "remarks"}  # codespell:ignore remarks
_NOT_IN_JSON = ("chance_level", "keeps_tensorrt_rules")  # what is to be said of them, the notes say
