"""The formats a network can be exported to, by name."""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from torch import nn

from mobilenets.arguments import check_threads
from mobilenets.artifact.container import DOCUMENT, check_suffix
from mobilenets.errors import MobilenetsError, RunError
from mobilenets.exporters.prepare import Exported
from mobilenets.files import check_writable
from mobilenets.preprocessing import Preprocessing


@dataclass(frozen=True)
class _Format:
    """A module of this package with its translator and its check of what has to be installed, and what it can write."""

    module: str
    translate: str
    require: str
    precisions: tuple[str, ...] = ("fp32", "fp16")


# By name, so that only what is asked for is imported.
_FORMATS = {
    "onnx": _Format("onnx", "to_onnx", "require_exporter"),
    "openvino": _Format("openvino", "to_openvino", "require_openvino"),
    "litert": _Format("litert.convert", "to_litert", "require_litert"),
    "executorch": _Format("executorch", "to_executorch", "require_executorch", ("fp32",)),
}
FORMATS = tuple(_FORMATS)


class Translate(Protocol):
    """What every translator does."""

    def __call__(self, model: nn.Module, preprocessing: Preprocessing, *, precision: str = "fp32") -> Exported:
        """Translate a network; raises ExportError when it can't be written."""
        ...


def translator(to: str, precision: str = "fp32") -> Translate:
    """The translator to a format, once everything it needs is there: before long work, not after.

    Raises:
        MobilenetsError: there is no such format, or not in this precision; the message lists what there is.
        MissingExtraError: a package it needs is not installed; the message names the extra.
    """
    if to not in _FORMATS:
        near = difflib.get_close_matches(to.lower(), FORMATS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}? " if near else ""
        raise MobilenetsError(f"there is no format {to!r}; {hint}Valid: {', '.join(FORMATS)}")
    chosen = _FORMATS[to]
    if precision not in chosen.precisions:
        more = "; 'mobilenets quantize' makes int8" if precision == "int8" else ""
        raise MobilenetsError(f"{to} is exported as {' or '.join(chosen.precisions)}, not {precision!r}{more}")
    module = importlib.import_module(f"mobilenets.exporters.{chosen.module}")
    getattr(module, chosen.require)()
    return cast(Translate, getattr(module, chosen.translate))


# Where an exported file is to stand and what as, looked at before anything long is begun.


@dataclass(frozen=True)
class Target:
    """Where to, and as what: the format, its precision, the place, and threads for the runtime."""

    to: str
    precision: str
    out: Path
    threads: int | None = None

    def check(self) -> Translate:
        """Refuse what can't be, before anything long is begun; returns the translator.

        Raises:
            MobilenetsError: there is no such format or precision, or an impossible number of threads.
            ArtifactError: the name of `out` is of another format.
            RunError: nothing can be written there, or something else than an artifact would be overwritten.
            MissingExtraError: the translator needs what is not installed.
        """
        check_threads(self.threads)
        translate = translator(self.to, self.precision)
        check_suffix(self.out, self.to)
        check_place(self.out, folder=self.to == "openvino")
        return translate


def check_place(out: Path, *, folder: bool) -> None:
    """Refuse a place without a name of its own, that can't be written, or where something else would be overwritten.

    Raises:
        RunError: the message says what is there.
    """
    if folder and out.name in ("", ".."):
        raise RunError(f"{out} is no name: OpenVINO's artifact is a folder of its own: give its name, e.g. model")
    check_writable(out, folder=folder)
    if out.is_dir() and any(out.iterdir()) and not (out / DOCUMENT).is_file():
        raise RunError(f"{out} holds other files, and OpenVINO's artifact is a folder of its own: choose a new one")
