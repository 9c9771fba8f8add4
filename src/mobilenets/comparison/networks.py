"""The long part of a comparison: every network trained, each in its own folder, and at the end scored."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mobilenets.data.datasets import Dataset
from mobilenets.errors import ModelError, NonFiniteLossError, RecipeError, TrainingInterruptedError, reworded
from mobilenets.evaluation.results import SeedRun
from mobilenets.models.registry import create_model
from mobilenets.progress import Progress
from mobilenets.run_folder import network_folder
from mobilenets.training.accumulation import check_single_images
from mobilenets.training.checkpoints import has_state, load_state
from mobilenets.training.recipe import Recipe
from mobilenets.training.run import read_run, train_unseen
from mobilenets.training.scoring import Splits, score_test

# The networks a comparison is between.


@dataclass(frozen=True)
class ComparedNetwork:
    """One network at one width and one input size; `label` names it in tables."""

    model: str
    width_mult: float
    image_size: int
    label: str

    @property
    def folder(self) -> str:
        """Its folder's name: the same whatever else it is compared with."""
        return network_folder(self.model, self.width_mult, self.image_size)

    def arguments(self, num_classes: int) -> dict[str, Any]:
        """Arguments of `create_model`."""
        return {
            "name": self.model,
            "num_classes": num_classes,
            "width_mult": self.width_mult,
            "image_size": self.image_size,
        }


def compared_networks(
    models: Sequence[str], width_mults: Sequence[float], image_sizes: Sequence[int]
) -> tuple[ComparedNetwork, ...]:
    """Every model at every width and size, each once; labels tell apart only what differs.

    Raises:
        ModelError: no model is named, or a name, width or size can't be built: before any training, not after an hour.
    """
    if not models:
        raise ModelError("no network to compare: name some with `models`, e.g. mobilenet_v2,mobilenet_v3_small")
    if not width_mults:
        raise ModelError("no width to compare at: give one or more with `width_mult`, e.g. 0.5,1.0")
    found = {}
    for model in models:
        for width in width_mults:
            for size in image_sizes:
                label = f"{model} x{width:g}" + (f" @{size}" if len(set(image_sizes)) > 1 else "")
                found[label] = ComparedNetwork(model, width, size, label)
                create_model(model, num_classes=2, width_mult=width, image_size=size)
    return tuple(found.values())


@dataclass(frozen=True)
class TrainedRun:
    """A network that was trained with one seed, and scored on validation images only: its run folder.

    `extended` says whether it was given more epochs after it had been begun with fewer.
    """

    seed: int
    folder: Path
    extended: bool = False


def extension_notes(runs: Iterable[TrainedRun]) -> tuple[str, ...]:
    """What a reader must know of a comparison that was given more epochs: not all learning rates were the same."""
    all_runs = list(runs)
    extended = sum(run.extended for run in all_runs)
    if not extended:
        return ()
    return (
        f"{extended} of {len(all_runs)} trainings were begun with fewer epochs and extended: until then their "
        "learning rates were those of the shorter schedule.",
    )


@dataclass(frozen=True)
class ComparisonRuns:
    """What all trainings of a comparison share."""

    dataset: Dataset
    splits: dict[int, Splits]
    recipe: Recipe
    out: Path
    device: torch.device
    progress: Progress

    def train_all(
        self, networks: Sequence[ComparedNetwork], seeds: int
    ) -> tuple[dict[ComparedNetwork, list[TrainedRun]], tuple[str, ...]]:
        """Train every network with every seed; finished runs stay, begun ones are continued.

        Seeds are the outer loop, so that a comparison that was stopped early has every network. A network that
        diverges is left out and said in the second value; the others go on.

        Raises:
            TrainingInterruptedError: on Ctrl-C; the run under way is saved.
            RecipeError: a network can't be trained in so small batches; nothing is trained then.
        """
        if min(self.recipe.batch_size, *(len(splits.trained_on) for splits in self.splits.values())) == 1:
            for network in networks:
                self._check_single_images(network)
        runs: dict[ComparedNetwork, list[TrainedRun]] = {network: [] for network in networks}
        failures: dict[ComparedNetwork, str] = {}
        plan = [(seed, network) for seed in range(seeds) for network in networks]
        start = time.monotonic()
        for number, (seed, network) in enumerate(plan, start=1):
            if network in failures:
                continue
            which = f", seed {self.recipe.seed + seed}" if seeds > 1 else ""
            spent = f", {(time.monotonic() - start) / 60:.1f} min so far" if number > 1 else ""
            self.progress.message(f"[{number}/{len(plan)}] {network.label}{which}{spent}")
            try:
                runs[network].append(self.train_one(network, self.recipe.seed + seed))
            except NonFiniteLossError as error:
                failures[network] = f"{network.label} is left out: {error}"
                self.progress.message(failures[network])
        return {network: found for network, found in runs.items() if network not in failures}, (*failures.values(),)

    def _check_single_images(self, network: ComparedNetwork) -> None:
        with torch.random.fork_rng(devices=[]):  # building a network draws numbers
            model = create_model(**network.arguments(len(self.dataset.classes)))
        try:
            check_single_images(model, self.splits[network.image_size].trained_on, self.recipe)
        except RecipeError as error:
            raise reworded(error, f"{network.label}: {error}") from error

    def train_one(self, network: ComparedNetwork, seed: int) -> TrainedRun:
        """Train one network with one seed, or continue or keep what is there."""
        run = self.out / "runs" / network.folder / f"seed{seed}"
        try:
            train_unseen(
                network.arguments(len(self.dataset.classes)),
                self.splits[network.image_size],
                replace(self.recipe, seed=seed),
                run,
                resume=has_state(run),
                device=self.device,
                progress=self.progress,
            )
        except TrainingInterruptedError as stopped:
            raise reworded(stopped, f"{stopped}; the same command again goes on from there") from stopped
        return TrainedRun(seed, run, bool(load_state(run, torch.device("cpu")).extensions))

    def seal(self, until: str | None) -> None:
        """Keep the test images of every size from being read until something has happened; None ends that."""
        for splits in self.splits.values():
            splits.test.keep_until(until)

    def score(self, network: ComparedNetwork, runs: Sequence[TrainedRun]) -> list[SeedRun]:
        """Score a network's runs on the test images, those that were not yet, and return all that came of them."""
        for run in runs:
            score_test(run.folder, self.splits[network.image_size], self.device, self.progress, "compare")
        return [read_run(run.folder, run.seed) for run in runs]
