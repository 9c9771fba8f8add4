"""What a user should know of a quantization, in sentences: where int8 is slower, what is faster, what to doubt."""

from __future__ import annotations

from dataclasses import replace

from mobilenets.compression.ladder import Built
from mobilenets.compression.results import QuantizationReport, RuntimeRow, within
from mobilenets.evaluation.results import Latency
from mobilenets.exporting.tensorrt import tensorrt_sentence

NEARLY = 1.03
"""Times within 3 % of each other are called the same, like those that differ by less than they scatter: it is noise."""


def remarks(
    report: QuantizationReport, majority: float, chosen: Built | None, notes: tuple[str, ...]
) -> QuantizationReport:
    """The report with its remarks.

    Args:
        report: without remarks.
        majority: accuracy in percent of always naming the most frequent class.
        chosen: the file written, None where there was a refusal.
        notes: of the network and the data.
    """
    said = [
        *_doubts(report, majority),
        *_size(report),
        *_speed(report.runtimes),
        *_fastest(report),
        *([] if chosen is None or report.kind != "onnx" else [_tensorrt(chosen)]),
        *notes,
    ]
    return replace(report, remarks=tuple(said))


def _doubts(report: QuantizationReport, majority: float) -> list[str]:
    said = []
    if report.float_top1.whole <= majority:
        said.append(
            f"the float network is right on {report.float_top1.whole:.1f} %, no more than naming always the same class "
            f"({majority:.1f} %): a drop from there means nothing, train it first"
        )
    split = "validation" if report.validated else "test"
    image = 100 / report.selection_images
    if image > report.max_drop / 2:
        said.append(
            f"only {report.selection_images} images decide, one of them is {image:.2f} points: "
            f"a drop of {report.max_drop:g} is hardly measured; give more {split} images"
        )
    drop = report.best.drop.report
    if not report.refused and drop is not None and not within(drop, report.max_drop):
        others = "test images" if report.validated else "images that did not decide"
        again = "; don't choose again by them" if report.validated else ""
        said.append(
            f"on the {report.report_images} {others} it loses {drop:.2f} points, more than {report.max_drop:g}: what "
            f"was promised may not hold elsewhere{again}"
        )
    return said


def _size(report: QuantizationReport) -> list[str]:
    sizes = {row.file: row.file_bytes for row in report.runtimes}
    return [f"the int8 file is {sizes['float'] / sizes['int8']:.1f} times smaller"] if "int8" in sizes else []


def _speed(rows: tuple[RuntimeRow, ...]) -> list[str]:
    """One sentence a runtime: int8 against float32, plainly."""
    floats = {row.backend: row for row in rows if row.file == "float" and row.precision == "fp32"}
    said = []
    for row in rows:
        if row.file != "int8" or row.backend not in floats:
            continue
        where = f"in {row.backend} on one thread of this machine"
        in_float = floats[row.backend].latency
        ratio = row.latency.median_ms / in_float.median_ms
        if _same(row.latency, in_float):
            said.append(f"int8 is as fast as float32 {where}")
        elif ratio > 1:
            said.append(f"int8 is {ratio:.2f} times SLOWER than float32 {where}")
        else:
            said.append(f"int8 is {1 / ratio:.2f} times faster than float32 {where}")
    return said


def _same(first: Latency, second: Latency) -> bool:
    """Whether two times can't be told apart: less than 3 % between them, or less than either scatters."""
    low, high = sorted((first.median_ms, second.median_ms))
    return high <= NEARLY * low or high - low < max(first.iqr_ms, second.iqr_ms)


def _fastest(report: QuantizationReport) -> list[str]:
    able = [row for row in report.runtimes if within(max(row.drop.selection, row.drop.whole), report.max_drop)]
    if not able:
        return []
    row = min(able, key=lambda row: row.latency.median_ms)
    same = [_way(other) for other in able if other is not row and _same(other.latency, row.latency)]
    return [
        f"fastest here within {report.max_drop:g} points: {_way(row)}, {row.latency.median_ms:.2f} ms on one thread"
        f"{'; as fast: ' * bool(same)}{', '.join(same)}"
    ]


def _way(row: RuntimeRow) -> str:
    return f"the {row.file} file in {row.backend} in {row.precision}"


def _tensorrt(chosen: Built) -> str:
    if tensorrt_sentence(chosen.exported.payload).startswith("keeps"):
        return "the file keeps TensorRT's rules for explicit quantization (symmetric int8); it was not run there"
    return "TensorRT won't take this file, which is not symmetric int8 throughout: --tensorrt makes one it can"
