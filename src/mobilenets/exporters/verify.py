"""How near an exported file's answers are to its network's, and how near they have to be.

A translated network is opened in its runtime and asked the same images as the network (`opened`, `compare_answers`).
Some of these images go into the file with its answers, as golden pairs that are checked whenever it is loaded.

How far golden answers may be off in each runtime and arithmetic is measured when the file is made (`measure_bounds`).
One bound for every network would be too narrow for one that rounding moves far, and too wide for one that it hardly
moves. So the file is asked the same images in every way this machine can run it, and the largest difference from its
own answers, times a factor for other machines' kernels, is the bound of that way. What can't run here is emulated: for
bf16 and fp16 the network's weights and every layer's output are rounded in PyTorch. On networks trained on digits the
largest difference so emulated was 0.8 to 1.6 times that of OpenVINO in bf16.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mobilenets.artifact.container import SUFFIXES, Artifact
from mobilenets.artifact.description import Description
from mobilenets.artifact.golden import GoldenPairs
from mobilenets.errors import BackendError, DataError, ExportError
from mobilenets.evaluation.evaluation_set import EvaluationSet
from mobilenets.evaluation.predictions import top1_agreement
from mobilenets.exporters.prepare import Exported, exportable
from mobilenets.exporters.subject import Subject
from mobilenets.files import temporary_folder
from mobilenets.models.layers import Normalizer
from mobilenets.preprocessing import Preprocessing
from mobilenets.runtime.backend import Backend, choices, open_backend

if TYPE_CHECKING:
    from mobilenets.evaluation.predictions import Predict

TOLERANCES = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 8e-2, "int8": 0.3}
"""Largest difference of a logit, relative to the largest |logit| where that is above 1.

