"""`deploy`: from a trained network to the fastest file of this machine whose accuracy holds.

Everything is kept under one folder, each file whole or not at all:

    OUT/model.onnx (or .tflite, .pte, model/)   the file kept, with the settings it runs fastest with
    OUT/candidates/                             all files it was chosen from
    OUT/report.json, report.html                what was found, for programs and for people
    OUT/latency-accuracy.png                    the same as a picture
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from mobilenets.arguments import check_threads, command_or, names_of, numbers_of
from mobilenets.benchmarking.benchmark import BenchmarkSettings
from mobilenets.benchmarking.candidates import PEERS, network_words
from mobilenets.data.datasets import Dataset
from mobilenets.deployment.candidates import TARGETS, CandidateBuilder, keep
from mobilenets.deployment.measure import MeasureConfig, TestScores, measure_and_select, score_test_images
from mobilenets.deployment.results import DeploymentReport, Way
from mobilenets.errors import MobilenetsError
from mobilenets.evaluation.images import load_evaluation_data, selection_and_test
from mobilenets.exporters.subject import load_subject, recommended
from mobilenets.exporters.verify import network_predict
from mobilenets.files import check_writable, outside
from mobilenets.images import MAX_PIXELS
from mobilenets.limits import check_seed
from mobilenets.models.saved import SavedNetwork
from mobilenets.progress import Progress, Silent
from mobilenets.quantization.config import QuantizeConfig
from mobilenets.quantization.search import CALIBRATION_IMAGES
from mobilenets.report.deploy_page import write_report
from mobilenets.report.quantize import with_notes
from mobilenets.workflows.quantize import rung_messages

CANDIDATES = "candidates"


def deploy(
    run: Path | str | SavedNetwork,
    data: str | Path | Dataset,
    out: Path | str,
    *,
    max_drop: float = 1.0,
    targets: str | Sequence[str] = TARGETS,
    against: str | Sequence[str] = PEERS,
    seconds: float = 1.0,
    int8: bool = True,
    finetune: bool = True,
    model: str | None = None,
    width_mult: float = 1.0,
    image_size: int | None = None,
    max_images: int | None = None,
    calibration_images: int = CALIBRATION_IMAGES,
    exclude: str | Path | None = None,
    skip_bad: bool = False,
    data_root: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
    threads: int | Sequence[int] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> DeploymentReport:
    """Export and quantize a trained network in every way installed, measure all, keep the fastest whose accuracy holds.

    The choice is made on the validation images that were held out in training; the test images are asked once, when it
    is made, and change nothing. Where the validation images can't be known (a weight file, other data), the test images
    decide, and a note says so.

    Args:
        run: a run folder, a comparison's folder for the network it recommends, a loaded network, or with `model` a
            weight file or `imagenet`.
        data: images as for training, or a data set in memory, of the network's classes; training images
            calibrate, validation images decide, test images are asked last.
        out: the folder to write into; what an earlier deployment left there is replaced.
        max_drop: points of top-1 the kept way may lose against the network in PyTorch.
        targets: formats to make; those not installed are listed, and the others made all the same.
        against: what the kept file is compared with: `pytorch` (eager), `onnxruntime`, `openvino`; both with defaults.
        seconds: measured time of each way; the final comparison takes twice as long.
        int8: whether 8-bit files are made, too.
        finetune: whether training the network a little more may be the quantizer's last rung.
        model: name of the network a weight file is of.
        width_mult: its width.
        image_size: its input size in pixels; None takes the file's own.
        max_images: score on so many images of each split at most, rungs of the quantizer too; None for all, on which
            both agree.
        calibration_images: training images to find the ranges of 8-bit files on.
        exclude: a list of images to leave out, as `doctor --fix` writes it, beside those left out in training.
        skip_bad: leave unreadable images out, and say so, instead of refusing.
        data_root: where downloads are kept.
        max_pixels: of how many pixels an image may be; see `load_dataset`.
        threads: numbers of threads to try; None for 1 and every usable core.
        seed: of every choice.
        progress: told of progress.

    Returns:
        What was found. `report.decision.holds` is False where no way was within `max_drop` and a float file was kept.

    Raises:
        RunError, WeightsError, ModelError: there is no such network, or `out` can't be written.
        DataError: the images can't be used, or are of other classes.
        ExportError: not one file could be made; the message gives each reason.
        BackendError: no file could be run here, or an impossible number of threads.
        MobilenetsError: an unknown target or peer, or a bound that can't be.
    """
    progress = progress or Silent()
    run = recommended(run, progress)
    created = datetime.now().astimezone().isoformat(timespec="seconds")
    targets = names_of(targets)
    config = MeasureConfig(max_drop, names_of(against), () if threads is None else numbers_of(threads), seconds)
    _check(targets, config, seed)
    folder = outside(data, Path(out))
    check_writable(folder)
    subject, notes = load_subject(run, model=model, width_mult=width_mult, image_size=image_size)
    dataset = load_evaluation_data(
        subject, data, exclude=exclude, data_root=data_root, max_pixels=max_pixels, progress=progress
    )
    images, open_test = selection_and_test(
        subject, dataset, run, "deploy", max_images=max_images, skip_bad=skip_bad, progress=progress.update
    )
    network = network_predict(subject.model, subject.preprocessing)
    reference = images.top1(images.predict(network, "asking the network in PyTorch", progress.update))
    progress.message(f"the network in PyTorch: top-1 {reference:.2f} % on {images.what}")
    most_threads = max(config.threads, default=None)
    quantize_config = QuantizeConfig(
        folder, "onnx", max_drop=max_drop, calibration_images=calibration_images, max_images=max_images,
        finetune=finetune, seed=seed, skip_bad=skip_bad,
    )  # fmt: skip
    builder = CandidateBuilder(
        subject, dataset, images, folder / CANDIDATES, _name(run), quantize_config, most_threads, progress,
        on_rung=lambda: rung_messages(max_drop, progress),
    )  # fmt: skip
    files, quantizations = builder.make(targets, int8=int8)
    measured = measure_and_select(files, images, reference, config, progress)
    tested = None
    if open_test is not None:
        progress.message("the file is chosen: asking the test images")
        tested = score_test_images(measured.ways, measured.kept, open_test(), network, most_threads, max_drop, progress)
    provenance = {
        "deployed": f"top-1 {measured.kept.top1:.2f} % (PyTorch {reference:.2f} %) on {images.what}",
        **({} if tested is None else _tested(tested, measured.kept)),
    }
    artifact = keep(measured.kept, folder, provenance, None if tested is None else tested.confidence)
    report = DeploymentReport(
        created=created,
        command=command_or(_call(run, data, out, max_drop)),
        network=network_words(artifact.description.network),
        data=images.what,
        max_drop=max_drop,
        float_top1=reference,
        path=str(artifact.path),
        decision=measured.decision,
        advantages=measured.advantages,
        files=files,
        ways=measured.ways if tested is None else tested.ways,
        quantizations=tuple(map(with_notes, quantizations)),
        survey=measured.survey,
        final=measured.final,
        environment=measured.survey.environment,
        notes=tuple(dict.fromkeys((*(tested.notes if tested else ()), *notes, *images.notes, *measured.notes))),
        test=None if tested is None else tested.test,
    )
    write_report(report, folder)
    return report


def _check(targets: Sequence[str], config: MeasureConfig, seed: int) -> None:
    """Refuse what can't be before anything long begins."""
    if fault := check_seed(seed):
        raise MobilenetsError(fault)
    if not 0 <= config.max_drop < math.inf:
        raise MobilenetsError(f"max_drop is points of top-1, 0 or more, not {config.max_drop}; 1.0 allows one point")
    for what, given, valid in (("target", targets, TARGETS), ("peer", config.against, PEERS)):
        for name in given:
            if name not in valid:
                raise MobilenetsError(f"there is no {what} {name!r}; valid: {', '.join(valid)}")
    if not targets:
        raise MobilenetsError(f"there is nothing to make: name targets of {', '.join(TARGETS)}")
    BenchmarkSettings(seconds=config.seconds)
    for count in config.threads:
        check_threads(count)


def _call(run: Path | str | SavedNetwork, data: str | Path | Dataset, out: Path | str, max_drop: float) -> str:
    """The call as the report shows it; what was given in memory goes by its name."""
    images = data.name if isinstance(data, Dataset) else str(data)
    return f"mobilenets.deploy({_name(run)!r}, {images!r}, {str(out)!r}, max_drop={max_drop:g})"


def _name(run: Path | str | SavedNetwork) -> str:
    return "memory" if isinstance(run, SavedNetwork) else str(run)


def _tested(tested: TestScores, kept: Way) -> dict[str, str]:
    """What the kept file's provenance says of the test images."""
    own = next(way for way in tested.ways if way.label == kept.label)
    if own.test_top1 is None:
        return {}
    words = f"top-1 {own.test_top1:.2f} % (PyTorch {tested.test.float_top1:.2f} %) on {tested.test.data}"
    return {"tested": words, "top1": f"{own.test_top1:.4f}", "top1 basis": tested.test.data}
