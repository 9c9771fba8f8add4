"""Networks by name: `create_model`, `list_models`, and `register` for your own."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Sequence

from mobilenets.errors import ModelError
from mobilenets.models.config import OptionValue
from mobilenets.models.mobilenet_v1 import mobilenet_v1
from mobilenets.models.mobilenet_v2 import mobilenet_v2
from mobilenets.models.mobilenet_v3 import (
    mobilenet_v3_large,
    mobilenet_v3_large_minimalistic,
    mobilenet_v3_small,
    mobilenet_v3_small_minimalistic,
)
from mobilenets.models.network import MobileNet

Builder = Callable[..., MobileNet]
"""Called with keywords only: the five of `COMMON_ARGUMENTS` and the network's own options, all with defaults."""

COMMON_ARGUMENTS = ("num_classes", "width_mult", "image_size", "dropout", "in_channels")

_BUILDERS: dict[str, Builder] = {}


def register(name: str, builder: Builder) -> None:
    """Make `create_model(name, ...)` call `builder`.

    The builder's signature is the truth about its arguments: the common five and its own options, each with a default.

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


def create_model(
    name: str,
    *,
    num_classes: int = 1000,
    width_mult: float = 1.0,
    image_size: int = 224,
    dropout: float | None = None,
    in_channels: int = 3,
    **options: OptionValue,
) -> MobileNet:
    """Build a network with fresh weights, in training mode.

    Args:
        name: one of `list_models()`.
        num_classes: outputs of the classifier, at least 1.
        width_mult: factor on every layer's channels, above 0.
        image_size: side in pixels of the images it is for, at least 8; below 65 early strides become 1.
        dropout: rate before the classifier, in [0, 1); None takes the rate of the paper's code.
        in_channels: channels of the images.
        **options: what only this network has: `activation` of `mobilenet_v1`, `relu` or `relu6`.

    Returns:
        The network; `model.config.to_dict()` are arguments that build its twin.

    Raises:
        ModelError: an unknown name or argument, or a value that is not valid; the message lists what is.
    """
    builder = _find(name)
    valid = list(inspect.signature(builder).parameters)
    for option in options:
        if option not in valid:
            raise ModelError(f"{name} has no argument {_unknown(option, valid)}")
    given: dict[str, OptionValue] = {} if dropout is None else {"dropout": dropout}
    return builder(
        num_classes=num_classes,
        width_mult=width_mult,
        image_size=image_size,
        in_channels=in_channels,
        **given,
        **options,
    )


def _find(name: str) -> Builder:
    builder = _BUILDERS.get(name) if isinstance(name, str) else None
    if builder is None:
        raise ModelError(f"there is no network {_unknown(name, list_models())}")
    return builder


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
