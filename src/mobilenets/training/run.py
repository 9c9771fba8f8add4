"""One network trained and scored on one data set: the stage that `train` and `compare` share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from mobilenets.data.datasets import Dataset
from mobilenets.data.loader import PreparedImages, default_memory_limit, prepare
from mobilenets.errors import BadImage, BadImagesError, RunError
from mobilenets.evaluation.evaluate import Evaluation, Predict, evaluate
from mobilenets.evaluation.results import Metrics, SeedRun
from mobilenets.files import write_text_atomically
from mobilenets.folder_lock import LOCK, only_writer
from mobilenets.models.network import MobileNet
from mobilenets.models.normalizer import Normalizer
from mobilenets.models.registry import create_model
from mobilenets.models.saved import DESCRIPTION, WEIGHTS, SavedNetwork, save_network, versions
from mobilenets.preprocessing import Preprocessing
from mobilenets.training.balancing import balanced
from mobilenets.training.checkpoints import SAVE_SECONDS, check_same
from mobilenets.training.freezing import settle_freezing
from mobilenets.training.head import PART, Place, train_head
from mobilenets.training.loop import Training
from mobilenets.training.metric_log import read_curve
from mobilenets.training.objectives import CrossEntropy, Objective
from mobilenets.training.observer import Observer
from mobilenets.training.recipe import Recipe
from mobilenets.training.start import Start
from mobilenets.training.state import STATE, Experiment, has_state, load_state
from mobilenets.training.teacher import Teacher, settle_recipe
from mobilenets.training.team import SOLO, Team

SCORES = "scores.json"
PREDICTIONS = "predictions.npz"
SCORING_BATCH = PART  # so that features which a head was fitted to are found again


@dataclass(frozen=True)
class Splits:
    """A data set decoded for one input size."""

    dataset: Dataset
    train: PreparedImages
    test: PreparedImages
    preprocessing: Preprocessing


@dataclass(frozen=True)
class Scores:
    """What `scores.json` holds: the trained network on test images, and on training images as they are."""

    train: Metrics
    test: Metrics


def prepare_splits(
    dataset: Dataset, preprocessing: Preprocessing, *, skip_bad: bool, observer: Observer, memory_share: int = 1
) -> Splits:
    """Decode both splits for `preprocessing`, telling the observer what the user should know of the data.

    Args:
        dataset: the images.
        preprocessing: how to arrange them.
        skip_bad: leave unreadable images out, and say so, instead of refusing.
        observer: told of progress, notes and images left out.
        memory_share: among how many such calls the memory for pixels is to be shared.

    Raises:
        BadImagesError: images can't be read and `skip_bad` is off; it lists those of both splits.
    """
    prepared: dict[str, PreparedImages] = {}
    bad: list[BadImage] = []
    for name, split in (("training", dataset.train), ("test", dataset.test)):

        def progress(done: int, total: int, what: str = f"reading {name} images") -> None:
            observer.progress(what, done, total)

        try:
            limit = default_memory_limit() // memory_share
            prepared[name] = prepare(split, preprocessing, skip_bad=skip_bad, progress=progress, memory_limit=limit)
        except BadImagesError as error:
            bad += error.bad
    if bad:
        raise BadImagesError(bad)
    announce(dataset.notes, [image for part in prepared.values() for image in part.skipped], observer)
    return Splits(dataset, prepared["training"], prepared["test"], preprocessing)


def announce(notes: Sequence[str], left_out: Sequence[BadImage], observer: Observer) -> None:
    """Tell what the user should know about how the data was read, and every image that was left out."""
    for note in notes:
        observer.message(f"note: {note}")
    if left_out:
        observer.message(f"{len(left_out)} image{'s' * (len(left_out) > 1)} left out:")
    for image in left_out:
        observer.message(f"  {image.name}: {image.reason}")


def train_and_score(
    network: dict[str, Any],
    splits: Splits,
    recipe: Recipe,
    run: Path,
    *,
    resume: bool,
    device: torch.device,
    observer: Observer,
    start: Start | None = None,
    teacher: Teacher | None = None,
    head_only: bool = False,
    force: bool = False,
    team: Team = SOLO,
    save_seconds: float = SAVE_SECONDS,
) -> SeedRun:
    """Train `network` (arguments of `create_model`) into the folder `run`, score it, and return what came of it.

    With `start` its network is trained, which has weights already, and `network` is not looked at. With `teacher` it is
    distilled. With `head_only`, which needs `start` and a recipe of `settle_head`, only the classifier is fitted. With
    `force` a run is continued even if it is that of another experiment.

    A finished run is not trained again: with `resume` its scores are read. torch's global generator is left as it was.

    Raises:
        RunError: the folder holds a run and `resume` is off, or holds a run of another experiment, or is in use.
        RecipeError: the recipe has fields of distillation, and there is no teacher; or it freezes fresh layers.
    """
    recipe = settle_recipe(recipe, has_teacher=teacher is not None)
    settle_freezing(recipe, has_weights=start is not None)
    with ExitStack() as held, torch.random.fork_rng(devices=[]):
        resume = team.led(lambda: _take(run, resume, held, team, observer))
        torch.manual_seed(recipe.seed)  # the weights a network starts with come from the global generator
        model = create_model(**network) if start is None else start.model
        begun_with = {} if start is None else dict(start.record)
        experiment = Experiment(
            {**model.config.to_dict(), **begun_with},
            recipe.to_dict() | ({"head_only": True} if head_only else {}),
            _identity(splits),
            {} if teacher is None else dict(teacher.identity),
        )
        if not team.led(lambda: _finished(run, recipe, experiment, force)):
            classes = splits.dataset.classes
            predict: Predict
            if head_only:
                place = Place(run, experiment, device, observer)
                head = train_head(model, splits.train, classes, recipe, place, resume=resume)
                trained, predict, record = head.model, head.predict, head.record
            else:
                images, class_weights = balanced(splits.train, recipe, len(classes), device)
                training = Training(
                    model,
                    images,
                    recipe,
                    run,
                    experiment=experiment,
                    device=device,
                    observer=observer,
                    classes=len(classes),
                    objective=_objective(recipe, teacher, device, class_weights),
                    team=team,
                    save_seconds=save_seconds,
                )
                trained = training.fit(resume=resume, force=force)
                predict = torch_predict(trained, splits.preprocessing, device, torch.channels_last)
                record = {} if teacher is None else teacher.record
            team.led(lambda: _save_and_score(run, trained, predict, splits, {**begun_with, **record}, observer))
        return team.led(lambda: read_run(run, recipe.seed))


def _take(run: Path, resume: bool, held: ExitStack, team: Team, observer: Observer) -> bool:
    """Hold the run folder until `held` is closed; return whether there is a state to go on from."""
    if team.restarts and has_state(run):
        resume = True  # torchrun starts all anew by the command that began it
    if resume and not (has_state(run) or (run / LOCK).exists()):
        raise RunError(f"nothing to resume: {run / STATE} does not exist; leave out --resume to start")
    held.enter_context(only_writer(run))
    if has_state(run) and not resume:
        raise RunError(f"{run} holds a run already; continue it with --resume or choose another folder")
    if (run / WEIGHTS).exists() and not has_state(run):
        raise RunError(f"{run} holds a trained network but no {STATE} to continue it by; choose another folder")
    if resume and not has_state(run):
        observer.message(f"{run} was stopped before its first state: begun anew")
    return has_state(run)


def _save_and_score(
    run: Path, trained: MobileNet, predict: Predict, splits: Splits, record: dict[str, str], observer: Observer
) -> None:
    _save(run, trained, splits, record)
    _score(run, predict, splits, observer)


def read_run(run: Path, seed: int) -> SeedRun:
    """What a finished run left.

    Raises:
        RunError: the run is not finished or its scores are damaged.
    """
    try:
        scores = TypeAdapter(Scores).validate_json((run / SCORES).read_bytes())
    except FileNotFoundError as error:
        raise RunError(f"{run} is not finished: it has no {SCORES}; continue it with --resume") from error
    except (OSError, ValidationError) as error:
        raise RunError(f"{run / SCORES} is damaged; remove it and continue with --resume to score again") from error
    curve = read_curve(run)
    if not curve:
        raise RunError(f"{run} has no curve: its metrics.jsonl is missing or empty; train anew in another folder")
    return SeedRun(
        seed=seed,
        folder=str(run),
        train=scores.train,
        test=scores.test,
        seconds_per_epoch=median(point.seconds for point in curve),
        curve=curve,
        plan=_plan(run),
    )


def torch_predict(
    model: nn.Module,
    preprocessing: Preprocessing,
    device: torch.device,
    layout: torch.memory_format = torch.contiguous_format,
) -> Predict:
    """Wrap a network as a predict function: uint8 [B, H, W, C] in, float32 logits [B, K] out.

    `layout` is that of images and filters in memory: contiguous is plain eager PyTorch; channels_last is faster on
    large batches.
    """
    normalize = Normalizer(preprocessing).to(device)
    model = model.to(device).to(memory_format=layout).eval()

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            inputs: torch.Tensor = normalize(torch.from_numpy(images).to(device))
            logits: torch.Tensor = model(inputs.contiguous(memory_format=layout))
        result: NDArray[np.float32] = logits.float().cpu().numpy()
        return result

    return predict


def _finished(run: Path, recipe: Recipe, experiment: Experiment, force: bool) -> bool:
    """Whether everything a run leaves is there; one that lacks only its scores trains nothing and is scored."""
    if not has_state(run):
        return False
    state = load_state(run, torch.device("cpu"))
    if check_same(run, state.experiment, experiment, force=force) is not None:
        return False
    whole = all((run / name).exists() for name in (SCORES, PREDICTIONS, WEIGHTS, DESCRIPTION))
    return whole and len(read_curve(run)) == recipe.epochs


def _plan(run: Path) -> str:
    plan = load_state(run, torch.device("cpu")).plan
    return f"{plan['device']}, {plan['precision']}, {plan['memory_format']}"


def _objective(
    recipe: Recipe, teacher: Teacher | None, device: torch.device, class_weights: Tensor | None
) -> Objective:
    if teacher is None:
        return CrossEntropy(recipe.label_smoothing, class_weights)
    return teacher.objective(recipe, device, class_weights)


def _identity(splits: Splits) -> dict[str, Any]:
    """What makes images the same images to a run."""
    return {
        "digest": splits.dataset.digest,
        "training images": len(splits.train),
        "test images": len(splits.test),
        **splits.preprocessing.to_dict(),
    }


def _save(run: Path, trained: MobileNet, splits: Splits, record: dict[str, str]) -> None:
    provenance = {**versions(), "data": splits.dataset.name, "data_digest": splits.dataset.digest, **record}
    save_network(run, SavedNetwork(trained, splits.dataset.classes, splits.preprocessing, provenance))


def _score(run: Path, predict: Predict, splits: Splits, observer: Observer) -> None:
    def score(images: PreparedImages, what: str) -> Evaluation:
        batches = images.batches(SCORING_BATCH)
        return evaluate(
            predict, batches, splits.dataset.classes, progress=lambda done: observer.progress(what, done, len(images))
        )

    train = score(splits.train, "scoring training images")
    test = score(splits.test, "scoring test images")
    test.predictions.save(run / PREDICTIONS)
    scores = TypeAdapter(Scores).dump_json(Scores(train.metrics, test.metrics)).decode()
    write_text_atomically(run / SCORES, scores + "\n")
