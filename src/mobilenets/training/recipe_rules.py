"""Which values a recipe's fields may have, and which fields say nothing beside which: refused, not ignored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mobilenets.errors import RecipeError

LARGEST = 2**63  # of any number: torch takes no larger seed

Names = tuple[str, ...]
RANGES: tuple[tuple[Names, Callable[[float], bool], str], ...] = (
    (("epochs", "batch_size"), lambda value: 1 <= value <= 10**6, "from 1 to 1,000,000"),
    (("rand_ops", "crop_ratio"), lambda value: 1 <= value <= 100, "from 1 to 100"),
    (("warmup_epochs", "weight_decay", "seed"), lambda value: 0 <= value < LARGEST, "at least 0"),
    (("crop_padding",), lambda value: 0 <= value <= 4096, "from 0 to 4096"),  # the largest image's side
    (
        (
            "learning_rate",
            "backbone_rate",
            "clip_grad_norm",
            "temperature",
            "epsilon",
            "decay_epochs",
            "mixup_alpha",
            "cutmix_alpha",
        ),
        lambda value: 0 < value < LARGEST,
        "above 0",
    ),
    (
        ("label_smoothing", "ema_decay", "momentum", "square_decay", "validation_fraction"),
        lambda value: 0 <= value < 1,
        "from 0 to below 1",
    ),
    (("final_rate", "jitter_brightness", "jitter_saturation", "erasing"), lambda value: 0 <= value <= 1, "from 0 to 1"),
    (
        ("distill_weight", "rate_decay", "crop_scale", "rand_probability", "mix_probability"),
        lambda value: 0 < value <= 1,
        "above 0, at most 1",
    ),
    (("progressive_start", "progressive_end"), lambda value: 0 < value <= 1, "above 0, at most 1"),
    (("rand_magnitude",), lambda value: 0 <= value <= 10, "from 0 to 10"),
)
"""Fields, what they must fulfil, and that in words."""

ONLY_WITH: Mapping[str, tuple[str, Names]] = {
    "square_decay": ("optimizer", ("adamw", "rmsprop")),
    "epsilon": ("optimizer", ("adamw", "rmsprop")),
    "final_rate": ("schedule", ("cosine",)),
    "rate_decay": ("schedule", ("step", "exponential")),
    "decay_epochs": ("schedule", ("step", "exponential")),
    "crop_scale": ("crop", ("resized",)),
    "crop_ratio": ("crop", ("resized",)),
    "rand_ops": ("augment", ("rand",)),
    "rand_magnitude": ("augment", ("rand",)),
    "rand_probability": ("augment", ("rand",)),
}
"""A field -> the field, and its values, beside which alone it says anything."""
NEEDS: Mapping[str, tuple[str, ...]] = {
    "progressive_end": ("progressive_start",),
    "mix_probability": ("mixup_alpha", "cutmix_alpha"),
}
"""A field -> others of which one must be given beside it."""


def check_fields(fields: Mapping[str, Any]) -> None:
    """Refuse values no training can have, and fields that would silently mean nothing.

    Args:
        fields: a recipe's fields by name; those that are None are left open.

    Raises:
        RecipeError: naming field and value.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    for names, fits, must in RANGES:
        for name in names:
            if name in given and not fits(given[name]):
                limit = f"{must} and below 2**63" if given[name] >= LARGEST else must
                raise RecipeError(f"recipe field {name} is {given[name]}; it must be {limit}")
    for name, (other, values) in ONLY_WITH.items():
        if name in given and given[other] not in values:
            raise RecipeError(
                f"recipe field {name} is {given[name]}, but {other} is {given[other]}; "
                f"it is for {' and '.join(values)}: leave it out, or set it to None"
            )
    for name, needed in NEEDS.items():
        if name in given and not any(other in given for other in needed):
            missing = " or ".join(needed)
            raise RecipeError(f"recipe field {name} is {given[name]} without {missing}; give it, or leave {name} out")
