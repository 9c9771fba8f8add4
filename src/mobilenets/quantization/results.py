"""What quantization knows when it is done: plain frozen records, for printing, for JSON, and for other rooms.

How they hang together:

- `Top1` holds one predict function's accuracy.
- `Rung` is one attempt of the ladder (`compression.ladder`): what was tried, how it scored, what it bought.
- `RuntimeRow` is one way to run one file: backend and precision, size, accuracy, latency.
- `QuantizationReport` is all of it, what `quantize` returns; `chosen` is None exactly where it refused.

Whoever writes another format (LiteRT) makes a `ladder.Ladder` of its own, which `quantize` climbs, and fills
the same records.

Which images decide. A ladder that picks the best of many rungs on the images it reports on flatters itself. So the
validation images, the *selection*, decide what later rungs build on and which rung is taken; the test images, the
*report*, are asked once, of the float file and the chosen one. Where no validation images are known the test images are
cut into two stratified halves by a seed: one is the selection, the other the report; `whole` is both, where the drop
must be within the bound as well, since it is what others will measure. The report half so has a veto and no other say.
What is bounded is the drop, float minus int8 on the same images.

Accuracies and drops are percentages and points (0 to 100), sizes bytes, times seconds or milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from mobilenets.errors import QuantizationError
from mobilenets.evaluation.results import Latency


def within(drop: float, max_drop: float) -> bool:
    """Whether a drop is allowed; differences of percentages carry errors of rounding, which must not decide."""
    return drop <= max_drop + 1e-9


@dataclass(frozen=True)
class Top1:
    """Top-1 in percent, of 100.

    Attributes:
        selection: on the images that decide: validation images, or one half of the test images.
        report: on those that don't: the test images, None where they were not asked, or their other half.
        whole: on all images that judge rungs: the validation images, or both halves.
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
    """

    file: str
    backend: str
    precision: str
    file_bytes: int
    top1: Top1
    drop: Top1
    latency: Latency


@dataclass(frozen=True)
class QuantizationReport:
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
        runtimes: both files in every installed runtime.
        remarks: what a user should know, a sentence each.
        validated: whether validation images decided, and not one half of the test images.
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
    remarks: tuple[str, ...]
    validated: bool = False

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
