"""`quantize` from end to end: kept, rescued, refused, and every bad input."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from mobilenets.artifact.container import read_artifact
from mobilenets.data.datasets import Dataset, load_dataset
from mobilenets.data.held_out import cut_validation, validation_record
from mobilenets.errors import ArtifactError, DataError, MissingExtraError, MobilenetsError, QuantizationError, RunError
from mobilenets.install import install_line
from mobilenets.models.saved import SavedNetwork
from mobilenets.quantization.onnx import OnnxLadder, PtqSettings
from mobilenets.quantization.quantize import _without_earlier
from mobilenets.quantization.results import QuantizationReport
from mobilenets.report.quantize import conclusion, lost, rung_table, runtime_table
from mobilenets.runtime.backend import open_backend
from mobilenets.runtime.classifier import check_golden
from mobilenets.workflows.quantize import quantize

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from conftest import Quantizable

pytest.importorskip("nncf")
FEW = {"calibration_images": 64, "threads": 1}


@pytest.fixture(scope="module", autouse=True)
def _brief_measuring() -> Iterator[None]:
    """Times are not checked here, so a few runs do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mobilenets.quantization.quantize.ROUNDS", 3)
        patch.setattr("mobilenets.quantization.quantize.SECONDS", 0.2)
        yield


def test_the_validation_images_of_a_run_neither_calibrate_nor_tune(
    trained: SavedNetwork, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = cut_validation(digits, 0.3)
    record = {"data_digest": digits.digest, **validation_record(cut)}
    given: list[Dataset] = []

    def stop(subject: object, dataset: Dataset, *others: object) -> None:
        given.append(dataset)
        raise QuantizationError("far enough")

    monkeypatch.setattr("mobilenets.quantization.quantize.prepare_context", stop)
    with pytest.raises(QuantizationError, match="far enough"):
        quantize(replace(trained, provenance={**trained.provenance, **record}), digits, tmp_path / "a.onnx", **FEW)
    assert [one.name for one in given[0].train.sources] == [one.name for one in cut.train.sources]


class Watching:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def update(self, what: str, done: int, total: int) -> None:
        pass


@pytest.fixture(scope="module")
def kept(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[QuantizationReport, Watching]:
    watching = Watching()
    out = tmp_path_factory.mktemp("kept") / "digits.onnx"
    return quantize(run_folder, "digits", out, max_drop=5.0, progress=watching, **FEW), watching


@pytest.fixture(scope="module")
def rescued(spoiled: SavedNetwork, tmp_path_factory: pytest.TempPathFactory) -> QuantizationReport:
    out = tmp_path_factory.mktemp("rescued") / "digits.onnx"
    return quantize(spoiled, "digits", out, max_drop=5.0, finetune=False, max_images=200, **FEW)


def test_an_easy_network_takes_the_first_rung(kept: tuple[QuantizationReport, Watching]) -> None:
    report, watching = kept
    assert not report.refused
    assert report.chosen == "plain"
    assert report.float_top1.whole > 60
    assert report.rungs[-1].drop.selection <= 5.0
    assert any(message.startswith("  plain: top-1") for message in watching.messages)
    assert not report.validated
    assert sum(note.startswith("test images decide, not validation images:") for note in report.notes) == 1
    assert report.rungs[-1].drop.report is not None
    report.raise_if_refused()


def test_the_file_is_an_artifact_that_says_how_it_was_made(kept: tuple[QuantizationReport, Watching]) -> None:
    report, _ = kept
    artifact = read_artifact(Path(report.out))
    description = artifact.description
    assert (description.kind, description.precision, description.dynamic_batch) == ("onnx", "int8", True)
    assert description.provenance["rung"] == "plain"
    assert description.provenance["calibration"] == "64 training images of 10 classes, seed 0"
    assert description.provenance["quantizer"].startswith("nncf ")
    assert description.confidence is not None
    check_golden(artifact, open_backend(artifact, threads=1))
    assert artifact.file_bytes == next(row.file_bytes for row in report.runtimes if row.file == "int8")
    assert artifact.file_bytes < report.float_bytes / 2


def test_every_runtime_is_measured_before_and_after(kept: tuple[QuantizationReport, Watching]) -> None:
    report, _ = kept
    ways = {(row.file, row.backend, row.precision) for row in report.runtimes}
    assert {("float", "onnxruntime", "fp32"), ("int8", "onnxruntime", "int8")} <= ways
    assert all(row.latency.median_ms > 0 for row in report.runtimes)
    sentence = [text for text in report.notes if re.search(r"than float32 in onnxruntime|as fast as float32", text)]
    assert len(sentence) >= 1


def test_an_outlier_ruins_plain_int8_and_a_rung_rescues_it(rescued: QuantizationReport) -> None:
    assert rescued.rungs[0].drop.selection > 20
    assert rescued.chosen not in (None, "plain")
    assert rescued.best.drop.selection <= 5.0
    assert rescued.best.drop.whole <= 10.0


def test_the_text_shows_every_rung_and_runtime(rescued: QuantizationReport) -> None:
    written = io.StringIO()
    console = Console(width=160, file=written)
    console.print(rung_table(rescued))
    console.print(runtime_table(rescued))
    text = written.getvalue()
    assert all(rung.name in text for rung in rescued.rungs)
    assert text.count("★") == 1
    assert all(row.backend in text for row in rescued.runtimes)
    assert conclusion(rescued)[0].startswith(rescued.out)
    assert json.loads(json.dumps(rescued.to_dict()))["refused"] is False


def test_no_rung_is_good_enough(
    kept: tuple[QuantizationReport, Watching], run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mobilenets.quantization import onnx

    monkeypatch.setattr(onnx, "PTQ_STEPS", onnx.PTQ_STEPS[:1])
    monkeypatch.setattr(onnx, "float_layer_steps", lambda ranked: iter(()))
    monkeypatch.setattr("mobilenets.quantization.context.score", _worse_each_time())
    out = tmp_path / "digits.onnx"
    shutil.copy(kept[0].out, out)  # of an earlier, looser call
    report = quantize(run_folder, "digits", out, max_drop=0.5, finetune=False, max_images=60, **FEW)
    assert report.refused
    assert not out.exists()
    assert any(note.startswith(f"removed {out}, which an earlier call had written") for note in report.notes)
    assert read_artifact(tmp_path / "digits-float32.onnx").description.precision == "fp32"
    with pytest.raises(QuantizationError, match=r"within 0.5 points of float: the best, plain, lost 10\.00; kept"):
        report.raise_if_refused()


def test_a_file_of_others_is_left_where_it_is(tmp_path: Path) -> None:
    out = tmp_path / "mine.onnx"
    assert _without_earlier(out) == ()
    out.write_bytes(b"not ours")
    assert _without_earlier(out) == ()
    assert out.read_bytes() == b"not ours"


def _worse_each_time():  # type: ignore[no-untyped-def]
    from mobilenets.quantization.results import Top1

    state = {"top1": 100.0}

    def score(images: object, logits: object) -> Top1:
        state["top1"] -= 10
        return Top1(state["top1"], state["top1"], state["top1"])

    return score


def test_tensorrt_leaves_out_what_it_cannot_take(v1: Quantizable) -> None:
    ladder = OnnxLadder(v1.file, v1.calibration, tensorrt=True).ladder()
    assert ladder.start == PtqSettings(signed=True)
    names = [step.name for step in ladder.steps]
    assert "asymmetric activations" not in names
    assert "1 layer in float" in names


@pytest.mark.parametrize(
    ("name", "options", "there"),
    [("v3", {}, True), ("v1", {}, False), ("v3", {"tensorrt": True}, False), ("v3", {"enclosed": False}, False)],
)
def test_h_swish_has_a_rung_where_its_input_is_rounded(
    name: str, options: dict[str, bool], there: bool, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OnnxLadder, "_rank", lambda self: ())
    monkeypatch.setattr("mobilenets.quantization.onnx.float_layer_steps", lambda ranked: iter(()))
    network = request.getfixturevalue(name)
    names = [step.name for step in OnnxLadder(network.file, network.calibration, **options).ladder().steps]
    assert ("no rounding before h-swish" in names) == there


def test_words_of_a_drop() -> None:
    assert lost(2.104) == "loses 2.10 points"
    assert lost(-0.16) == "gains 0.16 points"


def test_no_number_of_the_tables_is_cut_at_80_columns(rescued: QuantizationReport) -> None:
    written = io.StringIO()
    Console(width=80, file=written).print(rung_table(rescued), runtime_table(rescued))
    assert "…" not in written.getvalue()


@pytest.mark.parametrize("drop", [-0.1, float("nan"), float("inf")])
def test_a_drop_that_is_none_is_refused(drop: float, tmp_path: Path) -> None:
    with pytest.raises(MobilenetsError, match="max_drop is points of top-1"):
        quantize("nowhere", "digits", tmp_path / "a.onnx", max_drop=drop)


def test_places_and_formats_are_checked_first(tmp_path: Path) -> None:
    with pytest.raises(MobilenetsError, match=r"suffix names no format; give .onnx or .tflite"):
        quantize("nowhere", "digits", tmp_path / "a.bin")
    with pytest.raises(MobilenetsError, match="no 8-bit openvino"):
        quantize("nowhere", "digits", tmp_path / "a.onnx", to="openvino")
    with pytest.raises(ArtifactError, match=r"litert files end in .tflite"):
        quantize("nowhere", "digits", tmp_path / "a.onnx", to="litert")
    for option in ({"tensorrt": True}, {"runtime": "openvino"}):
        with pytest.raises(MobilenetsError, match=r"`tensorrt=True` and `runtime` are for \.onnx files, not a\.tflite"):
            quantize("nowhere", "digits", tmp_path / "a.tflite", **option)  # type: ignore[arg-type]
    with pytest.raises(MobilenetsError, match="onnxruntime or openvino, not tvm"):
        quantize("nowhere", "digits", tmp_path / "a.onnx", runtime="tvm")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(RunError, match="is a folder"):
        quantize("nowhere", "digits", tmp_path / "folder.onnx")
    with pytest.raises(RunError, match="no run folder"):
        quantize(tmp_path / "nowhere", "digits", tmp_path / "a.onnx")


def test_images_of_other_classes_are_refused(run_folder: Path, tmp_path: Path) -> None:
    from PIL import Image

    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (16, 16), (60 * number, 0, 0)).save(tmp_path / "pets" / name / f"{number}.png")
    with pytest.raises(DataError, match=r"has classes cat, dog \(2\); the network answers 0, 1"):
        quantize(run_folder, tmp_path / "pets", tmp_path / "a.onnx")
    with pytest.raises(DataError, match=r"^pets has classes cat, dog \(2\)"):
        quantize(run_folder, load_dataset(tmp_path / "pets"), tmp_path / "a.onnx")


def test_without_nncf_the_extra_is_named(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mobilenets.quantization.onnx.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=re.escape(f"needs nncf: {install_line('export')}")):
        quantize(run_folder, "digits", tmp_path / "a.onnx")
