"""Learning rate and image size as pure functions of the place in the run: a resumed run needs no scheduler's state."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from mobilenets.training.recipe import Recipe

RATE_DECAY: Final = 0.98
"""What `step` and `exponential` multiply by every epoch where the recipe leaves it open: V2's paper."""
RISE, LOWEST_START, LOWEST_END = 0.3, 1 / 25, 1 / 25e4
"""One-cycle: the share of the run it rises for, and the shares of the peak it starts and ends at. torch's defaults."""
FULL_SIZE_AT: Final = 0.8
SIZE_STEP: Final = 8
"""Image sizes are multiples of it, so that the networks' strides divide them."""


def learning_rate_at(step: int, steps_per_epoch: int, recipe: Recipe) -> float:
    """Learning rate of `step` (counted from 0 over the whole run).

    `onecycle` is Smith and Topin's (arXiv 1708.07120) in torch's two-phase form, without a cycle of momentum. All
    others begin with a linear warm-up: then cosine annealing without restarts (Loshchilov & Hutter, arXiv 1608.03983,
    eq. 5 with minimum `final_rate`), constant, or decay by a factor every so many epochs, at once (`step`, TensorFlow's
    staircase) or smoothly (`exponential`).
    """
    total = recipe.epochs * steps_per_epoch
    warmup = min(round(recipe.warmup_epochs * steps_per_epoch), total // 2)
    if recipe.schedule == "onecycle":
        return recipe.learning_rate * _one_cycle(step, total, warmup / total if warmup else RISE)
    if step < warmup:
        return recipe.learning_rate * (step + 1) / (warmup + 1)
    if recipe.schedule == "constant":
        return recipe.learning_rate
    if recipe.schedule in ("step", "exponential"):
        return recipe.learning_rate * _decayed((step - warmup) / steps_per_epoch, recipe)
    progress = (step - warmup) / max(1, total - warmup)
    final = recipe.final_rate or 0.0
    return recipe.learning_rate * _cosine(1.0, final, progress)


def extension(recipe: Recipe, had: int, step: int, steps_per_epoch: int) -> str:
    """Say what becomes of the schedule of a run that is given more epochs: that of a run which had them all along.

    The rate is a function of the place in the run, so it goes on where a run of the new length would be, whatever the
    old one had come down to: a restart without a warm-up, below the peak (compare Loshchilov & Hutter, arXiv
    1608.03983, section 3, who start again at the peak).

    Args:
        recipe: with the new epochs.
        had: the epochs of before.
        step: the next one, counted from 0 over the whole run.
        steps_per_epoch: of an epoch.
    """
    before, after = (
        learning_rate_at(max(0, place), steps_per_epoch, which)
        for place, which in ((step - 1, replace(recipe, epochs=had)), (step, recipe))
    )
    if recipe.schedule == "constant":
        said = f"the learning rate stays {after:.2g}"
    elif recipe.schedule in ("step", "exponential"):
        said = f"the learning rate goes on falling, from {after:.2g}"
    else:
        said = (
            f"the {recipe.schedule} schedule is computed anew over all {recipe.epochs}; the learning rate goes on at "
            f"{after:.2g}, where it had come to {before:.2g}"
        )
    return said + ("; image sizes likewise" if recipe.progressive_start is not None else "")


def image_size_at(epoch: int, full: int, recipe: Recipe) -> int:
    """Side of the training images in pixels in `epoch` (counted from 0).

    It grows evenly from `progressive_start` of the full side, in multiples of 8 pixels, and is full in the last epochs,
    so that batch norm and filters settle at the size that is scored. Source: Howard's progressive resizing as in
    Touvron et al. 2019 (arXiv 1906.06423) and Tan and Le 2021 (arXiv 2104.00298, section 4).
    """
    if recipe.progressive_start is None:
        return full
    until = recipe.epochs * (FULL_SIZE_AT if recipe.progressive_end is None else recipe.progressive_end)
    share = recipe.progressive_start + (1 - recipe.progressive_start) * min(1.0, epoch / max(1.0, math.floor(until)))
    if share >= 1 or epoch == recipe.epochs - 1:
        return full
    return min(full, max(SIZE_STEP, round(full * share / SIZE_STEP) * SIZE_STEP))


def _one_cycle(step: int, total: int, rise: float) -> float:
    top = rise * total - 1
    if step < top:
        return _cosine(LOWEST_START, 1.0, step / top)
    return _cosine(1.0, LOWEST_END, (step - top) / max(1.0, total - 1 - top))


def _decayed(epochs: float, recipe: Recipe) -> float:
    periods = epochs / (1.0 if recipe.decay_epochs is None else recipe.decay_epochs)
    if recipe.schedule == "step":
        periods = math.floor(periods + 1e-9)  # an epoch that is a sum of steps may be a hair short of a whole
    decay: float = (RATE_DECAY if recipe.rate_decay is None else recipe.rate_decay) ** periods
    return decay


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, progress))))
