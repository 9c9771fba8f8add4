"""The learning rate as a pure function of the step, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math

from mobilenets.training.recipe import Recipe


def learning_rate_at(step: int, steps_per_epoch: int, recipe: Recipe) -> float:
    """Learning rate of `step` (counted from 0 over the whole run).

    Linear warm-up, then cosine annealing without restarts (Loshchilov & Hutter, arXiv 1608.03983, eq. 5 with
    minimum 0) or constant.
    """
    total = recipe.epochs * steps_per_epoch
    warmup = min(round(recipe.warmup_epochs * steps_per_epoch), total // 2)
    if step < warmup:
        return recipe.learning_rate * (step + 1) / (warmup + 1)
    if recipe.schedule == "constant":
        return recipe.learning_rate
    progress = (step - warmup) / max(1, total - warmup)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
