"""What is to be audited: a module from a user's code, a file, or one of our run folders."""

from __future__ import annotations

import importlib.util
import inspect
import json
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from torch import nn

from mobilenets.auditing.graph.nodes import Graph
from mobilenets.auditing.graph.sandbox import REFUSALS, evaluation_copy, quiet, switch_mode
from mobilenets.auditing.sizing import check_image_size, detector_backbone, input_shape, materialized
from mobilenets.auditing.user_code import ALLOW_RUNNING, FORMS, called_with, named_object
from mobilenets.errors import AuditError, first_line
from mobilenets.formatting import printable
from mobilenets.limits import open_regular
from mobilenets.models.config import NetworkConfig
from mobilenets.models.saved import load_network
from mobilenets.run_folder import DESCRIPTION, recommended_run

# What a file holds, by its first bytes and members: one the audit reads, or another, with what to do about it.
#
# Nothing is unpickled and no archive's code is run: of a pickle only the names of the classes it would call are read.


_HEAD = 64
_LARGEST_PICKLE = 8 * 2**20
"""Bytes of a pickle that are looked through; the weights lie beside it, so that a network's takes a few thousand."""
_LEGACY_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_PLUMBING = (
    "collections",
    "torch._utils",
    "torch.storage",
    "torch.serialization",
    "numpy",
    "_codecs",
    "builtins",
    "__builtin__",
)
"""Modules whose classes stand in any pickle of tensors."""
_FROM_CODE = "audit the code it was made from (path/file.py:Class), or an ONNX export of that"
_KERAS = "is a Keras file, which the audit does not read; convert it with tf.lite.TFLiteConverter"
_BY_SUFFIX = {
    ".pb": "is a TensorFlow graph, which the audit does not read; convert it to ONNX (tf2onnx) or TensorFlow Lite",
    ".mlmodel": f"is a Core ML model, which the audit does not read; {_FROM_CODE}",
    ".h5": _KERAS,
    ".keras": _KERAS,
    ".xml": f"is an OpenVINO model's description, which the audit does not read; {_FROM_CODE}",
    ".pte": f"is an ExecuTorch program, which the audit does not read; {_FROM_CODE}",
    ".ipynb": "is a notebook; move the class into a .py file and name it: path/file.py:Class",
}
_WEIGHTS = "holds weights alone, which don't say how they are wired; name the code: path/file.py:Class"


class TargetKind(StrEnum):
    """What a network comes from: code (or a run folder), or one of the files the audit reads."""

    MODULE = "module"
    ONNX = "onnx"
    TFLITE = "tflite"


def file_kind(path: Path, forms: str) -> TargetKind:
    """Which of the readable kinds a file is, by content first and by suffix where the content leaves it open.

    Args:
        path: the file.
        forms: what a target may be, for the message about a file that is nothing known.

    Raises:
        AuditError: it is of another kind, which the message names with what to do, or can't be read.
    """
    try:
        with open_regular(path) as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise AuditError(f"{printable(path)} can't be read: {error.strerror or error}") from error
    # A FlatBuffers file has its four letters behind the root's offset.
    if head[4:8] == b"TFL3":
        return TargetKind.TFLITE
    other = _other_kind(path, head)
    if other:
        raise AuditError(f"{printable(path)} {other}")
    # A protobuf ModelProto opens with field 1, ir_version: a tag of 8 and a small number.
    if path.suffix == ".onnx" or (len(head) > 1 and head[0] == 8 and 3 <= head[1] < 32):
        return TargetKind.ONNX
    if path.suffix == ".tflite":
        return TargetKind.TFLITE
    if not head:
        raise AuditError(f"{printable(path)} is empty")
    if path.suffix in (".pt", ".pth", ".ckpt", ".pkl", ".safetensors"):
        raise AuditError(f"{printable(path)} {_WEIGHTS}")
    raise AuditError(f"{printable(path)} is neither an ONNX nor a TensorFlow Lite file; {forms}")


def folder_kind(path: Path) -> str:
    """What a folder that is no run folder is, with what to do; empty where it is nothing known."""
    if (path / "saved_model.pb").exists():
        return "is a TensorFlow SavedModel, which the audit does not read; convert it with tf.lite.TFLiteConverter"
    if (path / "Manifest.json").exists() or path.suffix == ".mlpackage":
        return f"is a Core ML package, which the audit does not read; {_FROM_CODE}"
    if (path / "config.json").exists() and any(path.glob("*.safetensors")):
        return f"holds a model hub's weights and settings, but not the code; {_FROM_CODE}"
    return ""


def _other_kind(path: Path, head: bytes) -> str:
    """What a file is that the audit does not read; empty where its content tells nothing."""
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return _BY_SUFFIX[".h5"]
    if head.startswith(b"PK\x03\x04"):
        return _archive(path)
    if head.startswith(_LEGACY_TORCH):
        # Behind the magic number and the protocol's come three pickles more; the third is the object.
        return _pickle(path, skip=3)
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        return _pickle(path, skip=0)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32:
        return _WEIGHTS
    if head[4:6] == b"ET" and head[6:8].isdigit():
        return _BY_SUFFIX[".pte"]
    if head[:3] == b"\x08\x01\x12":
        return _BY_SUFFIX[".pb"]
    if head[:1] == b"\x08" and head[2:3] == b"\x12" and head[4:5] == b"\x0a":
        # ONNX has its producer's name there, Core ML a description of the inputs.
        return _BY_SUFFIX[".mlmodel"]
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!")):
        return "is a packed archive; unpack it and audit what is in it"
    return _BY_SUFFIX.get(path.suffix, "")


