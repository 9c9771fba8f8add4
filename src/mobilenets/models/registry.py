"""Networks by name: `create_model`, `list_models`, and `register` for your own."""

from __future__ import annotations

import difflib
import inspect
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, overload

from mobilenets.errors import ModelError
from mobilenets.models.config import OptionValue
from mobilenets.models.features import MobileNetFeatures
from mobilenets.models.mobilenet_v1 import mobilenet_v1
from mobilenets.models.mobilenet_v2 import mobilenet_v2
from mobilenets.models.mobilenet_v3 import (
    mobilenet_v3_large,
    mobilenet_v3_large_minimalistic,
    mobilenet_v3_small,
    mobilenet_v3_small_minimalistic,
)
from mobilenets.models.mobilenet_v4 import (
    mobilenet_v4_conv_large,
    mobilenet_v4_conv_medium,
    mobilenet_v4_conv_small,
    mobilenet_v4_hybrid_large,
    mobilenet_v4_hybrid_medium,
)
from mobilenets.models.network import MobileNet
from mobilenets.models.weights.fit import LoadedWeights

logger = logging.getLogger(__name__)

Builder = Callable[..., MobileNet]
"""Called with keywords only: the five of `COMMON_ARGUMENTS` and the network's own options, all with defaults."""

COMMON_ARGUMENTS = ("num_classes", "width_mult", "image_size", "dropout", "in_channels")

_BUILDERS: dict[str, Builder] = {}
# What timm puts around a network's name: `tf_` in front, the width in hundredths and a tag of the weights behind.
_TIMM = re.compile(r"^tf_|(?<=[a-z])_\d{3}$|\..*$")


def register(name: str, builder: Builder) -> None:
    """Make `create_model(name, ...)` call `builder`.

    The builder's signature says which arguments there are: the common five and its own options, each with a default.

    Raises:
        ModelError: the name is taken, or the builder lacks one of the common arguments or a default.
    """
    if name in _BUILDERS:
        raise ModelError(f"a network named {name!r} is registered already: choose another name")
    parameters = inspect.signature(builder).parameters
    missing = [argument for argument in COMMON_ARGUMENTS if argument not in parameters]
    if missing:
        raise ModelError(f"the builder of {name!r} must accept {', '.join(missing)}")
    bare = [argument for argument, parameter in parameters.items() if parameter.default is inspect.Parameter.empty]
    if bare:
        raise ModelError(f"the builder of {name!r} must give {', '.join(bare)} a default")
    _BUILDERS[name] = builder


def list_models() -> list[str]:
    """The registered names, sorted."""
    return sorted(_BUILDERS)


def default_options(name: str) -> dict[str, OptionValue]:
    """A network's own options and their defaults: what a record from before an option existed means.

    Raises:
        ModelError: there is no such network.
    """
    parameters = inspect.signature(_find(name)).parameters
    return {option: row.default for option, row in parameters.items() if option not in COMMON_ARGUMENTS}


@overload
def create_model(
    name: str,
    *,
    num_classes: int = 1000,
    width_mult: float = 1.0,
    image_size: int = 224,
    dropout: float | None = None,
    in_channels: int = 3,
    weights: str | Path | None = None,
    features_only: Literal[False] = False,
    out_indices: None = None,
    **options: OptionValue,
) -> MobileNet: ...
@overload
def create_model(
    name: str,
    *,
    num_classes: int = 1000,
    width_mult: float = 1.0,
    image_size: int = 224,
    dropout: float | None = None,
    in_channels: int = 3,
    weights: str | Path | None = None,
    features_only: Literal[True],
    out_indices: Sequence[int] | None = None,
    **options: OptionValue,
) -> MobileNetFeatures: ...
def create_model(
    name: str,
    *,
    num_classes: int = 1000,
    width_mult: float = 1.0,
    image_size: int = 224,
    dropout: float | None = None,
    in_channels: int = 3,
    weights: str | Path | None = None,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    **options: OptionValue,
) -> MobileNet | MobileNetFeatures:
    """Build a network with fresh or given weights, in training mode.

    Args:
        name: one of `list_models()`.
        num_classes: outputs of the classifier; 0 for a network without one, which returns `[B, head_hidden_size]`.
        width_mult: factor on every layer's channels, above 0.
        image_size: side in pixels of the images it is for, at least 8; below 65 early strides become 1.
        dropout: rate before the classifier, in [0, 1); None takes the rate of the paper's code.
        in_channels: channels of the images.
        weights: None for fresh ones; `imagenet` for the published file of this network and width, downloaded once; or
            the path of a file: torchvision's `.pth`, timm's `.safetensors` or `.pth`, a TensorFlow Lite file, or a run
            folder. The options these weights were made with (padding, eps, ...) become the defaults. What is done to
            make them fit, such as leaving the classifier fresh where `num_classes` differs, is logged as a warning.
        features_only: return a `MobileNetFeatures` for detection or segmentation instead: its forward gives a list of
            feature maps, and its `feature_info` their channels and strides. `num_classes` then means nothing.
        out_indices: which of these maps, e.g. `(2, 3, 4)` for strides 8, 16 and 32; None for all.
        **options: the network's own: `padding` (`symmetric`, or `same` as TensorFlow's) and `norm_eps` of all;
            `activation` of `mobilenet_v1` (`relu` or `relu6`); `fixed_stem` of V3 (the stem keeps its full width).

    Returns:
        The network; `create_model(**model.config.to_dict())` builds it again.

    Raises:
        ModelError: an unknown name or argument, or a value that is not valid; the message lists what is.
        WeightsError: the weights can't be downloaded or read, or are of another network; the message names what does
            not fit.
    """
    if not features_only and out_indices is not None:
        raise ModelError("out_indices chooses feature maps: give features_only=True with it")
    arguments: dict[str, OptionValue] = {
        "num_classes": 0 if features_only else num_classes,
        "width_mult": width_mult,
        "image_size": image_size,
        "in_channels": in_channels,
    }
    if dropout is not None:
        arguments["dropout"] = dropout
    if weights is None:
        model = _checked_builder(name, options)(**arguments, **options)
    else:
        model, report = create_from_weights(name, weights, {**arguments, **options})
        for note in report.notes:
            logger.warning("%s: %s", report.path.name, note)
    return _features(model, out_indices) if features_only else model


