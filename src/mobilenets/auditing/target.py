"""What is to be audited: a module from anybody's code, a file, or one of our run folders."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from mobilenets.auditing.file_kind import TargetKind, file_kind, folder_kind
from mobilenets.auditing.graph.sandbox import REFUSALS, evaluation_copy, quiet, switch_mode
from mobilenets.auditing.sizing import check_image_size, detector_backbone, input_shape, materialized
from mobilenets.auditing.user_code import ALLOW_RUNNING, FORMS, called_with, named_object, names_code
from mobilenets.comparison_folder import recommended_run
from mobilenets.errors import AuditError, first_line
from mobilenets.models.config import NetworkConfig
from mobilenets.models.saved import DESCRIPTION, load_network
from mobilenets.quoting import printable


@dataclass(frozen=True)
class Target:
    """A network to audit.

    Attributes:
        title: for people, as the user named it.
        kind: which front end reads it.
        module: the network, for `TargetKind.MODULE`.
        path: the file, for the others.
        input_shape: `[1, C, H, W]` it works with; None for a file, which has its own.
        config: what our own run folder says it is.
        notes: what the user should know of the choice, a sentence each.
    """

    title: str
    kind: TargetKind
    module: nn.Module | None = field(default=None, repr=False)
    path: Path | None = None
    input_shape: tuple[int, int, int, int] | None = None
    config: NetworkConfig | None = None
    notes: tuple[str, ...] = ()


def load_target(
    text: str, args: Mapping[str, Any] | None = None, image_size: int | None = None, *, run: bool = True
) -> Target:
    """Find and build what the user named.

    Args:
        text: `package.module:Factory` (the current directory's modules too), `path/file.py:Class`, an ONNX or
            TensorFlow Lite file, a run folder, or a comparison's for the network it recommends. What
            stands behind the colon is a class, a function that returns a network, or a network.
        args: keyword arguments for the class or function.
        image_size: side of the images in pixels; None tries 224 and then other usual sizes.
        run: whether someone's code may be run; False takes files and run folders only.

    Raises:
        AuditError: it can't be found, loaded or built, or is no PyTorch module; the message says which and what to do.
        RunError: a run folder that is damaged.
    """
    if not text.strip():
        raise AuditError(f"no target is named: {FORMS}")
    try:
        path = recommended_run(text) or Path(text)
        is_there, is_folder, is_file = path.exists(), path.is_dir(), path.is_file()
    except OSError as error:
        raise AuditError(f"{printable(text)} can't be looked for: {error.strerror or error}") from error
    if is_there and not is_folder and not is_file:
        raise AuditError(f"{printable(text)} is no regular file; {FORMS}")
    if is_folder and not (path / DESCRIPTION).exists():
        kind = folder_kind(path) or f"is a folder without {DESCRIPTION}, so no run folder; {FORMS}"
        raise AuditError(f"{printable(text)} {kind}")
    if is_there and args:
        raise AuditError(f"`args` are for a class or function; {text} is built already: leave them out")
    if is_folder:
        saved = load_network(path)
        config = saved.model.config
        shape = (1, config.in_channels, image_size or config.image_size, image_size or config.image_size)
        return Target(text, TargetKind.MODULE, module=saved.model, input_shape=shape, config=config)
    if is_file and path.suffix != ".py":
        return Target(text, file_kind(path, FORMS), path=path)
    if not run and names_code(text):
        raise AuditError(f"{printable(text)} is code, and auditing it would run it: {ALLOW_RUNNING}")
    with quiet(), called_with(text):
        module = _built(text, named_object(text), dict(args or {}))
    return replace(module_target(module, image_size), title=text)


def module_target(module: nn.Module, image_size: int | None = None) -> Target:
    """A network that is there already; `title` is its class.

    Raises:
        AuditError: it takes no images of that size, or of any usual size.
    """
    title = type(module).__name__
    if image_size is not None:
        check_image_size(image_size)
    notes: tuple[str, ...] = ()
    with quiet():
        module = materialized(module)
        detector = detector_backbone(module)
        if detector is not None:
            part, module = detector
            notes = (f"it answers with records of boxes: a detector, of which the part {part} was audited",)
        shape, more = input_shape(title, module, image_size)
        notes = (*notes, *more, *_mode_notes(module))
    return Target(title, TargetKind.MODULE, module=module, input_shape=shape, notes=notes)


def _mode_notes(module: nn.Module) -> tuple[str, ...]:
    """What is odd in how the module is put into evaluation mode, and what its weights are."""
    failure = switch_mode(evaluation_copy(module), training=False)
    notes = (
        [] if failure is None else [f"its own train() or eval() fails ({failure}); every layer's mode was set instead"]
    )
    if any(weight.is_meta for weight in module.parameters()):
        notes.append("its weights are on the meta device, without values: it was audited with noise in their place")
    return tuple(notes)


def _built(text: str, found: Any, args: dict[str, Any]) -> nn.Module:
    if isinstance(found, nn.Module):
        if args:
            raise AuditError(f"`args` are for a class or function; {text} is built already: leave them out")
        return found
    if not callable(found):
        raise AuditError(f"{text} is a {type(found).__name__}, not a class or function that makes a network")
    _check_arguments(text, found, args)
    try:
        network = found(**args)
    except SystemExit as error:
        raise AuditError(f"{text} ends the program instead of making a network; mend it first") from error
    except ModuleNotFoundError as error:
        raise AuditError(f"{text} fails when called: {first_line(error)}; install it") from error
    except REFUSALS as error:
        raise AuditError(
            f"{text} fails when called: {type(error).__name__}: {first_line(error)}; pass what it needs with `args`"
        ) from error
    if not isinstance(network, nn.Module):
        raise AuditError(f"{text} makes a {type(network).__name__}, not a PyTorch module; name what makes the network")
    return network


def _check_arguments(text: str, factory: Callable[..., Any], args: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(factory)
    except REFUSALS:
        # Written in C, or with a signature of its own making: calling it will tell.
        return
    try:
        signature.bind(**args)
    except TypeError as error:
        taken = " ".join(str(signature).split())
        raise AuditError(f"{text}{taken} can't take these arguments: {error}; pass them as `args`") from error