def _archive(path: Path) -> str:
    """What a zip archive is, by its members."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            ends = {name.partition("/")[2] for name in names} | set(names)
            if any(end.startswith("code/") for end in ends) or "bytecode.pkl" in ends:
                return f"is a TorchScript archive, whose code would have to be run to read it; {_FROM_CODE}"
            if "serialized_exported_program.json" in ends or "archive_format" in ends:
                return f"is a program of torch.export (.pt2), which the audit does not read; {_FROM_CODE}"
            if "metadata.json" in ends and any(end.endswith(".weights.h5") for end in ends):
                return _BY_SUFFIX[".keras"]
            pickled = next((info for info in archive.infolist() if info.filename.endswith("data.pkl")), None)
            if pickled is not None and pickled.file_size <= _LARGEST_PICKLE:
                return _described(_classes(archive.read(pickled)))
            if any(name.endswith(".npy") for name in names):
                return _WEIGHTS
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError):
        return "is a damaged archive: cut short, or not downloaded whole"
    return "is an archive without a network; unpack it and audit what is in it"


def _pickle(path: Path, skip: int) -> str:
    with path.open("rb") as file:
        data = file.read(_LARGEST_PICKLE)
    return _described(_classes(data, skip))


def _classes(data: bytes, skip: int = 0) -> list[str]:
    """Dotted names of the classes a pickle would call, in order, those of tensors left out; nothing is called."""
    found: list[str] = []
    texts: list[str] = []
    with suppress(ValueError, IndexError, UnicodeDecodeError):  # cut short or damaged: what came before tells the kind
        for opcode, argument, position in pickletools.genops(data):
            if opcode.name == "GLOBAL":
                found.append(str(argument).replace(" ", "."))
            elif opcode.name == "STACK_GLOBAL" and len(texts) > 1:
                found.append(".".join(texts[-2:]))
            elif "UNICODE" in opcode.name:
                texts.append(str(argument))
            elif opcode.name == "STOP" and skip:
                return _classes(data[(position or 0) + 1 :], skip - 1)
    return [name for name in found if not name.startswith(_PLUMBING) and not _is_tensor_type(name)]


def _is_tensor_type(name: str) -> bool:
    """`torch.FloatStorage`, `torch.float32`, `torch.Size`: of PyTorch itself, and no class of a network."""
    return name.startswith("torch.") and name.count(".") == 1


def _described(classes: list[str]) -> str:
    """A saved module by its class; weights alone where there is none."""
    parts = [name for name in classes if name.startswith(("torch.nn.modules", "torch.fx", "torch.ao"))]
    if not parts:
        return _WEIGHTS
    named = next((name for name in classes if name not in parts), "")
    package, _, owner = named.rpartition(".")
    example = f"{package}:{owner}" if package and package != "__main__" else "path/file.py:Class"
    what = f" ({json.dumps(named)})" if named else ""
    return (
        f"is a whole module saved with torch.save{what}, and unpickling it would run whatever it says; "
        f"audit its code: {example}"
    )


def names_code(text: str) -> bool:
    """Whether a target names an object behind a colon, in a file that is there or a package: auditing it runs that."""
    source, _, name = text.rpartition(":")
    if not source or not name or Path(text).exists():
        return False
    return Path(source).is_file() if source.endswith(".py") else True


def will_run(text: str) -> bool:
    """Whether a target's code is there to be run, and not only named; nothing is imported to tell."""
    if not names_code(text):
        return False
    source = text.rpartition(":")[0]
    package = source.partition(".")[0]
    here = Path(package).is_dir() or Path(f"{package}.py").is_file()
    return source.endswith(".py") or here or (package.isidentifier() and importlib.util.find_spec(package) is not None)


@dataclass(frozen=True)
class AuditTarget:
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
) -> AuditTarget:
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
        return AuditTarget(text, TargetKind.MODULE, module=saved.model, input_shape=shape, config=config)
    if is_file and path.suffix != ".py":
        return AuditTarget(text, file_kind(path, FORMS), path=path)
    if not run and names_code(text):
        raise AuditError(f"{printable(text)} is code, and auditing it would run it: {ALLOW_RUNNING}")
    with quiet(), called_with(text):
        module = _built(text, named_object(text), dict(args or {}))
    return replace(module_target(module, image_size), title=text)


def file_graph(path: Path, kind: TargetKind, image_size: int | None) -> Graph:
    """Read an ONNX or TensorFlow Lite file as a graph.

    Args:
        path: the file.
        kind: which of the two it is.
        image_size: side of the images in pixels; None is the file's own, or 224 where it takes any.

    Raises:
        AuditError: it can't be read, or takes images of another size only.
        WeightsError: a TensorFlow Lite file is damaged.
        MissingExtraError: reading such a file needs a package that is not installed.
    """
    # Each reader is loaded with its own dependency.
    if kind is TargetKind.TFLITE:
        from mobilenets.auditing.graph.tflite import tflite_graph

        graph = tflite_graph(path)
    else:
        from mobilenets.auditing.graph.onnx import onnx_graph

        graph = onnx_graph(path, image_size)
    own = graph.input_shape[2]
    if image_size is not None and image_size != own:
        raise AuditError(f"{path} takes images of {own} pixels only: leave `image_size={image_size}` out")
    return graph


def module_target(module: nn.Module, image_size: int | None = None) -> AuditTarget:
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
    return AuditTarget(title, TargetKind.MODULE, module=module, input_shape=shape, notes=notes)


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
        raise AuditError(f"{text} ends the program instead of making a network; fix it first") from error
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
