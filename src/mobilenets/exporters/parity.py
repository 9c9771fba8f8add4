"""How near an exported file's answers are to its network's, and how near they have to be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mobilenets.artifact.container import SUFFIXES, Artifact, read_artifact, write_artifact
from mobilenets.artifact.description import Description
from mobilenets.artifact.golden import GoldenPairs
from mobilenets.errors import DataError, ExportError, RunError
from mobilenets.evaluation.predictions import top1_agreement
from mobilenets.exporters.prepare import Exported
from mobilenets.files import make_folder, temporary_folder, unharmed
from mobilenets.models.layers import Normalizer
from mobilenets.preprocessing import Preprocessing
from mobilenets.runtime.backend import Backend, open_backend
from mobilenets.runtime.classifier import check_golden

if TYPE_CHECKING:
    from mobilenets.evaluation.predictions import Predict


TOLERANCES = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 8e-2, "int8": 0.3}
"""Largest difference of a logit, relative to the largest |logit| where that is above 1.

Well above what the arithmetic costs where nothing is wrong (fp32 1e-6 to 1e-5, fp16 1e-2), and below what a wrong layer
does. 8 bits are judged by their accuracy; their bound is for the same file on another processor, where one without
8-bit dot products rounds elsewhere.
"""
ELSEWHERE = 1e-3
"""The same at least for a file on another machine, whose runtime may multiply in a way that rounds more (Winograd)."""
TOLERANCE = TOLERANCES["fp32"]
BATCH = 64


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
        """Whether the file answers as the network does; False also where an answer is no number."""
        return self.max_difference <= self.allowed


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


def answers(predict: Predict, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """All logits `[N, K]`, asked in batches that bound the memory."""
    return np.concatenate([predict(images[start : start + BATCH]) for start in range(0, len(images), BATCH)])


def compare_answers(expected: NDArray[np.float32], actual: NDArray[np.float32], tolerance: float = TOLERANCE) -> Parity:
    """Measure two sets of logits against each other, without judging.

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
    parity = compare_answers(answers(network_predict, images), answers(file_predict, images), tolerance)
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


# Asking a translated network, and the file it is written as, before that is anybody's.


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


def write_proven(
    path: Path, payload: Mapping[str, bytes], description: Description, threads: int | None = None
) -> tuple[Artifact, float]:
    """Write an artifact once the same, written beside `path` and opened again, has given its golden answers.

    Args:
        path: the file, or OpenVINO's folder; on any failure what is there is as it was, but a folder that can't be
            written whole may be left with old files and new ones, which is refused when read.
        payload: the format's own files by name, as `write_artifact` takes them.
        description: with the golden answers.
        threads: for the runtime; None as `open_backend` has it.

    Returns:
        The artifact, and the largest difference of a golden answer.

    Raises:
        ArtifactError: it does not give its golden answers.
        BackendError: its runtime can't open it.
        RunError: it can't be written.
    """
    make_folder(path.parent)
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(temporary_folder(path.parent, prefix=f".{path.stem}-"))
        except OSError as error:
            raise RunError(f"{path}: can't be written ({error.strerror or error}){unharmed(path)}") from error
        written = read_artifact(write_artifact(folder / path.name, payload, description).path)
        difference = check_golden(written, open_backend(written, threads=threads))
    write_artifact(path, payload, description)
    return read_artifact(path), difference


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
