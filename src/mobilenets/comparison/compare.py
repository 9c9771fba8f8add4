"""`compare`: networks x images -> rows -> the network to choose.

Everything is kept under one folder, so that a comparison that was stopped or killed goes on where it was when the same
call is made again:

    OUT/runs/NETWORK/seedK/         the run folders
    OUT/runs/NETWORK/model.onnx     the exported file that is timed
    OUT/comparison.json and .csv    the result for programs
    OUT/report.html, summary.png    the result for people
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobilenets.comparison.candidates import Candidate, candidates
from mobilenets.comparison.environment import environment
from mobilenets.comparison.measure import Cost, measure
from mobilenets.comparison.mistakes import confident_mistakes
from mobilenets.comparison.stage import Stage
from mobilenets.data.datasets import Dataset, load_dataset, natural_image_size
from mobilenets.data.location import outside
from mobilenets.errors import MobilenetsError, TrainingError
from mobilenets.evaluation.choose import choose
from mobilenets.evaluation.evaluate import Predictions
from mobilenets.evaluation.results import Bounds, Comparison, DataSummary, Interval, NetworkRow, SeedRun
from mobilenets.evaluation.significance import compare_all, mean_interval, proportion_interval, top1_interval
from mobilenets.exporting.onnx import require_exporter
from mobilenets.preprocessing import Preprocessing
from mobilenets.report.page import write_page
from mobilenets.report.plots import summary_png
from mobilenets.report.tables import write_csv, write_json
from mobilenets.training.device import choose_device
from mobilenets.training.observer import Observer, Silent
from mobilenets.training.recipe import Recipe, load_recipe
from mobilenets.training.run import PREDICTIONS, Splits, prepare_splits

DEFAULT_MODELS = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")


def compare(
    data: str | Path,
    out: str | Path,
    *,
    models: str | Sequence[str] = DEFAULT_MODELS,
    recipe: str | Path | Recipe = "article",
    epochs: int | None = None,
    seeds: int = 1,
    width_mult: float | Sequence[float] = 1.0,
    image_size: int | Sequence[int] = (),
    bounds: Bounds | None = None,
    skip_bad: bool = False,
    data_root: Path | None = None,
    device: str | None = None,
    observer: Observer | None = None,
    command: str | None = None,
) -> Comparison:
    """Train, score and measure every network, and write the report into the folder `out`.

    A network whose training diverges or whose exported file answers wrongly is left out of the rows, and the result's
    notes say so.

    Args:
        data: `digits`, `cifar10`, a folder or a zip of images (see `mobilenets.data.datasets.load_dataset`).
        out: folder of the runs and the report; the same call again continues or renews it.
        models: names as in `list_models()`.
        recipe: name of a shipped recipe, a TOML file, or a `Recipe`.
        epochs: instead of the recipe's.
        seeds: train each network so many times, from the recipe's seed on; intervals of means then cover training.
        width_mult: width multipliers; every model is built at each.
        image_size: input sizes in pixels; none means the images' natural size.
        bounds: what the device and the task allow.
        skip_bad: leave unreadable images out instead of refusing.
        data_root: where `cifar10` is looked for and downloaded to.
        device: `cpu`, `cuda` or `mps` instead of the best present.
        observer: told of progress.
        command: how this comparison was asked for, for the report; None writes this call.

    Raises:
        MobilenetsError: bad input, each its own kind; what was trained before stays and is used by the next call.
    """
    observer, out, bounds = observer or Silent(), outside(data, Path(out)), bounds or Bounds()
    if seeds < 1:
        raise MobilenetsError(f"seeds is {seeds}; it must be at least 1")
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    recipe = replace(recipe, epochs=epochs) if epochs is not None else recipe
    chosen_device = choose_device(device)
    require_exporter()
    dataset = load_dataset(data, data_root=data_root)
    sizes = _several(image_size) or (natural_image_size(dataset),)
    networks = candidates(_several(models), _several(width_mult), sizes)
    splits = _splits(dataset, sizes, skip_bad, observer)

    stage = Stage(dataset, splits, recipe, out, chosen_device, observer)
    runs, failures = stage.train_all(networks, seeds)
    costs, differing = measure({network: Path(runs[network][0].folder) for network in runs}, splits, observer)
    if not costs:
        raise TrainingError(f"no network came through: {'; '.join((*failures, *differing))}")
    correct = {network.label: _correct(runs[network]) for network in costs}
    rows = tuple(
        _row(network, runs[network], cost, correct[network.label], splits[network.image_size])
        for network, cost in costs.items()
    )
    pairs = compare_all(correct)
    result = Comparison(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command or f"mobilenets.compare({str(data)!r}, {str(out)!r}, models={models!r}, ...)",
        data=_summary(dataset, splits[sizes[0]]),
        recipe=recipe.to_dict(),
        environment=environment(chosen_device),
        rows=rows,
        pairs=pairs,
        bounds=bounds,
        choice=choose(rows, pairs, bounds),
        notes=(*failures, *differing),
    )
    _write(result, out)
    return result


def _write(result: Comparison, out: Path) -> None:
    write_json(result, out / "comparison.json")
    write_csv(result, out / "comparison.csv")
    summary_png(result, out / "summary.png")
    write_page(result, out / "report.html")


def _splits(dataset: Dataset, sizes: Sequence[int], skip_bad: bool, observer: Observer) -> dict[int, Splits]:
    """The images decoded for each size; what is said of the data is said once."""
    splits = {}
    for number, size in enumerate(dict.fromkeys(sizes)):
        splits[size] = prepare_splits(
            dataset if number == 0 else replace(dataset, notes=()),
            Preprocessing(image_size=size),
            skip_bad=skip_bad,
            observer=observer,
            memory_share=len(set(sizes)),
        )
    return splits


def _several(value: str | float | Sequence[Any]) -> tuple[Any, ...]:
    """One value, or several, as a tuple."""
    return (value,) if isinstance(value, str | int | float) else tuple(value)


def _correct(runs: Sequence[SeedRun]) -> NDArray[np.bool_]:
    """Which test images each seed's network got right: [seeds, images]."""
    return np.stack([Predictions.load(Path(run.folder) / PREDICTIONS).correct for run in runs])


def _row(
    network: Candidate, runs: Sequence[SeedRun], cost: Cost, correct: NDArray[np.bool_], splits: Splits
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
        test_top1=top1_interval(correct),
        test_top5=fmean(run.test.top5 for run in runs),
        ece=fmean(run.test.ece for run in runs),
        seconds_per_epoch=fmean(run.seconds_per_epoch for run in runs),
        latency=cost.latency,
        peak_memory_mb=cost.peak_memory_mb,
        runs=tuple(runs),
        mistakes=confident_mistakes(predictions, splits.test, splits.dataset.classes),
    )


def _train_interval(runs: Sequence[SeedRun]) -> Interval:
    scores = [run.train.top1 for run in runs]
    if len(set(scores)) > 1:
        return mean_interval(scores)
    count = runs[0].train.count  # one seed, or all alike: an interval over seeds would have no width
    return proportion_interval(round(scores[0] * count / 100), count, "training")


def _summary(dataset: Dataset, splits: Splits) -> DataSummary:
    return DataSummary(
        name=dataset.name,
        classes=dataset.classes,
        train_images=len(splits.train),
        test_images=len(splits.test),
        skipped=tuple(f"{image.name}: {image.reason}" for image in (*splits.train.skipped, *splits.test.skipped)),
        notes=dataset.notes,
    )
