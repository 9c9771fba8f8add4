"""`compare`: networks x images -> rows -> the network to choose.

Everything is kept under one folder, so that a comparison that was stopped or killed goes on where it was when the same
call is made again:

    OUT/runs/NETWORK/seedK/         the run folders
    OUT/runs/NETWORK/model.onnx     the exported file that is timed
    OUT/comparison.json and .csv    the result for programs
    OUT/report.html, summary.png    the result for people

The order is what keeps the test images honest: all networks are trained, scored on the validation images and measured,
one is chosen by that, and only then each is scored on the test images, once.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mobilenets.arguments import command_or
from mobilenets.comparison.measure import NetworkCost, environment, measure
from mobilenets.comparison.networks import (
    ComparedNetwork,
    ComparisonRuns,
    TrainedRun,
    compared_networks,
    extension_notes,
)
from mobilenets.data.datasets import Dataset, load_dataset, natural_image_size
from mobilenets.data.decoding import find_bit_depth
from mobilenets.data.held_out import cut_validation, without_copies
from mobilenets.errors import DataError, MobilenetsError, TrainingError
from mobilenets.evaluation.evaluation_set import Images
from mobilenets.evaluation.predictions import NO_CLASS, Predictions
from mobilenets.evaluation.results import (
    Bounds,
    Comparison,
    DataSummary,
    Interval,
    Mistake,
    NetworkRow,
    PairedTest,
    SeedRun,
)
from mobilenets.evaluation.selection import Contender, choose
from mobilenets.evaluation.significance import compare_all, mean_interval, proportion_interval, top1_interval
from mobilenets.exporters.onnx import require_exporter
from mobilenets.files import check_writable, outside
from mobilenets.images import MAX_PIXELS
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Progress, Silent
from mobilenets.report.compare import write_csv, write_json
from mobilenets.report.compare_page import write_page
from mobilenets.report.plots.comparison import summary_png
from mobilenets.run_folder import COMPARISON
from mobilenets.training.plan import choose_device
from mobilenets.training.recipe import Recipe, check_freezing, load_recipe, resolve_recipe
from mobilenets.training.scoring import PREDICTIONS, VALIDATION_PREDICTIONS, Splits, prepare_splits

# The test images a network got wrong with the most confidence: where to look for bad labels and blind spots.


LARGEST_THUMBNAIL = 96  # pixels


def confident_mistakes(
    predictions: Predictions, images: Images, classes: Sequence[str], *, most: int = 12
) -> tuple[Mistake, ...]:
    """The `most` wrong answers with the highest probability, surest first, each with the image as it was seen."""
    called, confidence = predictions.predicted, predictions.confidence
    wrong = np.flatnonzero(~predictions.correct)
    surest = wrong[np.argsort(-confidence[wrong], kind="stable")][:most]
    return tuple(
        Mistake(
            image=images.names[index],
            thumbnail=_thumbnail(images.batch([int(index)])[0]),
            truth=classes[predictions.labels[index]],
            predicted="no class" if called[index] == NO_CLASS else classes[called[index]],
            confidence=100 * float(confidence[index]),
        )
        for index in surest
    )


def _thumbnail(pixels: NDArray[np.uint8]) -> str:
    """Pixels [H, W, C] as a PNG in a data address."""
    image = Image.fromarray(pixels.squeeze(axis=2) if pixels.shape[2] == 1 else pixels)
    image.thumbnail((LARGEST_THUMBNAIL, LARGEST_THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


DEFAULT_MODELS = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")


def compare(
    data: str | Path | Dataset = "digits",
    out: str | Path | None = None,
    *,
    models: str | Sequence[str] = DEFAULT_MODELS,
    recipe: str | Path | Recipe = "article",
    epochs: int | None = None,
    validation_fraction: float | None = None,
    seeds: int = 1,
    max_latency_ms: float | None = None,
    max_params: int | None = None,
    min_top1: float | None = None,
    width_mult: float | Sequence[float] = (1.0,),
    image_size: int | Sequence[int] | None = None,
    exclude: str | Path | None = None,
    skip_bad: bool = False,
    data_root: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
    device: str | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Train, score and measure every network, and write the report into the folder `out`.

    The choice goes by validation images, which are cut from the training images (the recipe's `validation_fraction`)
    where the data has none of its own; the test images are read once, when it is made.

    A network whose training diverges or whose exported file gives other answers is left out of the rows; the result's
    notes say so.

    Args:
        data: `digits`, `cifar10`, a folder or a zip of images (see `mobilenets.load_dataset`), or a data set in memory.
        out: folder of the runs and the report, None for `comparison-DATA`; the same call again continues or renews it,
            one with more epochs extends its trainings (see `mobilenets.train`).
        models: names as in `list_models()`.
        recipe: name of a shipped recipe, a TOML file, or a `Recipe`.
        epochs: instead of the recipe's.
        validation_fraction: instead of the recipe's, such as the papers' that keep no images to choose by.
        seeds: train each network so many times, from the recipe's seed on; intervals of means then cover training.
        max_latency_ms: bound on the median latency of the exported file (ONNX Runtime, batch 1, one thread).
        max_params: bound on parameters.
        min_top1: bound on accuracy in percent, on the validation images.
        width_mult: width multipliers; every model is built at each.
        image_size: input sizes in pixels; None takes the images' natural size.
        exclude: a list of images to leave out, as `doctor --fix` writes it.
        skip_bad: leave unreadable images out instead of refusing.
        data_root: where `cifar10` is looked for and downloaded to.
        max_pixels: of how many pixels an image may be; see `load_dataset`.
        device: `cpu`, `cuda` or `mps` instead of the best present.
        progress: told of progress.

    Raises:
        MobilenetsError: bad input, each its own kind; what was trained before stays and is used by the next call.
    """
    name = data.name if isinstance(data, Dataset) else str(data)
    bounds = Bounds(max_latency_ms, max_params, min_top1)
    progress, out = progress or Silent(), outside(data, Path(out or f"comparison-{Path(name).stem or 'data'}"))
    check_writable(out)
    if not 1 <= seeds <= 1000:
        raise MobilenetsError(f"seeds is {seeds}; it must be from 1 to 1000")
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    recipe = replace(recipe, epochs=epochs) if epochs is not None else recipe
    recipe = recipe if validation_fraction is None else replace(recipe, validation_fraction=validation_fraction)
    check_freezing(resolve_recipe(recipe, has_teacher=False), has_weights=False)
    chosen_device = choose_device(device)
    require_exporter()
    loaded = load_dataset(data, data_root=data_root, max_pixels=max_pixels, exclude=exclude, progress=progress)
    dataset = _with_validation(loaded, recipe, progress)
    sizes = _several(image_size or ()) or (natural_image_size(dataset),)
    networks = compared_networks(_several(models), _several(width_mult), sizes)
    splits = _splits(dataset, sizes, skip_bad, progress)
    if any(one.validation is None for one in splits.values()):
        raise DataError(f"none of the {len(dataset.validation or ())} validation images to compare by can be read")

    stage = ComparisonRuns(dataset, splits, recipe, out, chosen_device, progress)
    stage.seal("a network is chosen")
    runs, failures = stage.train_all(networks, seeds)
    costs, differing, ratios = measure({network: runs[network][0].folder for network in runs}, splits, progress)
    if not costs:
        raise TrainingError(f"no network came through: {'; '.join((*failures, *differing))}")
    contenders, pairs = _contenders(runs, costs)
    distinct = {frozenset((ratio.first, ratio.second)): ratio.distinct for ratio in ratios}
    choice = choose(
        [*contenders.values()],
        pairs,
        bounds,
        "onnxruntime",
        lambda first, second: distinct.get(frozenset((first, second)), True),
    )
    stage.seal(None)
    rows = tuple(
        _row(contenders[network], network, stage.score(network, runs[network]), cost, splits[network.image_size])
        for network, cost in costs.items()
    )
    result = Comparison(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command_or(f"mobilenets.compare({name!r}, {str(out)!r}, models={models!r}, ...)"),
        data=_summary(dataset, splits[sizes[0]], recipe),
        recipe=recipe.to_dict(),
        environment=environment(chosen_device),
        rows=rows,
        pairs=pairs,
        bounds=bounds,
        choice=choice,
        notes=(*failures, *differing, *extension_notes(run for network in costs for run in runs[network])),
    )
    _write(result, out)
    return result