Well above what the arithmetic costs where nothing is wrong (fp32 1e-6 to 1e-5, fp16 1e-2), and below what a wrong layer
does. 8-bit files are verified by accuracy; their bound is for the same file on another processor, where one
without 8-bit dot products rounds elsewhere.
"""
ELSEWHERE = 1e-3
"""The same at least for a file on another machine, whose runtime may multiply in a way that rounds more (Winograd)."""
TOLERANCE = TOLERANCES["fp32"]
BATCH = 64
GOLDEN_IMAGES: Final = 4
"""Enough to notice another network, preprocessing or arithmetic; more would only make files larger."""
BOUND_IMAGES: Final = 64
"""How many images bounds are measured on, the golden ones among them."""
REAL, SYNTHETIC = 2.0, 4.0
"""Factor on what was measured: on real images, and on synthetic ones, which hardly stand for what the network knows."""
RELATED = 0.9
"""Correlation of two sets of logits below which they are no roundings of each other, and nothing is to be measured."""
_EMULATED: Final = {"bf16": torch.bfloat16, "fp16": torch.float16}
_COARSE_KINDS: Final = ("onnx", "openvino")  # those that a runtime may compute in fewer bits than they are written in


@dataclass(frozen=True)
class Parity:
    """How near a file's logits are to its network's.

    Attributes:
        max_difference: largest |difference| of a logit.
        mean_difference: mean |difference|.
        top1_agreement: images of which both name the same class first, in percent.
        images: how many images were asked.
        allowed: the largest difference that passes.
    """

    max_difference: float
    mean_difference: float
    top1_agreement: float
    images: int = 0
    allowed: float = float("inf")

    @property
    def holds(self) -> bool:
        """Whether the file answers as the network does; False also where an answer is NaN or infinity."""
        return self.max_difference <= self.allowed


@dataclass(frozen=True, eq=False)
class VerifiedExport:
    """A translated network and what it answered: logits `[N, K]` of the network and of the file, in which runtime."""

    images: EvaluationSet
    exported: Exported
    expected: NDArray[np.float32]
    actual: NDArray[np.float32]
    parity: Parity
    backend: str


def allowed_difference(precision: str, logits: NDArray[np.float32]) -> float:
    """Largest difference from its logits `[N, K]` here that a file of `precision` may have on any machine."""
    return max(TOLERANCES[precision], ELSEWHERE) * max(1.0, float(np.abs(logits).max()))


def network_predict(model: nn.Module, preprocessing: Preprocessing) -> Predict:
    """The network itself as a predict function: uint8 `[B, H, W, C]` to float32 logits `[B, K]`, on the CPU.

    Plain eager PyTorch of the unfolded network: what every translation is held against.
    """
    network = nn.Sequential(Normalizer(preprocessing), model.cpu().eval())

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            # A copy, because torch warns of arrays that can't be written to, as those read from files are.
            logits: NDArray[np.float32] = network(torch.from_numpy(np.array(images))).float().numpy()
        return logits

    return predict


def compare_answers(expected: NDArray[np.float32], actual: NDArray[np.float32], tolerance: float = TOLERANCE) -> Parity:
    """Measure two sets of logits against each other, without a verdict.

    Args:
        expected: the network's logits `[N, K]`.
        actual: the file's.
        tolerance: relative to the network's largest |logit| where that is above 1.

    Raises:
        ExportError: shapes differ, or the network's own answers are not finite.
        DataError: there are no images.
    """
    if len(expected) == 0:
        raise DataError("an exported file can't be checked without images: pass at least one")
    if expected.shape != actual.shape:
        raise ExportError(
            f"the file answers with {actual.shape} logits, the network with {expected.shape}: export again"
        )
    if not np.isfinite(expected).all():
        raise ExportError("the network answers with infinite logits or such that are no numbers: train it again")
    differences = np.abs(expected.astype(np.float64) - actual)
    return Parity(
        max_difference=float(differences.max()),  # NaN where the file answers with one
        mean_difference=float(differences.mean()),
        top1_agreement=top1_agreement(expected, actual),
        images=len(expected),
        allowed=tolerance * max(1.0, float(np.abs(expected).max())),
    )


def check_parity(
    network_predict: Predict, file_predict: Predict, images: NDArray[np.uint8], tolerance: float = TOLERANCE
) -> Parity:
    """Ask the network and its exported file the same images and compare the logits.

    Args:
        network_predict: the network as a function of images `[B, H, W, C]` uint8 to logits `[B, K]`.
        file_predict: the exported file likewise.
        images: what to ask; real ones, since noise hardly moves most networks.
        tolerance: largest difference allowed, relative to the network's largest |logit| where that is above 1.

    Raises:
        ExportError: the answers differ in shape, by more than `tolerance`, or one is not finite.
        DataError: there are no images.
    """
    if len(images) == 0:
        raise DataError("an exported file can't be checked without images: pass at least one")
    parity = compare_answers(_in_batches(network_predict, images), _in_batches(file_predict, images), tolerance)
    if not parity.holds:
        raise ExportError(f"{describe_failure(parity)}: don't use this file")
    return parity


def describe_failure(parity: Parity) -> str:
    """What is wrong with a file that does not answer as the network does, as the beginning of a message."""
    if not np.isfinite(parity.max_difference):
        return "the file answers with infinite logits or such that are no numbers"
    return (
        f"the file's logits differ from the network's by up to {parity.max_difference:.2g}, "
        f"more than {parity.allowed:.2g}"
    )


def _in_batches(predict: Predict, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """All logits `[N, K]`, asked in batches that bound the memory."""
    return np.concatenate([predict(images[start : start + BATCH]) for start in range(0, len(images), BATCH)])


@contextmanager
def opened(
    exported: Exported,
    kind: str,
    *,
    precision: str,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    threads: int | None = None,
) -> Iterator[Backend]:
    """Open a translated network in its runtime, from a temporary place that goes when the context ends.

    Args:
        exported: the translated network.
        kind: its format, one of `artifact.description.KINDS`.
        precision: what it was exported as.
        preprocessing: fixes the images' shape.
        classes: as many as it has outputs.
        threads: for the runtime; None for every usable core.

    Raises:
        BackendError: its runtime can't open it.
        MissingExtraError: its runtime is not installed.
    """
    with placed(exported, kind, precision=precision, preprocessing=preprocessing, classes=classes) as artifact:
        yield open_backend(artifact, threads=threads)


@contextmanager
def placed(
    exported: Exported, kind: str, *, precision: str, preprocessing: Preprocessing, classes: Sequence[str]
) -> Iterator[Artifact]:
    """Put a translated network in a temporary place, for runtimes to open; arguments as `opened` has them."""
    with temporary_folder() as path:
        for name, content in exported.payload.items():
            (path / name).write_bytes(content)
        if kind != "openvino":
            (only,) = exported.payload
            path = (path / only).rename(path / f"model{SUFFIXES[kind]}")
        description = _provisional(exported, kind, precision, preprocessing, classes)
        yield Artifact(path, description)


def _provisional(
    exported: Exported, kind: str, precision: str, preprocessing: Preprocessing, classes: Sequence[str]
) -> Description:
    """What a runtime needs to know of the file. Its golden answers are still to be asked for: these are no answers."""
    size, channels = preprocessing.image_size, preprocessing.channels
    unanswered = GoldenPairs(
        np.zeros((1, size, size, channels), np.uint8), np.zeros((1, len(classes)), np.float32), tolerance=1.0
    )
    return Description(
        kind=kind,
        precision=precision,
        network={},
        classes=tuple(classes),
        preprocessing=preprocessing,
        dynamic_batch=exported.dynamic_batch,
        golden=unanswered,
    )


def choose_golden(labels: NDArray[np.int64], count: int = GOLDEN_IMAGES, seed: int = 0) -> NDArray[np.int64]:
    """Positions of up to `count` images, seeded, of different classes as far as there are any; ascending.

    Args:
        labels: class index of each image, `[N]`.
        count: how many to choose.
        seed: the same seed chooses the same images.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    _, first_of_class = np.unique(labels[order], return_index=True)
    # Images whose class was not met before come first, in shuffled order; the others follow.
    fresh = np.zeros(len(labels), bool)
    fresh[first_of_class] = True
    chosen = np.concatenate([order[fresh], order[~fresh]])[:count]
    return np.sort(chosen).astype(np.int64)


