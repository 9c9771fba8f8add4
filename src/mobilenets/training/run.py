"""One network trained and scored on one data set: the stage that `train` and `compare` share."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from statistics import median
from typing import Any, TypedDict, Unpack

import numpy as np
import torch

from mobilenets.data.decoding import TrainingDecoding
from mobilenets.data.held_out import DIGEST, image_record, validation_record
from mobilenets.data.sources import write_exclusions
from mobilenets.errors import RunError
from mobilenets.evaluation.evaluation_set import readings
from mobilenets.evaluation.predictions import Predict
from mobilenets.evaluation.results import SeedRun
from mobilenets.files import only_writer, write_text_atomically
from mobilenets.image_record import ImageRecord
from mobilenets.limits import read_text
from mobilenets.models.network import MobileNet
from mobilenets.models.registry import create_model
from mobilenets.models.saved import SavedNetwork, save_network, versions
from mobilenets.progress import Progress
from mobilenets.run_folder import DESCRIPTION, WEIGHTS
from mobilenets.training.checkpoints import SAVE_SECONDS, STATE, Experiment, check_same, has_state, load_state
from mobilenets.training.distributed import SOLO, Team
from mobilenets.training.inputs import balanced, random_crop
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
from mobilenets.training.start import Start
from mobilenets.training.teacher import Teacher

EXCLUDED = "exclude.txt"
"""The images left out of training and scoring, where there are any, as `--exclude` takes them."""


LAUNCH = ".torchrun"
"""Which call of torchrun trains here: its restarts go on by themselves, another call has to say --resume."""


class TrainingArguments(TypedDict, total=False):
    """Keyword arguments of `train_unseen` that `train_and_score` hands on."""

    start: Start | None
    teacher: Teacher | None
    head_only: bool
    force: bool
    team: Team
    save_seconds: float


def train_and_score(
    network: dict[str, Any],
    splits: Splits,
    recipe: Recipe,
    run: Path,
    *,
    resume: bool,
    device: torch.device,
    progress: Progress,
    **options: Unpack[TrainingArguments],
) -> SeedRun:
    """Train `network` (arguments of `create_model`) into the folder `run`, score it, and return the scores.

    The test images are read last of all, and once. Arguments and errors are those of `train_unseen`.
    """
    predict = train_unseen(network, splits, recipe, run, resume=resume, device=device, progress=progress, **options)

    def finish() -> SeedRun:
        score_test(run, splits, device, progress, "train", predict)
        return read_run(run, recipe.seed)

    return options.get("team", SOLO).run_on_main(finish)


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
    head_only: bool = False,
    force: bool = False,
    team: Team = SOLO,
    save_seconds: float = SAVE_SECONDS,
) -> Predict | None:
    """Train a network into a run folder and score it on the training and the validation images, not on the test images.

    A finished run is not trained again, unless `recipe` has more epochs: then it is extended. torch's global generator
    is left as it was.

    Args:
        network: arguments of `create_model`; not looked at with `start`.
        splits: the images.
        recipe: how to train.
        run: the run folder.
        resume: continue the run in the folder; where it holds none yet, one is begun.
        device: where to compute.
        progress: receives progress.
        start: a network that has weights already.
        teacher: a network to distil from.
        head_only: fit the classifier alone; needs `start` and a recipe of `resolve_head_recipe`.
        force: continue the run even if it is another experiment's.
        team: the processes that train together.
        save_seconds: at most this much time passes between two saved states, plus a step.

    Returns:
        Where a head was fitted, its predict function, which uses the features that are kept; else None: the run folder
        has all.

    Raises:
        RunError: the folder holds a run and `resume` is off, or one of another experiment, or is in use.
        RecipeError: the recipe has fields of distillation, and there is no teacher; or it freezes fresh layers.
    """
    recipe = resolve_recipe(recipe, has_teacher=teacher is not None)
    check_freezing(recipe, has_weights=start is not None)
    with ExitStack() as held, torch.random.fork_rng(devices=[]):
        resume = team.run_on_main(lambda: _take(run, resume, held, team, progress))
        torch.manual_seed(recipe.seed)  # the weights a network starts with come from the global generator
        model = create_model(**network) if start is None else start.model
        experiment = _experiment(model, recipe, splits, start, teacher, head_only)
        if team.run_on_main(lambda: _finished(run, recipe, experiment, splits, force)):
            progress.message(f"{run} is finished: {_epochs(recipe)} trained; nothing is trained again")
            return None
        team.run_on_main(lambda: _record_images(run, splits, _seen_before(start, teacher), progress))
        if head_only:
            fitted = _fit_head(model, splits, recipe, run, experiment, device, progress, resume=resume)
        else:
            training = _training(model, splits, recipe, run, experiment, device, progress, teacher, team, save_seconds)
            fitted = _fit(training, splits, device, resume=resume, force=force)
        begun_with = {} if start is None else dict(start.record)
        taught_by = {} if teacher is None else teacher.record

        def finish() -> None:
            _save(run, fitted.model, splits, {**begun_with, **fitted.record, **taught_by})
            score_trained(
                run, fitted.predict, splits, progress, experiment=experiment.digest, flip_test=recipe.flip_test
            )

        team.run_on_main(finish)
        return fitted.predict if head_only else None


@dataclass(frozen=True)
class _Fitted:
    """A trained network, its predict function, and what its provenance says of the training."""

    model: MobileNet
    predict: Predict
    record: dict[str, str]


def _experiment(
    model: MobileNet, recipe: Recipe, splits: Splits, start: Start | None, teacher: Teacher | None, head_only: bool
) -> Experiment:
    """What has to be the same for the run to be continued."""
    return Experiment(
        {**model.config.to_dict(), **({} if start is None else start.record)},
        recipe.to_dict() | ({"head_only": True} if head_only else {}),
        _identity(splits),
        {} if teacher is None else dict(teacher.identity),
    )


def _fit_head(
    model: MobileNet,
    splits: Splits,
    recipe: Recipe,
    run: Path,
    experiment: Experiment,
    device: torch.device,
    progress: Progress,
    *,
    resume: bool,
) -> _Fitted:
    """Fit the classifier alone."""
    from mobilenets.training.head import HeadRun, train_head  # loads scikit-learn

    if splits.streamed is not None:
        raise RunError("`head_only=True` keeps the features of all images; shards are streamed: train without it")
    where = HeadRun(run, experiment, device, progress)
    head = train_head(model, splits.train, splits.dataset.classes, recipe, where, resume=resume)
    return _Fitted(head.model, head.predict, head.record)


def _training(
    model: MobileNet,
    splits: Splits,
    recipe: Recipe,
    run: Path,
    experiment: Experiment,
    device: torch.device,
    progress: Progress,
    teacher: Teacher | None,
    team: Team,
    save_seconds: float,
) -> Training[MobileNet]:
    """The training loop for these images, balanced and decoded as the recipe says."""
    classes = len(splits.dataset.classes)
    decoded = splits.trained_on.for_training(TrainingDecoding(random_crop(recipe), recipe.reduced_decoding))
    images, class_weights = balanced(decoded, recipe, classes, device)
    if teacher is None:
        objective: Objective = CrossEntropy(recipe.label_smoothing, class_weights)
    else:
        objective = teacher.objective(recipe, device, class_weights)
    return Training(
        model,
        images,
        recipe,
        run,
        experiment=experiment,
        device=device,
        progress=progress,
        classes=classes,
        objective=objective,
        team=team,
        save_seconds=save_seconds,
        validate=Validator(splits, device, progress),
        decoded_by=decoded.decoded_by if images is decoded else splits.train.decoded_by,
        cropped=images is decoded and recipe.crop == "resized",
    )


def _fit(training: Training[MobileNet], splits: Splits, device: torch.device, *, resume: bool, force: bool) -> _Fitted:
    """Train all layers that are not frozen."""
    trained = training.fit(resume=resume, force=force)
    predict = torch_predict(trained, splits.preprocessing, device, torch.channels_last)
    decoded_by = training.checkpoints.decoded_by
    return _Fitted(trained, predict, {"training_images_decoded": decoded_by, **training.checkpoints.record})


def _seen_before(start: Start | None, teacher: Teacher | None) -> ImageRecord | None:
    """Which images shaped what a run begins with: its weights, and its teacher's."""
    records = [one.images.all_trained for one in (start, teacher) if one is not None and one.images is not None]
    return ImageRecord(reduce(np.union1d, records)) if records else None


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


def _record_images(run: Path, splits: Splits, begun_with: ImageRecord | None, progress: Progress) -> None:
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