def _features(model: MobileNet, out_indices: Sequence[int] | None) -> MobileNetFeatures:
    """The network up to its last selected feature map; the modules are shared, not copied."""
    return MobileNetFeatures(
        stem=model.stem,
        blocks=list(model.blocks),
        head=model.feature_head(),
        out_indices=out_indices,
        config=model.config,
    )


def create_from_weights(
    name: str, weights: str | Path, arguments: Mapping[str, OptionValue]
) -> tuple[MobileNet, LoadedWeights]:
    """Build a network with given weights, and report on them: `create_model` for those who show the notes themselves.

    Args:
        name: one of `list_models()`.
        weights: as `create_model` takes them.
        arguments: the other arguments of `create_model`; what is left out is the network's default.

    Raises:
        ModelError, WeightsError: as `create_model`.
    """
    # Here, because this module is imported by everything, and reading weights needs much that building does not.
    from mobilenets.models.weights.load import Request, load_weights

    common = {"num_classes": 1000, "width_mult": 1.0, "image_size": 224, "in_channels": 3}
    given = {key: value for key, value in arguments.items() if key in COMMON_ARGUMENTS}
    options = {key: value for key, value in arguments.items() if key not in COMMON_ARGUMENTS}
    _checked_builder(name, options)
    return load_weights(weights, Request(name, {**common, **given}, options), _BUILDERS)


def _checked_builder(name: str, options: Mapping[str, OptionValue]) -> Builder:
    """The network's builder, which has all these options."""
    builder = _find(name)
    valid = list(inspect.signature(builder).parameters)
    for option in options:
        if option not in valid:
            raise ModelError(f"{name} has no argument {_unknown(option, valid)}")
    return builder


def _find(name: str) -> Builder:
    builder = _BUILDERS.get(name) if isinstance(name, str) else None
    if builder is None:
        valid = list_models()
        meant = [] if not isinstance(name, str) else meant_names(name, valid)
        hint = f"; did you mean {', '.join(meant)}?" if meant else "."
        raise ModelError(f"there is no network {name!r}{hint} Valid: {', '.join(valid)}")
    return builder


def meant_names(name: str, valid: Sequence[str]) -> list[str]:
    """The registered names a user may mean: those that begin with it, in any spelling, else the closest one.

    `mobilenetv3`, `MobileNet-V3` and `v3` mean the networks of V3; timm's `tf_mobilenetv3_small_100` is one of them
    with a prefix and a width. A name that only lengthens another one is left out: `mobilenet_v3_small_minimalistic`.
    """
    word = _letters(_TIMM.sub("", name.lower()))
    if not word:
        return []
    plain = {full: _letters(full) for full in valid}
    found = [full for full, letters in plain.items() if word in (letters, letters.removeprefix("mobilenet"))]
    found = found or [
        full
        for full, letters in plain.items()
        if letters.startswith(word) or letters.removeprefix("mobilenet").startswith(word)
    ]
    if found:
        return [one for one in found if not any(one != other and one.startswith(f"{other}_") for other in found)]
    letters = difflib.get_close_matches(word, plain.values(), n=1)
    return [full for full in plain if plain[full] in letters]


def _letters(name: str) -> str:
    return "".join(letter for letter in name if letter.isalnum())


def _unknown(word: object, valid: Sequence[str]) -> str:
    """`'mobilnet_v2'; did you mean mobilenet_v2? Valid: ...`, the end of a message about a wrong word."""
    close = difflib.get_close_matches(word, valid, n=1) if isinstance(word, str) else []
    hint = f"; did you mean {close[0]}?" if close else "."
    return f"{word!r}{hint} Valid: {', '.join(valid)}"


register("mobilenet_v1", mobilenet_v1)
register("mobilenet_v2", mobilenet_v2)
register("mobilenet_v3_large", mobilenet_v3_large)
register("mobilenet_v3_small", mobilenet_v3_small)
register("mobilenet_v3_large_minimalistic", mobilenet_v3_large_minimalistic)
register("mobilenet_v3_small_minimalistic", mobilenet_v3_small_minimalistic)
register("mobilenet_v4_conv_small", mobilenet_v4_conv_small)
register("mobilenet_v4_conv_medium", mobilenet_v4_conv_medium)
register("mobilenet_v4_conv_large", mobilenet_v4_conv_large)
register("mobilenet_v4_hybrid_medium", mobilenet_v4_hybrid_medium)
register("mobilenet_v4_hybrid_large", mobilenet_v4_hybrid_large)
