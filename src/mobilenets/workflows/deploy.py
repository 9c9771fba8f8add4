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

from mobilenets.arguments import check_threads, names_of, numbers_of
from mobilenets.benchmarking.benchmark import Settings
from mobilenets.benchmarking.candidates import PEERS, network_words
from mobilenets.data.datasets import Dataset
from mobilenets.deployment.candidates import TARGETS, Workshop, keep
from mobilenets.deployment.measure import Rules, hold_contest
from mobilenets.deployment.results import DeploymentReport, Way
from mobilenets.deployment.testing import Reading, read_test
from mobilenets.errors import MobilenetsError
from mobilenets.evaluation.images import load_evaluation_data, selection_and_test
from mobilenets.exporters.parity import network_predict
from mobilenets.exporters.subject import load_subject, recommended
from mobilenets.files import check_writable, outside
from mobilenets.images import MAX_PIXELS
from mobilenets.limits import check_seed
from mobilenets.models.saved import SavedNetwork
from mobilenets.progress import Progress, Silent
from mobilenets.quantization.images import DEFAULT_IMAGES
from mobilenets.report.deploy_page import write_report

CANDIDATES = "candidates"


def deploy(
    run: Path | str | SavedNetwork,
    data: str | Path | Dataset,
    out: Path | str,
    *,
    max_drop: float = 1.0,
    targets: str | Sequence[str] = TARGETS,
    against: str | Sequence[str] = PEERS,
    threads: int | Sequence[int] = (),
    seconds: float = 1.0,
    limit: int | None = None,
    int8: bool = True,
    calibration_images: int = DEFAULT_IMAGES,
    finetune: bool = True,
    model: str | None = None,
    width_mult: float = 1.0,
    image_size: int | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    exclude: str | Path | None = None,
    data_root: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
    command: str | None = None,
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
        against: what the kept file is compared with: `pytorch` (eager), `onnxruntime`, `openvino` (both with their
            defaults).
        threads: numbers of threads to try; by default 1 and every usable core.
        seconds: measured time of each way; the final comparison takes twice as long.
        limit: score on so many images of each split, and judge the quantizer's rungs on as many; None for all, on
            which both agree.
        int8: whether 8-bit files are made, too.
        calibration_images: training images to find the ranges of 8-bit files on.
        finetune: whether training the network a little more may be the quantizer's last rung.
        model: name of the network a weight file is of.
        width_mult: its width.
        image_size: its input size in pixels; None takes the file's own.
        seed: of every choice.
        skip_bad: leave unreadable images out, and say so, instead of refusing.
        exclude: a list of images to leave out, as `doctor --fix` writes it, beside those left out in training.
        data_root: where downloads are kept.
        max_pixels: of how many pixels an image may be; see `load_dataset`.
        progress: told of progress.
        command: how it was asked for, for the report; None writes this call.

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
    if fault := check_seed(seed):
        raise MobilenetsError(fault)
    run = recommended(run, progress)
    created = datetime.now().astimezone().isoformat(timespec="seconds")
    targets, against, threads = names_of(targets), names_of(against), numbers_of(threads)
    _check(targets, against, threads, max_drop, seconds)
    folder = outside(data, Path(out))
    check_writable(folder)
    subject, notes = load_subject(run, model=model, width_mult=width_mult, image_size=image_size)
    dataset = load_evaluation_data(
        subject, data, exclude=exclude, data_root=data_root, max_pixels=max_pixels, progress=progress.update
    )
    images, open_test = selection_and_test(
        subject, dataset, run, "deploy", max_images=limit, skip_bad=skip_bad, progress=progress.update
    )
    own = network_predict(subject.model, subject.preprocessing)
    reference = images.top1(images.predict(own, "asking the network in PyTorch", progress.update))
    progress.message(f"the network in PyTorch: top-1 {reference:.2f} % on {images.what}")
    ordering = {
        "max_drop": max_drop, "calibration_images": calibration_images, "max_images": limit, "finetune": finetune,
        "seed": seed, "skip_bad": skip_bad,
    }  # fmt: skip
    most = max(threads, default=None)
    workshop = Workshop(subject, dataset, images, folder / CANDIDATES, _words(run), most, ordering, progress)
    files, quantizations = workshop.make(targets, int8=int8)
    contest = hold_contest(files, images, reference, Rules(max_drop, against, threads, seconds), progress)
    kept = contest.kept
    told = {"deployed": f"top-1 {kept.top1:.2f} % (PyTorch {reference:.2f} %) on {images.what}"}
    reading = None
    if open_test is not None:
        progress.message("the file is chosen: asking the test images")
        reading = read_test(contest.ways, kept, open_test(), own, most, max_drop, progress)
        told |= _tested(reading, kept)
    artifact = keep(kept, folder, told, None if reading is None else reading.confidence)
    report = DeploymentReport(
        created=created,
        command=command or _call(run, data, out, max_drop),
        network=network_words(artifact.description.network),
        data=images.what,
        max_drop=max_drop,
        float_top1=reference,
        path=str(artifact.path),
        decision=contest.decision,
        advantages=contest.advantages,
        files=files,
        ways=contest.ways if reading is None else reading.ways,
        quantizations=quantizations,
        survey=contest.survey,
        final=contest.final,
        environment=contest.survey.environment,
        notes=tuple(dict.fromkeys((*(reading.notes if reading else ()), *notes, *images.notes, *contest.notes))),
        test=None if reading is None else reading.test,
    )
    write_report(report, folder)
    return report


def _check(
    targets: Sequence[str], against: Sequence[str], threads: Sequence[int], max_drop: float, seconds: float
) -> None:
    """Refuse what can't be before anything long begins."""
    if not 0 <= max_drop < math.inf:
        raise MobilenetsError(f"max_drop is points of top-1, 0 or more, not {max_drop}; 1.0 allows one point")
    for what, given, valid in (("target", targets, TARGETS), ("peer", against, PEERS)):
        for name in given:
            if name not in valid:
                raise MobilenetsError(f"there is no {what} {name!r}; valid: {', '.join(valid)}")
    if not targets:
        raise MobilenetsError(f"there is nothing to make: name targets of {', '.join(TARGETS)}")
    Settings(seconds=seconds)
    for count in threads:
        check_threads(count)


def _call(run: Path | str | SavedNetwork, data: str | Path | Dataset, out: Path | str, max_drop: float) -> str:
    """The call as the report shows it; what was given in memory goes by its name."""
    images = data.name if isinstance(data, Dataset) else str(data)
    return f"mobilenets.deploy({_words(run)!r}, {images!r}, {str(out)!r}, max_drop={max_drop:g})"


def _words(run: Path | str | SavedNetwork) -> str:
    return "memory" if isinstance(run, SavedNetwork) else str(run)


def _tested(reading: Reading, kept: Way) -> dict[str, str]:
    """What the kept file is told of the test images."""
    own = next(way for way in reading.ways if way.label == kept.label)
    if own.test_top1 is None:
        return {}
    words = f"top-1 {own.test_top1:.2f} % (PyTorch {reading.test.float_top1:.2f} %) on {reading.test.data}"
    return {"tested": words, "top1": f"{own.test_top1:.4f}", "top1 basis": reading.test.data}