def _flip_note(recipe: Recipe) -> tuple[str, ...]:
    """What a reader must know of accuracies that no single answer of the exported file has."""
    if not recipe.flip_test:
        return ()
    return (
        "Accuracies are those of each image answered together with its mirror image (flip_test); latencies are of one "
        "answer, as exported files give it.",
    )


def _write(result: Comparison, out: Path) -> None:
    write_json(result, out / COMPARISON)
    write_csv(result, out / "comparison.csv")
    summary_png(result, out / "summary.png")
    write_page(result, out / "report.html")


def _splits(dataset: Dataset, sizes: Sequence[int], skip_bad: bool, progress: Progress) -> dict[int, Splits]:
    """The images decoded for each size; what is said of the data is said once."""
    splits = {}
    rule, told = find_bit_depth(dataset.train.sources)
    for number, size in enumerate(dict.fromkeys(sizes)):
        splits[size] = prepare_splits(
            replace(dataset, notes=() if number else (*dataset.notes, *told)),
            Preprocessing(image_size=size).scaling(rule),
            skip_bad=skip_bad,
            progress=progress,
            memory_share=len(set(sizes)),
        )
    return splits


def _several(value: str | float | Sequence[Any]) -> tuple[Any, ...]:
    """One value, or several, as a tuple."""
    return (value,) if isinstance(value, str | int | float) else tuple(value)


