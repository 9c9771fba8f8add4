"""What is told of a run's position: an epoch's figures, and a step's with the time left."""

from __future__ import annotations

from mobilenets.evaluation.results import EpochPoint
from mobilenets.training.observer import StepReport
from mobilenets.training.recipe import Recipe
from mobilenets.training.schedule import learning_rate_at
from mobilenets.training.state import Progress


def where_of(progress: Progress, steps: int) -> str:
    """The step under way, in words; `steps` are an epoch's."""
    return f"epoch {progress.epoch + 1}, step {progress.step + 1} of {steps}"


def epoch_point(progress: Progress, steps: int, recipe: Recipe) -> EpochPoint:
    """The figures of an epoch whose last step is done."""
    return EpochPoint(
        epoch=progress.epoch + 1,
        loss=progress.loss_sum / progress.images,
        top1=100 * progress.correct / progress.images,
        learning_rate=learning_rate_at((progress.epoch + 1) * steps - 1, steps, recipe),
        seconds=progress.seconds,
        images_per_second=progress.images / progress.seconds,
    )


def step_report(progress: Progress, steps: int, recipe: Recipe, verb: str) -> StepReport:
    """The figures of a step that is done, and the seconds left for the run."""
    steps_left = (recipe.epochs - progress.epoch) * steps - progress.step
    return StepReport(
        epoch=progress.epoch + 1,
        epochs=recipe.epochs,
        step=progress.step,
        steps=steps,
        loss=progress.loss_sum / progress.images,
        top1=100 * progress.correct / progress.images,
        images_per_second=progress.images / progress.seconds,
        seconds_left=steps_left * progress.seconds / progress.step,
        verb=verb,
    )
