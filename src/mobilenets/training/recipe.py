"""A recipe: everything that decides how a network is trained, as one frozen record = one TOML file = flags.

Shipped recipes stand in `mobilenets/recipes/`; each opens with its source, command, expected result and cost.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from mobilenets.errors import ModelError, RecipeError
from mobilenets.limits import MAX_TOML_BYTES, parse_toml, read_text

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
        ("label_smoothing", "ema_decay", "momentum", "alpha", "validation_fraction"),
        lambda value: 0 <= value < 1,
        "from 0 to below 1",
    ),
    (("final_rate", "jitter_brightness", "jitter_saturation", "erasing"), lambda value: 0 <= value <= 1, "from 0 to 1"),
    (
        ("distill_weight", "gamma", "crop_scale", "rand_probability", "mix_probability"),
        lambda value: 0 < value <= 1,
        "above 0, at most 1",
    ),
    (("progressive_start", "progressive_end"), lambda value: 0 < value <= 1, "above 0, at most 1"),
    (("rand_magnitude",), lambda value: 0 <= value <= 10, "from 0 to 10"),
)
"""Fields, what they must fulfil, and that in words."""

ONLY_WITH: Mapping[str, tuple[str, Names]] = {
    "alpha": ("optimizer", ("adamw", "rmsprop")),
    "epsilon": ("optimizer", ("adamw", "rmsprop")),
    "final_rate": ("schedule", ("cosine",)),
    "gamma": ("schedule", ("step", "exponential")),
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
HEAD_FIELDS = ("flip", "balance", "validation_fraction", "seed")
"""The fields of a recipe that mean something to a head."""
RENAMED: Mapping[str, str] = {"square_decay": "alpha", "rate_decay": "gamma"}
"""Fields of recipes and run folders written before 0.1 -> what they are called now."""
TEMPERATURE, DISTILL_WEIGHT = 4.0, 0.9
"""Distillation's where the recipe leaves them open: Tian et al. 2020 (arXiv 1910.10699) use these for Hinton's."""


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


Optimizer = Literal["adamw", "sgd", "rmsprop"]
Schedule = Literal["cosine", "constant", "onecycle", "step", "exponential"]
Crop = Literal["padded", "resized"]
Policy = Literal["none", "trivial", "rand"]
Precision = Literal["auto", "float32", "bfloat16"]
Freeze = Literal["none", "bn", "backbone"]
Balance = Literal["none", "weights", "sampling"]
MemoryFormat = Literal["auto", "contiguous", "channels_last"]


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults are the articles' recipe (`article.toml`)."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    epochs: int = 100
    """Passes over the training images."""
    batch_size: int = 128
    """Images a step; a last incomplete batch of an epoch is left out, other images filling it in the next."""
    optimizer: Optimizer = "adamw"
    """adamw; sgd with Nesterov momentum; or rmsprop in TensorFlow's form, the papers'."""
    learning_rate: float = 1e-3
    """Peak learning rate."""
    momentum: float | None = None
    """Decay of the average of gradients, adamw's beta1; default: 0.9."""
    alpha: float | None = None
    """Decay of the average of squared gradients; default: 0.9 in rmsprop, 0.999 in adamw (its beta2)."""
    epsilon: float | None = None
    """Added to the denominator; default: 1e-8 in adamw, 1e-3 within the root in rmsprop."""
    schedule: Schedule = "cosine"
    """From the peak on: cosine, constant, step and exponential decay; onecycle rises and falls by cosine."""
    warmup_epochs: float = 0.0
    """Epochs of rise to the peak, at most half of the run: linear before the schedule; onecycle's default: 30 %."""
    final_rate: float | None = None
    """Of cosine: the share of the peak it ends at; default: 0."""
    gamma: float | None = None
    """Of step and exponential: what the rate is multiplied by every decay_epochs; default: 0.98."""
    decay_epochs: float | None = None
    """Of step (all at once) and exponential (bit by bit): in how many epochs; default: 1."""
    weight_decay: float = 1e-4
    """Of adamw decoupled from the gradient, of sgd and rmsprop a part of it."""
    decay_norm_and_bias: bool = True
    """Whether batch norm and biases decay too (the articles let them)."""
    decay_depthwise: bool = True
    """Whether depthwise filters decay too; V1's paper advises against it."""
    label_smoothing: float = 0.0
    """Share of the target spread evenly over all classes."""
    temperature: float | None = None
    """Of distillation, with a teacher only: both networks' logits are divided by it; default: 4."""
    distill_weight: float | None = None
    """Of distillation, with a teacher only: the teacher's share of the loss; default: 0.9."""
    clip_grad_norm: float | None = None
    """Largest gradient norm; larger ones are scaled down."""
    ema_decay: float | None = None
    """Decay of a moving average of the weights, which then is the result; 0.999 is usual."""
    flip: bool = True
    """Flip half of the training images left to right."""
    crop: Crop = "padded"
    """padded by crop_padding; or resized from a part of the image by crop_scale, as the papers do on large photos."""
    crop_padding: int = 4
    """Of padded: pad training images by so many pixels and crop back at a random place; 0 leaves them."""
    reduced_decoding: bool = True
    """Decode large JPEGs for training at a reduced scale, where twice the input's pixels are left each way."""
    crop_scale: float | None = None
    """Of resized: the smallest share of the image's area to crop; default: 0.08."""
    crop_ratio: float | None = None
    """Of resized: the widest crop's width by its height, and the highest's inverse; default: 4/3."""
    jitter_brightness: float = 0.0
    """Change the brightness by up to this share."""
    jitter_saturation: float = 0.0
    """Change the saturation by up to this share."""
    augment: Policy = "none"
    """trivial changes every image in one way by TrivialAugment; rand in several by RandAugment."""
    rand_ops: int | None = None
    """Of rand: how many changes; default: 2."""
    rand_magnitude: int | None = None
    """Of rand: how large they are, of 10; default: 9."""
    rand_probability: float | None = None
    """Of rand: how likely each of them is made; default: always."""
    erasing: float = 0.0
    """How likely a rectangle of the image is erased (2 to 33 % of its area)."""
    mixup_alpha: float | None = None
    """Blend pairs of images and their labels, in shares from a beta distribution of this parameter."""
    cutmix_alpha: float | None = None
    """Paste a part of one image of a pair into the other, likewise; with mixup_alpha, each pair gets one of the two."""
    mix_probability: float | None = None
    """How likely a pair is mixed at all; default: always."""
    progressive_start: float | None = None
    """Train on smaller images at first, of this share of their size, growing evenly."""
    progressive_end: float | None = None
    """The share of the run after which they have their full size; default: 0.8."""
    flip_test: bool = False
    """Score each image together with its mirror image, at twice the cost; exported files don't."""
    sync_norm: bool = False
    """Batch norm over the images of all processes, where several train together."""
    validation_fraction: float = 0.1
    """Share of each class's training images held out as validation images; 0 trains on all."""
    seed: int = 0
    """Seed of weights, order, augmentation and dropout."""
    freeze: Freeze = "none"
    """With --weights: bn keeps batch norm as the weights have it; backbone all but the classifier."""
    backbone_rate: float = 1.0
    """Share of the learning rate that all but the classifier gets; 0.1 is usual from given weights."""
    balance: Balance = "none"
    """For classes of unequal size: weights in the loss, or sampling every class equally often."""
    precision: Precision = "auto"
    """auto measures on this machine which is faster."""
    memory_format: MemoryFormat = "auto"
    """auto measures on this machine which is faster."""

    def __post_init__(self) -> None:
        """Refuse values no training can have; the message names field and value."""
        check_fields(asdict(self))

    def to_toml(self) -> str:
        """The recipe as TOML; a field that is None is left out."""
        # JSON's notation of numbers, strings and booleans is TOML's too.
        return "".join(f"{key} = {json.dumps(value)}\n" for key, value in self.to_dict().items())

    def to_dict(self) -> dict[str, str | int | float | bool]:
        """Fields and values; a field that is None is left out."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def list_recipes() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(path.name.removesuffix(".toml") for path in _shipped().iterdir() if path.name.endswith(".toml"))


def load_recipe(recipe: str | Path, **changes: Any) -> Recipe:
    """A shipped recipe by name or one from a TOML file, with `changes` to its fields.

    Raises:
        RecipeError: no such recipe, not TOML, or a field or value a recipe can't have.
    """
    text, origin = _read(recipe)
    try:
        fields = parse_toml(text)
    except ValueError as error:
        raise RecipeError(f"recipe {origin} is not valid TOML: {error}") from error
    return _validated({**fields, **changes}, origin)


def _validated(fields: dict[str, Any], origin: str) -> Recipe:
    unknown = sorted(set(fields) - set(Recipe.__dataclass_fields__))
    if unknown:
        raise RecipeError(f"recipe {origin} has no field {unknown[0]}; {_suggestion(unknown[0])}")
    try:
        # By way of JSON: given a dictionary, strict mode would not build a dataclass from it.
        return TypeAdapter(Recipe).validate_json(json.dumps(fields))
    except TypeError as error:  # TOML has dates and times, JSON has not
        raise RecipeError(f"recipe {origin}: {error}; fields are numbers, words, true and false") from error
    except ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, RecipeError):
            raise RecipeError(f"{cause} (recipe {origin})") from error
        where = ".".join(str(part) for part in first["loc"][:1])
        raise RecipeError(f"recipe {origin}, field {where}: {first['msg']}, not {first['input']!r}") from error


def _suggestion(unknown: str) -> str:
    if unknown in RENAMED:
        return f"it is called {RENAMED[unknown]} now"
    known = list(Recipe.__dataclass_fields__)
    near = difflib.get_close_matches(unknown, known, n=1)
    return f"did you mean {near[0]}?" if near else f"fields are {', '.join(known)}"


def resolve_recipe(recipe: Recipe, *, has_teacher: bool) -> Recipe:
    """Complete temperature and weight of distillation where there is a teacher; refuse them where there is none.

    Raises:
        RecipeError: a field of distillation without a teacher, which would silently mean nothing.
    """
    if has_teacher:
        temperature = TEMPERATURE if recipe.temperature is None else recipe.temperature
        weight = DISTILL_WEIGHT if recipe.distill_weight is None else recipe.distill_weight
        return replace(recipe, temperature=temperature, distill_weight=weight)
    for name in ("temperature", "distill_weight"):
        if getattr(recipe, name) is not None:
            raise RecipeError(
                f"recipe field {name} is {getattr(recipe, name)}, but there is no teacher; give `teacher`"
            )
    return recipe


def resolve_head_recipe(recipe: Recipe, changed: Iterable[str], *, has_weights: bool, has_teacher: bool) -> Recipe:
    """The recipe of `head_only`: its own fields of the given one, the backbone frozen, one pass over the images.

    Args:
        recipe: the recipe asked for.
        changed: its fields that were changed.
        has_weights: whether there are weights to start from.
        has_teacher: whether there is a teacher.

    Raises:
        ModelError: no weights, or a teacher, which a head fitted to features can't ask.
        RecipeError: a field is set that means nothing to a head.
    """
    if not has_weights:
        raise ModelError("`head_only=True` trains a head on what a backbone has learnt: give its `weights`")
    if has_teacher:
        raise ModelError("`head_only=True` fits the head to the labels alone; leave out `teacher`, or `head_only=True`")
    idle = [name for name in changed if name not in HEAD_FIELDS]
    if idle:
        raise RecipeError(
            f"`head_only=True` has no {idle[0]}: of a recipe it takes {', '.join(HEAD_FIELDS)} alone; "
            "leave out one of the two"
        )
    used = {name: getattr(recipe, name) for name in HEAD_FIELDS}
    return Recipe(epochs=1, freeze="backbone", crop_padding=0, **used)


def check_freezing(recipe: Recipe, *, has_weights: bool) -> None:
    """Refuse to freeze layers that start with random weights.

    Raises:
        RecipeError: layers are to be frozen, and there are no weights.
    """
    if recipe.freeze != "none" and not has_weights:
        raise RecipeError(
            f"recipe field freeze is {recipe.freeze}, but the network starts fresh: there is nothing to keep; "
            "give `weights` where the verb has it, or freeze none"
        )


def _read(recipe: str | Path) -> tuple[str, str]:
    path = Path(recipe)
    if path.suffix == ".toml" or path.parent != Path():
        try:
            return read_text(path, most=MAX_TOML_BYTES), str(path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise RecipeError(f"recipe {path} can't be read: {reason}") from error
    if str(recipe) not in list_recipes():
        shipped = ", ".join(list_recipes())
        raise RecipeError(f"no recipe is named {recipe}; shipped are {shipped}, or give a .toml file")
    return _shipped().joinpath(f"{recipe}.toml").read_text(encoding="utf-8"), str(recipe)


def _shipped() -> Any:
    return resources.files("mobilenets").joinpath("recipes")