def _with_validation(dataset: Dataset, recipe: Recipe, progress: Progress) -> Dataset:
    """The data set with images to choose by; without any, test images would have to do."""
    dataset = cut_validation(dataset, recipe.validation_fraction, progress.update)
    if dataset.validation is None:
        raise DataError(
            f"there are no validation images to compare networks by (validation_fraction is "
            f"{recipe.validation_fraction:g}): give"
            " `validation_fraction=0.1`, more images, or val/ beside train/ and test/"
        )
    dataset = without_copies(dataset, progress.update)
    if dataset.validation is None:
        raise DataError(f"all validation images of {dataset.name} are copies of training images: give others")
    return dataset


def _correct(runs: Sequence[TrainedRun] | Sequence[SeedRun], name: str) -> NDArray[np.bool_]:
    """Which images each seed's network got right, as a predictions file says: [seeds, images]."""
    return np.stack([Predictions.load(Path(run.folder) / name).correct for run in runs])


def _contenders(
    runs: Mapping[ComparedNetwork, Sequence[TrainedRun]], costs: Mapping[ComparedNetwork, NetworkCost]
) -> tuple[dict[ComparedNetwork, Contender], tuple[PairedTest, ...]]:
    """The networks as the choice sees them, and the tests between them: both of validation images alone."""
    correct = {network: _correct(runs[network], VALIDATION_PREDICTIONS) for network in costs}
    contenders = {
        network: Contender(
            label=network.label,
            top1=top1_interval(correct[network], "validation"),
            images=correct[network].shape[1],
            parameters=cost.parameters,
            macs=cost.macs,
            latency=cost.latency,
        )
        for network, cost in costs.items()
    }
    return contenders, compare_all({network.label: right for network, right in correct.items()}, "validation")


def _row(
    contender: Contender, network: ComparedNetwork, runs: Sequence[SeedRun], cost: NetworkCost, splits: Splits
) -> NetworkRow:
    predictions = Predictions.load(Path(runs[0].folder) / PREDICTIONS)
    return NetworkRow(
        label=network.label,
        model=network.model,
        width_mult=network.width_mult,
        image_size=network.image_size,
        parameters=cost.parameters,
        macs=cost.macs,
        file_bytes=cost.file_bytes,
        train_top1=_train_interval(runs),
        test_top1=top1_interval(_correct(runs, PREDICTIONS)),
        test_top5=fmean(run.test.top5 for run in runs),
        ece=fmean(run.test.ece for run in runs),
        seconds_per_epoch=fmean(run.seconds_per_epoch for run in runs),
        latency=cost.latency,
        peak_memory_mb=cost.peak_memory_mb,
        runs=tuple(runs),
        mistakes=confident_mistakes(predictions, splits.test.seen(), splits.dataset.classes),
        validation_top1=contender.top1,
    )


def _train_interval(runs: Sequence[SeedRun]) -> Interval:
    scores = [run.train.top1 for run in runs]
    if len(set(scores)) > 1:
        return mean_interval(scores)
    count = runs[0].train.count  # one seed, or all the same: an interval over seeds would have no width
    return proportion_interval(round(scores[0] * count / 100), count, "training")


def _summary(dataset: Dataset, splits: Splits, recipe: Recipe) -> DataSummary:
    validation = splits.validation
    skipped = (*splits.train.skipped, *(() if validation is None else validation.skipped), *splits.test.skipped)
    return DataSummary(
        name=dataset.name,
        classes=dataset.classes,
        train_images=len(splits.trained_on),
        test_images=len(splits.test),
        skipped=tuple(map(str, skipped)),
        notes=(*dataset.notes, *_flip_note(recipe)),
        validation_images=0 if validation is None else len(validation),
    )
