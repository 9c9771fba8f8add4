"""`train`: one network, from labelled images to a scored run folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from mobilenets.data.datasets import Dataset, load_dataset, natural_image_size
from mobilenets.data.decoding import find_bit_depth
from mobilenets.data.held_out import cut_validation, without_copies, without_seen
from mobilenets.errors import ModelError, RunError, TrainingInterruptedError, reworded
from mobilenets.evaluation.results import SeedRun
from mobilenets.files import check_writable, outside
from mobilenets.image_record import ImageRecord
from mobilenets.images import MAX_PIXELS
from mobilenets.models.registry import create_model
from mobilenets.models.saved import record_of_weights
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Progress, Silent
from mobilenets.run_folder import recommended_run
from mobilenets.training.checkpoints import SAVE_SECONDS, has_state
from mobilenets.training.distributed import join_team, local_device
from mobilenets.training.optimizer import folded_norms
from mobilenets.training.plan import choose_device
from mobilenets.training.recipe import Recipe, check_freezing, load_recipe, resolve_head_recipe, resolve_recipe
from mobilenets.training.run import check_run_folder, train_and_score
from mobilenets.training.scoring import prepare_splits
from mobilenets.training.start import Start, images_before, start_from_weights
from mobilenets.training.teacher import load_teacher


def train(
    model: str,
    data: str | Path | Dataset,
    out: str | Path,
    *,
    recipe: str | Path | Recipe = "article",
    weights: str | Path | None = None,
    teacher: str | Path | None = None,
    teacher_model: str | None = None,
    teacher_width_mult: float = 1.0,
    head_only: bool = False,
    resume: bool = False,
    force: bool = False,
    save_seconds: float = SAVE_SECONDS,
    width_mult: float = 1.0,
    image_size: int | None = None,
    dropout: float | None = None,
    padding: str | None = None,
    norm_eps: float | None = None,
    exclude: str | Path | None = None,
    skip_bad: bool = False,
    data_root: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
    device: str | None = None,
    progress: Progress | None = None,
    **changes: Any,
) -> SeedRun:
    """Train one network on images into the run folder `out` and score it, on the test images last and once.

    Args:
        model: name as in `list_models()`.
        data: `digits`, `cifar10`, a folder, a zip or shards of images (see `mobilenets.data.datasets.load_dataset`).
        out: run folder to write.
        recipe: name of a shipped recipe, a TOML file, or a `Recipe`.
        weights: what to start from, as `create_model` takes them: `imagenet`, a file of torchvision's, timm's or
            TensorFlow Lite's, a run folder, or a comparison's for the network it recommends; None for fresh ones.
            Images are prepared with their mean, deviation and interpolation where these are known.
        teacher: a trained network to learn from beside the labels: a run folder, or weights as above, that
            answer the same classes. The recipe's `temperature` and `distill_weight` say how.
        teacher_model: the network of a teacher that is a weight file; default: `model`. A run folder names its own.
        teacher_width_mult: its width, likewise.
        head_only: fit the classifier alone, to features that the backbone with its weights computes once. Of the recipe
            `flip`, `balance`, `validation_fraction` and `seed` count. Images are taken at the size the weights were
            made for.
        resume: continue a run that was stopped, to the weights it would have had; where nothing was saved yet, begin.
            With more epochs than before a run is extended: its schedule is computed anew over all of them.
        force: with `resume`, go on even where recipe, images or network are not those the run was begun with.
        save_seconds: how often the state is saved, which is what being killed may cost; 0 for after every step.
        width_mult: width multiplier.
        image_size: input size in pixels; None takes the images' natural size (with `head_only` the weights').
        dropout: rate before the classifier; default: the paper's.
        padding: `same` as TensorFlow pads or `symmetric`; default: what the weights say, else the network's own.
        norm_eps: eps of batch norm, likewise.
        exclude: a list of images to leave out, as `doctor --fix` writes it.
        skip_bad: leave unreadable images out instead of refusing.
        data_root: where `cifar10` is looked for and downloaded to.
        max_pixels: the most pixels an image may have; see `load_dataset`.
        device: `cpu`, `cuda` or `mps` instead of the best present.
        progress: receives progress.
        **changes: fields of the recipe to change, e.g. `epochs=20`.

    Raises:
        MobilenetsError: bad input, each its own kind; a run that was begun stays.
    """
    out = outside(data, Path(out))
    check_writable(out)
    weights, teacher = (None if given is None else recommended_run(given) or given for given in (weights, teacher))
    recipe = _resolved(recipe, changes, weights, teacher, head_only=head_only)
    if teacher is None and (teacher_model is not None or teacher_width_mult != 1.0):
        raise ModelError("a teacher's model or width is given, but there is no teacher; give `teacher`")
    if force and not resume:
        raise RunError("force is for going on with a run: give `resume=True` with it, or leave it out")
    if not save_seconds >= 0:  # NaN, too
        raise RunError(f"save_seconds is {save_seconds:g}; it must be at least 0")
    chosen = local_device(choose_device(device))
    with join_team(chosen) as team:
        if head_only and team.count > 1:
            raise ModelError("`head_only=True` runs in one process: its backbone runs once; start it without torchrun")
        report = progress if progress is not None and team.is_main else Silent()
        team.run_on_main(lambda: check_run_folder(out, resume, team))
        resumed = resume and has_state(out)
        images = load_dataset(data, data_root=data_root, exclude=exclude, max_pixels=max_pixels, progress=report)
        dataset, before = _unseen_images(images, recipe, weights, teacher, out, report, resumed=resumed)
        network = _network(model, dataset, width_mult, image_size, dropout, padding, norm_eps)
        start = None
        if weights is not None:
            own_size = head_only and image_size is None
            start = _start(
                network, weights, dataset, recipe, out, report, resumed=resumed, own_size=own_size, images=before
            )
        preprocessing = _fresh_preprocessing(network) if start is None else start.preprocessing
        preprocessing, dataset = _scaled(preprocessing, dataset)
        if start is not None:
            start = replace(start, preprocessing=preprocessing)
        taught_by = None
        if teacher is not None:
            taught_by = load_teacher(
                teacher,
                dataset.classes,
                preprocessing,
                network=teacher_model or model,
                width_mult=teacher_width_mult,
                progress=report,
            )
        splits = prepare_splits(dataset, preprocessing, skip_bad=skip_bad, progress=report)
        try:
            return train_and_score(
                network,
                splits,
                recipe,
                out,
                resume=resume,
                device=chosen,
                progress=report,
                start=start,
                teacher=taught_by,
                head_only=head_only,
                force=force,
                team=team,
                save_seconds=save_seconds,
            )
        except TrainingInterruptedError as stopped:
            raise reworded(stopped, f"{stopped}; the same with `resume=True` goes on from there") from stopped


def _resolved(
    recipe: str | Path | Recipe,
    changes: dict[str, Any],
    weights: str | Path | None,
    teacher: str | Path | None,
    *,
    head_only: bool,
) -> Recipe:
    """The recipe with its changes, completed by what weights, teacher and head need."""
    recipe = replace(recipe, **changes) if isinstance(recipe, Recipe) else load_recipe(recipe, **changes)
    if head_only:
        recipe = resolve_head_recipe(recipe, changes, has_weights=weights is not None, has_teacher=teacher is not None)
    recipe = resolve_recipe(recipe, has_teacher=teacher is not None)
    check_freezing(recipe, has_weights=weights is not None)
    return recipe


def _unseen_images(
    loaded: Dataset,
    recipe: Recipe,
    weights: str | Path | None,
    teacher: str | Path | None,
    out: Path,
    progress: Progress,
    *,
    resumed: bool,
) -> tuple[Dataset, ImageRecord | None]:
    """Cut validation images, and leave test and validation images out that shaped the weights or the teacher.

    Returns:
        The images, and which images the weights were trained on, where that is known.
    """
    dataset = cut_validation(loaded, recipe.validation_fraction, progress.update)
    dataset = without_copies(dataset, progress.update)
    before = None if weights is None else images_before(weights, out, resume=resumed)
    if before is not None:
        dataset = without_seen(dataset, before, progress.update)
    taught = None if teacher is None else record_of_weights(teacher)
    if taught is not None and not dataset.packaged:  # its published test images no training here is on
        dataset = without_seen(dataset, taught, progress.update, who="the teacher")
    return dataset, before


def _network(
    model: str,
    dataset: Dataset,
    width_mult: float,
    image_size: int | None,
    dropout: float | None,
    padding: str | None,
    norm_eps: float | None,
) -> dict[str, Any]:
    """The arguments of `create_model`."""
    network = {
        "name": model,
        "num_classes": len(dataset.classes),
        "width_mult": width_mult,
        "image_size": natural_image_size(dataset) if image_size is None else image_size,
        "dropout": dropout,
    }
    return network | {key: value for key, value in (("padding", padding), ("norm_eps", norm_eps)) if value is not None}


def _start(
    network: dict[str, Any],
    weights: str | Path,
    dataset: Dataset,
    recipe: Recipe,
    out: Path,
    progress: Progress,
    *,
    resumed: bool,
    own_size: bool,
    images: ImageRecord | None,
) -> Start:
    """The network with the given weights; warns where their batch norms are folded and would be trained."""
    start = start_from_weights(
        network,
        weights,
        dataset.classes,
        recipe.seed,
        out,
        resume=resumed,
        progress=progress,
        own_size=own_size,
        images=images,
    )
    if recipe.freeze == "none" and not resumed and folded_norms(start.model):
        progress.message("note: the batch norms of these weights are folded; keep what they learnt: --freeze bn")
    return start


def _fresh_preprocessing(network: dict[str, Any]) -> Preprocessing:
    """How images are prepared for a network without weights, at its own input size."""
    return Preprocessing(image_size=create_model(**network).config.image_size)


def _scaled(preprocessing: Preprocessing, dataset: Dataset) -> tuple[Preprocessing, Dataset]:
    """The preprocessing with the training images' bit depth, and the data set with a note on it."""
    rule, notes = find_bit_depth(dataset.train.sources)
    return preprocessing.scaling(rule), replace(dataset, notes=(*dataset.notes, *notes))