def golden_positions(images: EvaluationSet) -> NDArray[np.int64]:
    """Positions of those images that go into the file, ascending: of different classes as far as there are any."""
    return np.arange(GOLDEN_IMAGES, dtype=np.int64) if images.labels is None else choose_golden(images.labels)


def golden_pairs(
    images: NDArray[np.uint8],
    logits: NDArray[np.float32],
    precision: str,
    bounds: Mapping[str, float] | None = None,
) -> GoldenPairs:
    """Images with their answers, and how far another machine's may lie from them.

    Args:
        images: uint8 `[N, H, W, C]`.
        logits: float32 `[N, K]`, as the file answered.
        precision: of the file; it decides the tolerance.
        bounds: as `measure_bounds` found them.
    """
    return GoldenPairs(images, logits, allowed_difference(precision, logits), bounds or {})


def measure_bounds(
    subject: Subject,
    kind: str,
    precision: str,
    exported: Exported,
    images: NDArray[np.uint8],
    answers: NDArray[np.float32],
    *,
    real: bool,
    unrounded: NDArray[np.float32] | None = None,
    threads: int | None = None,
) -> dict[str, float]:
    """Ask a file in every runtime and arithmetic of this machine, and bound what each may change.

    Args:
        subject: the network.
        kind: the file's format.
        precision: what it was exported as.
        exported: the file.
        images: uint8 `[N, H, W, C]`; golden ones have to be among them.
        answers: its own answers to them, `[N, K]`, in the runtime it is checked in.
        real: whether they are real images, not synthetic ones.
        unrounded: of an 8-bit file: the float network's answers to them, `[N, K]`. Another processor's 8-bit kernels
            may round elsewhere, but not by more than rounding changed at all.
        threads: for the runtimes; None for every usable core.

    Returns:
        The largest difference allowed of a logit, under `RUNTIME ARITHMETIC` for what was measured, and under
        `ARITHMETIC` alone for every other runtime. What answers nothing like the file has no bound of its own.
    """
    factor = REAL if real else SYNTHETIC
    floor = ELSEWHERE * max(1.0, float(np.abs(answers).max()))
    bounds: dict[str, float] = {}

    def add(name: str, other: NDArray[np.float32], least: float) -> None:
        if related(answers, other):
            bounds[name] = max(factor * float(np.abs(answers.astype(np.float64) - other).max()), least)

    if precision == "int8":
        if unrounded is not None:
            add("int8", unrounded, floor)
        # Where rounding changed more than that, as in a network trained anew for 8 bits, the old rule is the limit.
        bounds["int8"] = min(bounds.get("int8", np.inf), allowed_difference("int8", answers))
    elif kind in _COARSE_KINDS:
        for name, kind_of_number in _EMULATED.items():
            add(name, rounded_answers(subject, images, kind_of_number), floor)
    with placed(
        exported, kind, precision=precision, preprocessing=subject.preprocessing, classes=subject.classes
    ) as artifact:
        for choice in choices(artifact):
            try:
                backend = open_backend(artifact, backend=choice.backend, precision=choice.precision, threads=threads)
                answered = backend.predict(images)
            except (BackendError, DataError):
                continue  # it can't be run so here, and says so itself when it is opened
            add(f"{choice.backend} {choice.precision}", answered, max(floor, bounds.get(choice.precision, 0.0)))
    return bounds


def rounded_answers(subject: Subject, images: NDArray[np.uint8], numbers: torch.dtype) -> NDArray[np.float32]:
    """Answers `[N, K]` of the network with its weights and every layer's output rounded to `numbers`."""
    network = exportable(subject.model, subject.preprocessing)

    def rounded(module: nn.Module, inputs: object, output: object) -> object:
        return output.to(numbers).float() if isinstance(output, Tensor) and output.is_floating_point() else output

    for module in network.modules():
        if not any(module.children()):
            module.register_forward_hook(rounded)
    with torch.inference_mode():
        for parameter in network.parameters():
            parameter.copy_(parameter.to(numbers).float())
        answers: NDArray[np.float32] = network(torch.from_numpy(np.array(images))).float().numpy()
    return answers


def related(first: NDArray[np.float32], second: NDArray[np.float32]) -> bool:
    """Whether two sets of logits `[N, K]` may be roundings of each other: finite, and nearly the same."""
    if not np.isfinite(second).all():
        return False
    left, right = (values.astype(np.float64).ravel() - float(values.mean()) for values in (first, second))
    size = float(np.linalg.norm(left) * np.linalg.norm(right))
    return size == 0 or float(left @ right) / size >= RELATED
