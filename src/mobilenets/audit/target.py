"""What is to be audited: a module from anybody's code, a file, or one of our run folders."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from mobilenets.audit.graph.hooks import random_images
from mobilenets.audit.graph.sandbox import evaluation_copy, quiet
from mobilenets.errors import AuditError, first_line
from mobilenets.models.config import NetworkConfig
from mobilenets.models.saved import DESCRIPTION, load_network

# After 224: the sizes of small-image networks, then the papers' others, Inception's, and the size of digits.
_OTHER_SIZES = (32, 96, 128, 160, 192, 256, 299, 28)
_DEFAULT_SIZE = 224
_FORMS = "give package.module:Factory, path/file.py:Class, an .onnx or .tflite file, or a run folder"


class TargetKind(StrEnum):
    """What the network comes from."""

    MODULE = "module"
    ONNX = "onnx"
    TFLITE = "tflite"


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


def load_target(text: str, args: Mapping[str, Any] | None = None, image_size: int | None = None) -> Target:
    """Find and build what the user named.

    Args:
        text: `package.module:Factory` (the current directory's modules too), `path/file.py:Class`, an ONNX or
            TensorFlow Lite file, or a run folder. What stands behind the colon is a class, a function that returns
            a network, or a network.
        args: keyword arguments for the class or function.
        image_size: side of the images in pixels; None tries 224 and then other usual sizes.

    Raises:
        AuditError: it can't be found, loaded or built, or is no PyTorch module; the message says which and what to do.
        RunError: a run folder that is damaged.
    """
    path = Path(text)
    if path.is_dir() and not (path / DESCRIPTION).exists():
        raise AuditError(f"{text} is a folder without {DESCRIPTION}, so no run folder; {_FORMS}")
    if path.exists() and args:
        raise AuditError(f"--args are for a class or function; {text} is built already: leave them out")
    if path.is_dir():
        saved = load_network(path)
        config = saved.model.config
        shape = (1, config.in_channels, image_size or config.image_size, image_size or config.image_size)
        return Target(text, TargetKind.MODULE, module=saved.model, input_shape=shape, config=config)
    if path.is_file() and path.suffix != ".py":
        return Target(text, _file_kind(path), path=path)
    module = _built(text, _named_object(text), dict(args or {}))
    return replace(module_target(module, image_size), title=text)


def module_target(module: nn.Module, image_size: int | None = None) -> Target:
    """A network that is there already; `title` is its class.

    Raises:
        AuditError: it takes no images of that size, or of any usual size.
    """
    title = type(module).__name__
    shape, notes = _input_shape(title, module, image_size)
    return Target(title, TargetKind.MODULE, module=module, input_shape=shape, notes=notes)


def _file_kind(path: Path) -> TargetKind:
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise AuditError(f"{path} can't be read: {error.strerror or error}") from error
    # A FlatBuffers file has its four letters behind the root's offset.
    if path.suffix == ".tflite" or head[4:8] == b"TFL3":
        return TargetKind.TFLITE
    # A protobuf ModelProto opens with field 1, ir_version: a tag of 8 and a small number.
    if path.suffix == ".onnx" or (len(head) > 1 and head[0] == 8 and 3 <= head[1] < 32):
        return TargetKind.ONNX
    raise AuditError(f"{path} is neither an ONNX nor a TensorFlow Lite file; {_FORMS}")


def _named_object(text: str) -> Any:
    source, colon, name = text.rpartition(":")
    if not colon or not source or not name:
        missing = "name the class in it: " + text + ":Class" if text.endswith(".py") else _FORMS
        raise AuditError(f"{text} is no network and no file that is there; {missing}")
    module = _from_file(Path(source)) if source.endswith(".py") else _from_package(source)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, [entry for entry in vars(found) if not entry.startswith("_")], n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else "; name a class or function it has"
            raise AuditError(f"{source} has no {part}{hint}")
        found = getattr(found, part)
    return found


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise AuditError(f"{path} is not there: give the path of a Python file, then a colon and the class")
    # A private name: a user's `types.py` must not replace the standard library's.
    name = f"_mobilenets_audit_target_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    loader = spec.loader
    assert loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _on_path(path.resolve().parent):
        _run_user_code(str(path), lambda: loader.exec_module(module))
    return module


def _from_package(name: str) -> ModuleType:
    with _on_path(Path.cwd()):
        module = _run_user_code(name, lambda: importlib.import_module(name))
    assert isinstance(module, ModuleType)
    return module


@contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _run_user_code(where: str, action: Callable[[], Any]) -> Any:
    """Import something of the user's; whatever goes wrong in it is one line."""
    try:
        with quiet():
            return action()
    except SyntaxError as error:
        line = f"line {error.lineno} of {error.filename}" if error.filename else where
        raise AuditError(f"{where} is not Python: {error.msg} in {line}; mend it first") from error
    except ModuleNotFoundError as error:
        raise AuditError(f"{where} can't be imported: {first_line(error)}; install it or check the name") from error
    except SystemExit as error:
        raise AuditError(f"{where} ends the program when imported: guard it with if __name__ == '__main__'") from error
    except Exception as error:  # someone else's code may raise anything
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise AuditError(f"{where} can't be imported: {reason}; mend it first") from error


def _built(text: str, found: Any, args: dict[str, Any]) -> nn.Module:
    if isinstance(found, nn.Module):
        if args:
            raise AuditError(f"--args are for a class or function; {text} is built already: leave them out")
        return found
    if not callable(found):
        raise AuditError(f"{text} is a {type(found).__name__}, not a class or function that makes a network")
    _check_arguments(text, found, args)
    try:
        with quiet():
            network = found(**args)
    except SystemExit as error:
        raise AuditError(f"{text} ends the program instead of making a network; mend it first") from error
    except Exception as error:  # someone else's code may raise anything
        raise AuditError(
            f"{text} fails when called: {type(error).__name__}: {first_line(error)}; pass what it needs with --args"
        ) from error
    if not isinstance(network, nn.Module):
        raise AuditError(f"{text} makes a {type(network).__name__}, not a PyTorch module; name what makes the network")
    return network


def _check_arguments(text: str, factory: Callable[..., Any], args: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        # Written in C: calling it will tell.
        return
    try:
        signature.bind(**args)
    except TypeError as error:
        raise AuditError(f"{text}{signature} can't take these arguments: {error}; pass them as --args JSON") from error


def _input_shape(
    text: str, module: nn.Module, image_size: int | None
) -> tuple[tuple[int, int, int, int], tuple[str, ...]]:
    """A size the network takes: the user's, or the first of the usual ones; said when it is not 224."""
    network = evaluation_copy(module)
    channels = _in_channels(network)
    size = image_size or _DEFAULT_SIZE
    reason = _failure(network, channels, size)
    if reason is None:
        return (1, channels, size, size), ()
    if image_size is not None:
        raise AuditError(f"{text} fails on images of {size} x {size}: {reason}; choose another --image-size")
    for other in _OTHER_SIZES:
        if _failure(network, channels, other) is None:
            return (1, channels, other, other), (f"it fails on images of 224 x 224; audited at {other} x {other}",)
    raise AuditError(f"{text} fails on images of 224 x 224 and the other usual sizes: {reason}; set --image-size")


def _failure(network: nn.Module, channels: int, size: int) -> str | None:
    try:
        with quiet(), torch.no_grad():
            network(random_images((1, channels, size, size)))
    except Exception as error:  # noqa: BLE001  # someone else's code may raise anything
        return first_line(error)
    return None


def _in_channels(network: nn.Module) -> int:
    """Of the first filter in order of the parameters; 3 where it has none."""
    for weight in network.parameters():
        if weight.dim() == 4:
            return int(weight.shape[1]) if weight.shape[1] > 0 else 3
    return 3
