"""One network trained and scored on one data set: the stage that `train` and `compare` share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mobilenets.data.datasets import Dataset
from mobilenets.data.decoding import TrainingDecoding
from mobilenets.data.loader import PreparedImages, default_memory_limit, prepare
from mobilenets.data.sources import write_exclusions
from mobilenets.data.unseen import image_record
from mobilenets.data.validation import DIGEST, validation_record
from mobilenets.errors import BadImage, BadImagesError, RunError
from mobilenets.evaluation.evaluation_set import SealedTestSet
from mobilenets.evaluation.images import labelled_set
from mobilenets.evaluation.ledger import readings
from mobilenets.evaluation.predictions import Predict
from mobilenets.evaluation.results import SeedRun
from mobilenets.files import only_writer, write_text_atomically
from mobilenets.image_record import ImageRecord
from mobilenets.limits import read_text
from mobilenets.models.network import MobileNet
from mobilenets.models.registry import create_model
from mobilenets.models.saved import DESCRIPTION, WEIGHTS, SavedNetwork, save_network, versions
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Progress, counted
from mobilenets.training.balancing import balanced
from mobilenets.training.checkpoints import SAVE_SECONDS, STATE, Experiment, check_same, has_state, load_state
from mobilenets.training.distributed import SOLO, Team
from mobilenets.training.head import Place, train_head
from mobilenets.training.inputs import random_crop
from mobilenets.training.loop import Training
from mobilenets.training.optimizer import CrossEntropy, Objective
from mobilenets.training.progress import read_curve
from mobilenets.training.recipe import Recipe, check_freezing, resolve_recipe
from mobilenets.training.scoring import (
    SCORES,
    VALIDATION_PREDICTIONS,
    Splits,
    Validator,
    read_scores,
    score_test,
    score_trained,
    torch_predict,
)
from mobilenets.training.start import Start, seen_before
from mobilenets.training.teacher import Teacher

if TYPE_CHECKING:
    from mobilenets.data.shards.shard_set import ShardSet
    from mobilenets.data.shards.streaming import ShardImages

EXCLUDED = "exclude.txt"
"""The images left out of training and scoring, where there are any, as `--exclude` takes them."""
LAUNCH = ".torchrun"
"""Which call of torchrun trains here: its restarts go on by themselves, another call has to say --resume."""


def prepare_splits(
    dataset: Dataset, preprocessing: Preprocessing, *, skip_bad: bool, progress: Progress, memory_share: int = 1
) -> Splits:
    """Decode all splits for `preprocessing`, telling the progress what the user should know of the data.

    Args:
        dataset: the images.
        preprocessing: how to arrange them.
        skip_bad: leave unreadable images out, and say so, instead of refusing.
        progress: told of progress, notes and images left out.
        memory_share: among how many such calls the memory for pixels is to be shared.

    Raises:
        BadImagesError: images can't be read and `skip_bad` is off; it lists those of all splits.
    """
    prepared: dict[str, PreparedImages] = {}
    bad: list[BadImage] = []
    parts = {"training": dataset.train, "validation": dataset.validation, "test": dataset.test}
    for name, split in parts.items():
        if split is None:
            continue

        try:
            limit = default_memory_limit() // memory_share
            prepared[name] = prepare(
                split,
                preprocessing,
                skip_bad=skip_bad,
                progress=counted(progress.update, f"reading {name} images"),
                memory_limit=limit,
                every_class=name != "validation",
            )
        except BadImagesError as error:
            bad += error.bad
    if bad:
        raise BadImagesError(bad)
    announce(dataset.notes, [image for part in prepared.values() for image in part.skipped], progress)
    test = SealedTestSet(labelled_set(prepared["test"], dataset, "test"))
    validation = prepared.get("validation") or None  # where none of them can be read, there are none
    streamed = None if dataset.shards is None else stream(dataset.shards, preprocessing, skip_bad, progress)
    return Splits(dataset, prepared["training"], validation, test, preprocessing, streamed)


def stream(shards: ShardSet, preprocessing: Preprocessing, skip_bad: bool, progress: Progress) -> ShardImages:
    """Stream images to train on; those that are left out are told as they are met."""
    from mobilenets.data.shards.streaming import ShardImages  # loads webdataset

    def tell(image: BadImage) -> None:
        progress.message(f"left out: {image}")

    return ShardImages(shards, preprocessing, skip_bad=skip_bad, told=tell)


def announce(notes: Sequence[str], left_out: Sequence[BadImage], progress: Progress) -> None:
    """Tell what the user should know about how the data was read, and every image that was left out."""
    for note in notes:
        progress.message(f"note: {note}")
    if left_out:
        progress.message(f"{len(left_out)} image{'s' * (len(left_out) > 1)} left out:")
    for image in left_out:
        progress.message(f"  {image}")


def train_and_score(
    network: dict[str, Any],
    splits: Splits,
    recipe: Recipe,
    run: Path,
    *,
    resume: bool,
    device: torch.device,
    progress: Progress,
    start: Start | None = None,
    teacher: Teacher | None = None,
    head_only: bool = False,
    force: bool = False,
    team: Team = SOLO,
    save_seconds: float = SAVE_SECONDS,
) -> SeedRun:
    """Train `network` (arguments of `create_model`) into the folder `run`, score it, and return what came of it.

    The test images are read last of all, and once. Arguments and errors are those of `train_unseen`.
    """
    predict = train_unseen(
        network,
        splits,
        recipe,
        run,
        resume=resume,
        device=device,
        progress=progress,
        start=start,
        teacher=teacher,
        force=force,
        team=team,
        save_seconds=save_seconds,
        head_only=head_only,
    )

    def finish() -> SeedRun:
        score_test(run, splits, device, progress, "train", predict)
        return read_run(run, recipe.seed)

    return team.run_on_main(finish)


def train_unseen(
    network: dict[str, Any],
    splits: Splits,
    recipe: Recipe,
    run: Path,
    *,
    resume: bool,
    device: torch.device,
    progress: Progress,
    start: Start | None = None,
    teacher: Teacher | None = None,
    force: bool = False,
    team: Team = SOLO,
    save_seconds: float = SAVE_SECONDS,
    head_only: bool = False,
) -> Predict | None:
    """Train `network` (arguments of `create_model`) into the folder `run`, with the test images unseen.

    It is scored on the training and the validation images. With `start` its network is trained, which has weights
    already, and `network` is not looked at. With `teacher` it is distilled. With `head_only`, which needs `start` and a
    recipe of `resolve_head_recipe`, the classifier alone is fitted. With `force` a run is continued even if it is of
    another experiment.

    A finished run is not trained again, unless `recipe` has more epochs: then it is extended. torch's global generator
    is left as it was.

    Returns:
        Where a head was fitted, how to ask it with the features that are kept; else None, the run folder has all.

    Raises:
        RunError: the folder holds a run and `resume` is off, or one of another experiment, or is in use; with `resume`
            one that holds none yet is begun.
        RecipeError: the recipe has fields of distillation, and there is no teacher; or it freezes fresh layers.
    """
    recipe = resolve_recipe(recipe, has_teacher=teacher is not None)
    check_freezing(recipe, has_weights=start is not None)
    with ExitStack() as held, torch.random.fork_rng(devices=[]):
        resume = team.run_on_main(lambda: _take(run, resume, held, team, progress))
        torch.manual_seed(recipe.seed)  # the weights a network starts with come from the global generator
        model = create_model(**network) if start is None else start.model
        begun_with = {} if start is None else dict(start.record)
        experiment = Experiment(
            {**model.config.to_dict(), **begun_with},
            recipe.to_dict() | ({"head_only": True} if head_only else {}),
            _identity(splits),
            {} if teacher is None else dict(teacher.identity),
        )
        if not team.run_on_main(lambda: _finished(run, recipe, experiment, splits, force)):
            classes = splits.dataset.classes
            predict: Predict
            team.run_on_main(lambda: _remember_images(run, splits, seen_before(start, teacher), progress))
            if head_only:
                if splits.streamed is not None:
                    raise RunError(
                        "`head_only=True` keeps the features of all images; shards are streamed: train without it"
                    )
                place = Place(run, experiment, device, progress)
                head = train_head(model, splits.train, classes, recipe, place, resume=resume)
                trained, predict, record = head.model, head.predict, head.record
            else:
                decoded = splits.trained_on.for_training(TrainingDecoding(random_crop(recipe), recipe.reduced_decoding))
                images, class_weights = balanced(decoded, recipe, len(classes), device)
                decoded_by = decoded.decoded_by if images is decoded else splits.train.decoded_by
                training = Training(
                    model,
                    images,
                    recipe,
                    run,
                    experiment=experiment,
                    device=device,
                    progress=progress,
                    classes=len(classes),
                    objective=_objective(recipe, teacher, device, class_weights),
                    team=team,
                    save_seconds=save_seconds,
                    validate=Validator(splits, device, progress),
                    decoded_by=decoded_by,
                    cropped=images is decoded and recipe.crop == "resized",
                )
                trained = training.fit(resume=resume, force=force)
                predict = torch_predict(trained, splits.preprocessing, device, torch.channels_last)
                record = {"training_images_decoded": decoded_by, **training.checkpoints.record}
                record |= {} if teacher is None else teacher.record
            record = {**begun_with, **record}

            def finish() -> None:
                _save(run, trained, splits, record)
                score_trained(run, predict, splits, progress, experiment=experiment.digest, flip_test=recipe.flip_test)

            team.run_on_main(finish)
            return predict if head_only else None
        progress.message(f"{run} is finished: {_epochs(recipe)} trained; nothing is trained again")
        return None


def _epochs(recipe: Recipe) -> str:
    return "1 epoch is" if recipe.epochs == 1 else f"all {recipe.epochs} epochs are"


def check_run_folder(run: Path, resume: bool, team: Team) -> bool:
    """Whether the run in a folder is to be gone on with, or begun there; told before any image is read.

    Raises:
        RunError: the folder holds a run and `resume` is off, or a network that nothing was kept of to go on from.
    """
    if team.restarts and has_state(run) and _launched_by(run) == team.launch:
        resume = True  # torchrun starts all anew by the command that began it
    if has_state(run) and not resume:
        raise RunError(f"{run} holds a run already; continue it with `resume=True` or choose another folder")
    if (run / WEIGHTS).exists() and not has_state(run):
        raise RunError(f"{run} holds a trained network but no {STATE} to continue it by; choose another folder")
    return resume


def _take(run: Path, resume: bool, held: ExitStack, team: Team, progress: Progress) -> bool:
    """Hold the run folder until `held` is closed; return whether there is a state to go on from."""
    held.enter_context(only_writer(run))
    resume = check_run_folder(run, resume, team)
    if resume and not has_state(run):
        progress.message(f"nothing was saved in {run} yet: training starts from the beginning")
    if team.launch:
        write_text_atomically(run / LAUNCH, team.launch + "\n")
    return has_state(run)


def _remember_images(run: Path, splits: Splits, begun_with: ImageRecord | None, progress: Progress) -> None:
    """Write down which images are trained on, before any is: whatever becomes of the run, it has seen them.

    A run that is taken up again, by force maybe with other images, keeps those of before.
    """
    before = ImageRecord.load(run)
    record = image_record(splits.dataset, begun_with, progress.update)
    if before is not None:
        former = np.union1d(before.inherited, np.setdiff1d(before.trained, record.trained))
        record = replace(record, inherited=np.union1d(record.inherited, former))
    record.save(run)
    if record.excluded:
        write_exclusions(run / EXCLUDED, dict.fromkeys(record.excluded, ""), "left out of training and scoring")


def _launched_by(run: Path) -> str:
    """The call of torchrun that last took this run up; empty where none did."""
    try:
        return read_text(run / LAUNCH).strip()
    except (OSError, ValueError):  # not there, or not to be read: then this is no restart of it
        return ""


def read_run(run: Path, seed: int) -> SeedRun:
    """What a finished run left.

    Raises:
        RunError: the run is not finished or its scores are damaged.
    """
    scores = read_scores(run)
    if scores.test is None:
        raise RunError(f"{run} was not scored on the test images yet; continue it with `resume=True`")
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
        validation=scores.validation,
        test_readings=readings(run),
    )


def _finished(run: Path, recipe: Recipe, experiment: Experiment, splits: Splits, force: bool) -> bool:
    """Whether everything a run leaves is there; one that lacks only its scores trains nothing and is scored."""
    if not has_state(run):
        return False
    state = load_state(run, torch.device("cpu"))
    if check_same(run, state.experiment, experiment, force=force) is not None:
        return False
    names = [SCORES, WEIGHTS, DESCRIPTION, *([] if splits.validation is None else [VALIDATION_PREDICTIONS])]
    if not all((run / name).exists() for name in names) or len(read_curve(run)) < recipe.epochs:
        return False
    # A run that was forced to become another has the scores of the one it was until it is scored anew.
    return read_scores(run).experiment in ("", state.experiment.digest)


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
        "training images": len(splits.trained_on),
        **({} if splits.validation is None else {"validation images": len(splits.validation)}),
        "test images": len(splits.test),
        **splits.preprocessing.to_dict(),
    }


def _save(run: Path, trained: MobileNet, splits: Splits, record: dict[str, str]) -> None:
    images = {"data": splits.dataset.name, DIGEST: splits.dataset.digest, **validation_record(splits.dataset)}
    if count := len(splits.dataset.excluded):
        images["excluded"] = f"{count:,} image{'s' * (count != 1)}, listed in {EXCLUDED}"
    provenance = {**versions(), **images, **record}
    save_network(run, SavedNetwork(trained, splits.dataset.classes, splits.preprocessing, provenance))
