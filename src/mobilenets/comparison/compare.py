"""`compare`: networks x images -> rows -> the network to choose.

Everything is kept under one folder, so that a comparison that was stopped or killed goes on where it was when the same
call is made again:

    OUT/runs/NETWORK/seedK/         the run folders
    OUT/runs/NETWORK/model.onnx     the exported file that is timed
    OUT/comparison.json and .csv    the result for programs
    OUT/report.html, summary.png    the result for people
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from mobilenets.comparison.candidates import Candidate, candidates
from mobilenets.comparison.environment import environment
from mobilenets.comparison.measure import Cost, measure
from mobilenets.comparison.mistakes import confident_mistakes
from mobilenets.data.datasets import Dataset, load_dataset, natural_image_size
from mobilenets.errors import MobilenetsError
from mobilenets.evaluation.choose import choose
from mobilenets.evaluation.evaluate import Predictions
from mobilenets.evaluation.results import Bounds, Comparison, DataSummary, Interval, NetworkRow, SeedRun
from mobilenets.evaluation.significance import compare_all, mean_interval, proportion_interval, top1_interval
from mobilenets.preprocessing import Preprocessing
from mobilenets.report.page import write_page
from mobilenets.report.plots import summary_png
from mobilenets.report.tables import write_csv, write_json
from mobilenets.training.device import choose_device
from mobilenets.training.observer import Observer, Silent
from mobilenets.training.recipe import Recipe, load_recipe
from mobilenets.training.run import PREDICTIONS, Splits, prepare_splits, train_and_score
from mobilenets.training.state import STATE

DEFAULT_MODELS = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")


def compare(
    data: str | Path,
    out: str | Path,
    *,
    models: Sequence[str] = DEFAULT_MODELS,
    recipe: str | Path | Recipe = "article",
    epochs: int | None = None,
    seeds: int = 1,
    width_mult: Sequence[float] = (1.0,),
    image_size: Sequence[int] = (),
    bounds: Bounds | None = None,
    skip_bad: bool = False,
    data_root: Path | None = None,
    device: str | None = None,
    observer: Observer | None = None,
    command: str = "mobilenets.compare(...)",
) -> Comparison:
    """Train, score and measure every network, and write the report into the folder `out`.

    Args:
        data: `digits`, `cifar10`, a folder or a zip of images (see `mobilenets.data.datasets.load_dataset`).
        out: folder of the runs and the report; the same call again continues or renews it.
        models: names as in `list_models()`.
        recipe: name of a shipped recipe, a TOML file, or a `Recipe`.
        epochs: instead of the recipe's.
        seeds: train each network so many times, with seeds 0, 1, ...; the interval of the mean then covers training.
        width_mult: width multipliers; every model is built at each.
        image_size: input sizes in pixels; empty means the images' natural size.
        bounds: what the device and the task allow.
        skip_bad: leave unreadable images out instead of refusing.
        data_root: where `cifar10` is looked for and downloaded to.
        device: `cpu`, `cuda` or `mps` instead of the best present.
        observer: told of progress.
        command: how this comparison was asked for, for the report.

    Raises:
        MobilenetsError: bad input, each its own kind; what was trained before stays and is used by the next call.
    """
    observer, out = observer or Silent(), Path(out)
    if seeds < 1:
        raise MobilenetsError(f"--seeds is {seeds}; it must be at least 1")
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    recipe = replace(recipe, epochs=epochs) if epochs is not None else recipe
    dataset = load_dataset(data, data_root=data_root)
    sizes = tuple(image_size) or (natural_image_size(dataset),)
    networks = candidates(models, width_mult, sizes)
    splits = {
        size: prepare_splits(dataset, Preprocessing(image_size=size), skip_bad=skip_bad, observer=observer)
        for size in dict.fromkeys(sizes)
    }

    runs: dict[Candidate, list[SeedRun]] = {network: [] for network in networks}
    for network, seed in _announced(networks, seeds, observer):
        folder = out / "runs" / network.folder / f"seed{seed}"
        run = train_and_score(
            network.arguments(len(dataset.classes)),
            splits[network.image_size],
            replace(recipe, seed=seed),
            folder,
            resume=(folder / STATE).exists(),
            device=choose_device(device),
            observer=observer,
        )
        runs[network].append(run)

    costs = measure({network: Path(runs[network][0].folder) for network in networks}, splits, observer)
    correct = {network.label: _correct(runs[network]) for network in networks}
    rows = tuple(
        _row(network, runs[network], costs[network], correct[network.label], splits[network.image_size])
        for network in networks
    )
    pairs, bounds = compare_all(correct), bounds or Bounds()
    result = Comparison(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        data=_summary(dataset, splits[sizes[0]]),
        recipe=recipe.to_dict(),
        environment=environment(choose_device(device)),
        rows=rows,
        pairs=pairs,
        bounds=bounds,
        choice=choose(rows, pairs, bounds),
    )
    write_json(result, out / "comparison.json")
    write_csv(result, out / "comparison.csv")
    summary_png(result, out / "summary.png")
    write_page(result, out / "report.html")
    return result


def _announced(networks: Sequence[Candidate], seeds: int, observer: Observer) -> Iterator[tuple[Candidate, int]]:
    """Every network for each seed, announced; seeds outside, so that one stopped early has every network."""
    total, start = len(networks) * seeds, time.monotonic()
    for number, (seed, network) in enumerate(((s, n) for s in range(seeds) for n in networks), start=1):
        which = f", seed {seed}" if seeds > 1 else ""
        spent = f", {(time.monotonic() - start) / 60:.1f} min so far" if number > 1 else ""
        observer.message(f"[{number}/{total}] {network.label}{which}{spent}")
        yield network, seed


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
    if len(runs) > 1:
        return mean_interval([run.train.top1 for run in runs])
    metrics = runs[0].train
    return proportion_interval(round(metrics.top1 * metrics.count / 100), metrics.count)


def _summary(dataset: Dataset, splits: Splits) -> DataSummary:
    return DataSummary(
        name=dataset.name,
        classes=dataset.classes,
        train_images=len(splits.train),
        test_images=len(splits.test),
        skipped=tuple(image.name for image in (*splits.train.skipped, *splits.test.skipped)),
        notes=dataset.notes,
    )
