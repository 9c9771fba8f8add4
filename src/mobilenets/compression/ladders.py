"""The ladder of each format, by name; only what is asked for is imported."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from torch import nn

from mobilenets.compression.calibration import CalibrationImages
from mobilenets.compression.ladder import Ladder
from mobilenets.data.datasets import Dataset
from mobilenets.exporting.describe import Subject
from mobilenets.exporting.exported import Exported
from mobilenets.exporting.translators import translator
from mobilenets.exporting.watcher import Watcher
from mobilenets.models.network import MobileNet
from mobilenets.models.saved import SavedNetwork
from mobilenets.training.observer import Silent

_PACKAGES = {"onnx": "nncf", "litert": "ai-edge-quantizer"}


def require_quantizer(kind: str) -> None:
    """Raise MissingExtraError where the format's quantizer is not installed: before images are read, not after."""
    if kind == "onnx":
        from mobilenets.compression.nncf_ptq import require_nncf
        from mobilenets.exporting.onnx import require_exporter

        require_exporter()
        require_nncf()
    else:
        from mobilenets.compression.litert_int8 import require_quantizer as require_litert

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
    watcher: Watcher,
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
        watcher: told of progress.
    """
    tune = _tuner(kind, subject, dataset, skip_bad, seed, watcher) if finetune else None
    if kind == "litert":
        from mobilenets.compression.litert_ladder import litert_ladder

        splittable = _to_quantize(kind, subject.model, subject)
        return litert_ladder(splittable, calibration, tune=tune, progress=watcher.progress)
    import onnx

    from mobilenets.compression.onnx_ladder import OnnxLadder
    from mobilenets.exporting.onnx import MODEL

    file = onnx.load_from_string(float_exported.payload[MODEL])
    enclosed = runtime == "onnxruntime"
    made = OnnxLadder(file, calibration, tune, tensorrt=tensorrt, enclosed=enclosed, progress=watcher.progress)
    return made.ladder()


def _tuner(
    kind: str, subject: Subject, dataset: Dataset, skip_bad: bool, seed: int, watcher: Watcher
) -> Callable[[bool], bytes]:
    """Fine-tunes for symmetric activations or not, and translates what comes out."""

    def tune(symmetric: bool) -> bytes:
        from mobilenets.compression.finetune import finetune

        assert isinstance(subject.model, MobileNet)  # make_ladder is told not to fine-tune others
        saved = SavedNetwork(subject.model, subject.classes, subject.preprocessing, dict(subject.provenance))
        tuned = finetune(saved, dataset, symmetric=symmetric, skip_bad=skip_bad, seed=seed, observer=_Through(watcher))
        (content,) = _to_quantize(kind, tuned.model, subject).payload.values()
        return content

    return tune


def _to_quantize(kind: str, model: nn.Module, subject: Subject) -> Exported:
    """A network of the subject's kind as the float file the format's quantizer starts from."""
    if kind == "litert":
        from mobilenets.exporting.litert import to_litert

        return to_litert(model, subject.preprocessing, for_int8=True)
    return translator(kind)(model, subject.preprocessing)


class _Through(Silent):
    """Hands messages and progress of training on to a watcher; its epochs are no news here."""

    def __init__(self, watcher: Watcher) -> None:
        self.message = watcher.message  # type: ignore[method-assign]
        self.progress = watcher.progress  # type: ignore[method-assign]
