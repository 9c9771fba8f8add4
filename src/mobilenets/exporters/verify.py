"""Asking the network and its file the same images before the file is anybody's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from mobilenets.errors import BackendError, DataError
from mobilenets.evaluation.evaluation_set import ArrayImages, EvaluationSet
from mobilenets.exporters.describe import Subject
from mobilenets.exporters.parity import ELSEWHERE, Parity, allowed_difference, placed
from mobilenets.exporters.prepare import Exported, exportable
from mobilenets.preprocessing import Preprocessing
from mobilenets.runtime.backend import choices, open_backend

# The images that go into an exported file as golden: real ones of different classes, or made ones without data.


COUNT = 4
"""Enough to notice another network, preprocessing or arithmetic; more would only make files larger."""
_COARSE = 5


def synthetic_images(preprocessing: Preprocessing, count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth coloured noise, uint8 `[count, H, W, C]`: the same on every machine.

    Neighbouring pixels of pictures are alike; of plain noise they are not, and most networks hardly answer to it. So
    random colours on a coarse grid are enlarged, with a gradient from dark to light across.
    """
    random = np.random.default_rng(seed)
    size, channels = preprocessing.image_size, preprocessing.channels
    ramp = np.linspace(-60, 60, _COARSE)[None, :, None]
    images = np.empty((count, size, size, channels), np.uint8)
    for image in images:
        coarse = np.clip(random.integers(0, 256, (_COARSE, _COARSE, channels)) + ramp, 0, 255).astype(np.uint8)
        for channel in range(channels):
            plane = Image.fromarray(coarse[:, :, channel]).resize((size, size), Image.Resampling.BILINEAR)
            image[:, :, channel] = np.asarray(plane)
    return images


def choose_golden(labels: NDArray[np.int64], count: int = COUNT, seed: int = 0) -> NDArray[np.int64]:
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


# How far a file's golden answers may be off, in each runtime and arithmetic: measured on images when it is made.
#
# One bound for every network would be too narrow for a network that rounding moves far, and too wide for one that it
# hardly moves. So the file is asked the same images in every way this machine can run it, and the largest difference
# from
# its own answers, times a factor for other machines' kernels, becomes the bound of that way. What can't run here is
# emulated: for bf16 and fp16 the network's weights and every layer's output are rounded in PyTorch. (On networks
# trained
# on digits the emulation's largest difference was 0.8 to 1.6 times that of OpenVINO in bf16.)


IMAGES: Final = 64
"""How many images are asked, those among them that go into the file."""
REAL, SYNTHETIC = 2.0, 4.0
"""Factor on what was measured: on real images, and on synthetic ones, which hardly stand for what the network knows."""
RELATED = 0.9
"""Correlation of two sets of logits below which they are no roundings of each other, and nothing is to be measured."""
_EMULATED: Final = {"bf16": torch.bfloat16, "fp16": torch.float16}
_COARSE_KINDS: Final = ("onnx", "openvino")  # those that a runtime may compute in fewer bits than they are written in


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
                continue  # it can't be run so here, and will say so itself when somebody tries
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
    """Whether two sets of logits `[N, K]` may be roundings of each other: finite, and alike but for small changes."""
    if not np.isfinite(second).all():
        return False
    left, right = (values.astype(np.float64).ravel() - float(values.mean()) for values in (first, second))
    size = float(np.linalg.norm(left) * np.linalg.norm(right))
    return size == 0 or float(left @ right) / size >= RELATED


SYNTHETIC_IMAGES = 32


@dataclass(frozen=True, eq=False)
class Proof:
    """A translated network and what it answered: logits `[N, K]` of the network and of the file, in which runtime."""

    images: EvaluationSet
    exported: Exported
    expected: NDArray[np.float32]
    actual: NDArray[np.float32]
    parity: Parity
    backend: str


def synthetic_set(subject: Subject) -> EvaluationSet:
    """What a file is verified on where there is no data."""
    return EvaluationSet(
        what=f"{SYNTHETIC_IMAGES} synthetic images",
        images=ArrayImages(synthetic_images(subject.preprocessing, SYNTHETIC_IMAGES)),
        labels=None,
        notes=("without --data it is verified on synthetic images only, and its probabilities are not calibrated",),
    )


def golden_positions(images: EvaluationSet) -> NDArray[np.int64]:
    """Positions of those images that go into the file, ascending: of different classes as far as there are any."""
    return np.arange(COUNT, dtype=np.int64) if images.labels is None else choose_golden(images.labels)
