"""Made-up ways and reports: what is chosen and shown is tested on figures that a machine would take minutes to find."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mobilenets.benchmarking.results import Accuracy, BenchmarkReport, BenchmarkRow, Failure, Measurement, Ratio
from mobilenets.deployment.results import Advantage, DeploymentReport, FileOutcome, Way
from mobilenets.deployment.select import choose
from mobilenets.evaluation.results import Latency
from mobilenets.quantization.results import CalibrationSummary, QuantizationReport, Rung, Top1

MakeWay = Callable[..., Way]


def _way(
    label: str,
    median_ms: float,
    *,
    drop: float = 0.0,
    stored: str = "fp32",
    precision: str | None = None,
    file_bytes: int = 4_000_000,
    threads: int = 1,
) -> Way:
    return Way(
        label=label,
        path=f"candidates/{label}.onnx",
        kind="onnx",
        stored=stored,
        backend="onnxruntime",
        precision=precision or stored,
        threads=threads,
        file_bytes=file_bytes,
        top1=90.0 - drop,
        drop=drop,
        latency=Latency(median_ms, 1.1 * median_ms, 0.05 * median_ms, 100),
        peak_memory_mb=80.0,
        cold_start_ms=300.0,
    )


@pytest.fixture(scope="session")
def way() -> MakeWay:
    """Make a way that differs from an ordinary one in what is named."""
    return _way


def _row(way: Way) -> BenchmarkRow:
    measurement = Measurement(1, way.latency, 1e3 / way.latency.median_ms, 1.0)
    return BenchmarkRow(
        way.label,
        way.path,
        "artifact",
        way.backend,
        way.precision,
        way.threads,
        peer=False,
        network="mobilenet_v2 x1 32 px",
        file_bytes=way.file_bytes,
        peak_memory_mb=way.peak_memory_mb,
        cold_start_ms=way.cold_start_ms,
        measurements=(measurement,),
    )


def _peer(label: str, backend: str, median_ms: float) -> BenchmarkRow:
    latency = Latency(median_ms, 1.2 * median_ms, 0.1 * median_ms, 50)
    source, path = ("pytorch", "") if backend == "pytorch" else ("file", "candidates/float.onnx")
    measurement = Measurement(1, latency, 1e3 / median_ms, 1.0)
    return BenchmarkRow(label, path, source, backend, "fp32", 2, True, "", None, 400.0, 2000.0, (measurement,))


@pytest.fixture
def report() -> DeploymentReport:
    """A deployment 8 bits won; one format is missing, one 8-bit file was refused, and bfloat16 lost too much."""
    ways = (
        _way("int8.onnx, OpenVINO int8, 2 threads", 0.5, drop=0.3, stored="int8", file_bytes=900_000, threads=2),
        _way("float.onnx, OpenVINO bf16, 2 threads", 0.6, drop=1.4, precision="bf16", threads=2),
        _way("float.onnx, OpenVINO fp32, 2 threads", 0.8, threads=2),
        _way("float.onnx, ONNX Runtime fp32, 1 thread", 1.2),
    )
    eager = _peer("PyTorch eager, 2 threads", "pytorch", 9.0)
    survey = BenchmarkReport(
        created="2026-01-01T00:00:00+00:00",
        environment={"processor": "a <b>processor</b>", "cores": "2"},
        settings={"seconds": "1"},
        rows=(*map(_row, ways), eager),
        ratios=(),
        noise=(),
        failures=(Failure("float.pte, ExecuTorch fp32, 1 thread", "no answer within 300 s"),),
    ).with_accuracies({one.label: Accuracy(one.top1, "1,000 test images of photos") for one in ways})
    float_top1 = Top1(90.2, 89.8, 90.0)
    rungs = tuple(
        Rung(name, "one way", Top1(90.2 - drop, 89.5, 89.8), Top1(drop, 0.3, 0.2), bought, 900_000, (), True, 3.0)
        for name, drop, bought in (("plain", 4.0, 0.0), ("fast bias correction", 0.5, 3.5))
    )
    ladder = QuantizationReport(
        network="mobilenet_v2",
        run="runs/photos",
        data="photos",
        kind="onnx",
        out="out/candidates/int8.onnx",
        max_drop=1.0,
        seed=0,
        selection_images=500,
        report_images=500,
        calibration=CalibrationSummary(320, 10, 0),
        float_top1=float_top1,
        float_bytes=4_000_000,
        rungs=rungs,
        chosen="fast bias correction",
        runtimes=(),
        notes=("8 bits are faster here",),
    )
    return DeploymentReport(
        created="2026-01-01T00:00:00+00:00",
        command="mobilenets deploy runs/photos --data photos --out out",
        network="mobilenet_v2 x1 32 px",
        data="1,000 test images of photos",
        max_drop=1.0,
        float_top1=90.0,
        path="out/model.onnx",
        decision=choose(ways, 1.0, lambda first, second: True),
        advantages=(
            Advantage("PyTorch eager", Ratio(eager.label, ways[0].label, 1, 18.0, 17.0, 19.0, True)),
            Advantage("ONNX Runtime with its defaults", Ratio("defaults", ways[0].label, 1, 2.4, 2.2, 2.6, True)),
            Advantage("OpenVINO with its defaults", Ratio("defaults", ways[0].label, 1, 1.02, 0.97, 1.06, False)),
        ),
        files=(
            FileOutcome("float.onnx", "onnx", "fp32", "made", "out/candidates/float.onnx", 4_000_000),
            FileOutcome("float.pte", "executorch", "fp32", "missing", reason="pip install 'mobilenets[executorch]'"),
            FileOutcome("int8.onnx", "onnx", "int8", "made", "out/candidates/int8.onnx", 900_000),
            FileOutcome("int8.tflite", "litert", "int8", "refused", reason="the best, plain, lost 4.00"),
        ),
        ways=ways,
        quantizations=(ladder,),
        survey=survey,
        final=survey,
        environment=survey.environment,
        notes=("1 note <script>alert(1)</script>",),
    )
