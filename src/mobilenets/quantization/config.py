"""What `quantize` is asked for, checked before anything long begins, and the ladder of each format.

Only the modules of the format asked for are imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

from mobilenets.arguments import check_threads
from mobilenets.artifact.container import SUFFIXES, check_suffix
from mobilenets.data.datasets import Dataset
from mobilenets.errors import MobilenetsError
from mobilenets.exporters.prepare import Exported
from mobilenets.exporters.subject import Subject, check_place, translator
from mobilenets.models.network import MobileNet
from mobilenets.models.saved import SavedNetwork
from mobilenets.progress import Progress, Silent
from mobilenets.quantization.search import CALIBRATION_IMAGES, CalibrationImages, Ladder

_PACKAGES = {"onnx": "nncf", "litert": "ai-edge-quantizer"}


def require_quantizer(kind: str) -> None:
    """Raise MissingExtraError where the format's quantizer is not installed: before images are read, not after."""
    if kind == "onnx":
        from mobilenets.exporters.onnx import require_exporter
        from mobilenets.quantization.onnx import require_nncf

        require_exporter()
        require_nncf()
    else:
        from mobilenets.quantization.litert import require_quantizer as require_litert

        require_litert()


def quantizer_version(kind: str) -> str:
    """Name and version of the format's quantizer, for provenance."""
    package = _PACKAGES[kind]
    return f"{package} {version(package)}"


def make_ladder(
    kind: str,
    subject: Subject,
    dataset: Dataset,
    float_exported: Exported,
    calibration: CalibrationImages,
    *,
    finetune: bool,
    tensorrt: bool,
    runtime: str,
    skip_bad: bool,
    seed: int,
    progress: Progress,
) -> Ladder[Any]:
    """The ladder of a format.

    Args:
        kind: `onnx` or `litert`.
        subject: the network.
        dataset: whose training split fine-tuning uses.
        float_exported: the network's float file of this kind. LiteRT's ladder makes one of its own, in which h-swish is
            split into what its integer kernels have.
        calibration: images to find ranges on.
        finetune: whether fine-tuning is the last rung; the network has to be one of ours then.
        tensorrt: only ways TensorRT takes; `onnx` only.
        runtime: whose integer kernels an ONNX file is written for, `onnxruntime` or `openvino`.
        skip_bad: leave unreadable training images out.
        seed: of fine-tuning.
        progress: told of progress.
    """
    tune = _tuner(kind, subject, dataset, skip_bad, seed, progress) if finetune else None
    if kind == "litert":
        from mobilenets.quantization.litert import litert_ladder

        splittable = _to_quantize(kind, subject.model, subject)
        return litert_ladder(splittable, calibration, tune=tune, progress=progress.update)
    import onnx

    from mobilenets.exporters.onnx import MODEL
    from mobilenets.quantization.onnx import OnnxLadder

    file = onnx.load_from_string(float_exported.payload[MODEL])
    enclosed = runtime == "onnxruntime"
    made = OnnxLadder(file, calibration, tune, tensorrt=tensorrt, enclosed=enclosed, progress=progress.update)
    return made.ladder()


def _tuner(
    kind: str, subject: Subject, dataset: Dataset, skip_bad: bool, seed: int, progress: Progress
) -> Callable[[bool], bytes]:
    """Fine-tunes for symmetric activations or not, and translates what comes out."""

    def tune(symmetric: bool) -> bytes:
        from mobilenets.quantization.finetune import finetune

        assert isinstance(subject.model, MobileNet)  # make_ladder is told not to fine-tune others
        saved = SavedNetwork(subject.model, subject.classes, subject.preprocessing, dict(subject.provenance))
        tuned = finetune(saved, dataset, symmetric=symmetric, skip_bad=skip_bad, seed=seed, progress=_Through(progress))
        (content,) = _to_quantize(kind, tuned.model, subject).payload.values()
        return content

    return tune


def _to_quantize(kind: str, model: nn.Module, subject: Subject) -> Exported:
    """A network of the subject's kind as the float file the format's quantizer starts from."""
    if kind == "litert":
        from mobilenets.exporters.litert.convert import to_litert

        return to_litert(model, subject.preprocessing, for_int8=True)
    return translator(kind)(model, subject.preprocessing)


class _Through(Silent):
    """Hands messages and progress of training on to a progress; its epochs are no news here."""

    def __init__(self, progress: Progress) -> None:
        self.message = progress.message  # type: ignore[method-assign]
        self.update = progress.update  # type: ignore[method-assign]


KINDS = ("onnx", "litert")
RUNTIMES = ("onnxruntime", "openvino")


@dataclass(frozen=True)
class QuantizeConfig:
    """How an 8-bit file is to be made; attributes as the arguments of `quantize`."""

    out: Path
    kind: str
    max_drop: float = 1.0
    calibration_images: int = CALIBRATION_IMAGES
    max_images: int | None = None
    finetune: bool = True
    tensorrt: bool = False
    runtime: str = "onnxruntime"
    threads: int | None = None
    seed: int = 0
    skip_bad: bool = False

    def check(self) -> None:
        """Refuse what can't be.

        Raises:
            RunError: `out` can't be written.
            ArtifactError: the name of `out` is of another format.
            MissingExtraError: the quantizer is not installed.
            MobilenetsError: `max_drop` is negative or no number, or the format has no such option.
        """
        if not 0 <= self.max_drop < math.inf:
            raise MobilenetsError(f"max_drop is points of top-1, 0 or more, not {self.max_drop}; 1.0 allows one point")
        if self.runtime not in RUNTIMES:
            raise MobilenetsError(f"8-bit ONNX files are written for {' or '.join(RUNTIMES)}, not {self.runtime}")
        check_threads(self.threads)
        check_suffix(self.out, self.kind)
        if self.kind != "onnx" and (self.tensorrt or self.runtime != RUNTIMES[0]):
            raise MobilenetsError(f"`tensorrt=True` and `runtime` are for .onnx files, not {self.out.name}")
        check_place(self.out, folder=False)
        require_quantizer(self.kind)


def kind_of(out: Path, to: str | None) -> str:
    """The format asked for, or the one the suffix names.

    Raises:
        MobilenetsError: there is no such format.
    """
    by_suffix = {SUFFIXES[kind]: kind for kind in KINDS}
    kind = to if to is not None else by_suffix.get(out.suffix.lower())
    if kind not in KINDS:
        wanted = f"there is no 8-bit {to}" if to else f"{out}: its suffix names no format"
        raise MobilenetsError(f"{wanted}; give {' or '.join(by_suffix)}, or `to` {' or '.join(KINDS)}")
    return kind
