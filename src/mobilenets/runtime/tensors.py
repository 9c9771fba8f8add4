"""What the backends share: which images a file takes, asking one image at a time, and the error where that fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mobilenets.artifact.container import Artifact
from mobilenets.errors import ArtifactError, BackendError, DataError

_UINT8: Final = ("uint8", "u8", "tensor(uint8)")  # as LiteRT and ExecuTorch, OpenVINO, and ONNX Runtime call it

Shape = tuple[int | None, ...]
"""A tensor's dimensions, None where one is free."""


def require_images(images: NDArray[np.uint8], artifact: Artifact) -> NDArray[np.uint8]:
    """Return the images as the runtimes want them, in one piece of memory.

    Raises:
        DataError: they are not uint8 `[B, H, W, C]`, of another size than the file takes, or none.
    """
    shape = artifact.description.image_shape
    if images.dtype != np.uint8 or images.shape[1:] != shape or len(images) == 0:
        raise DataError(
            f"{artifact.path} takes uint8 images [B, {', '.join(map(str, shape))}], "
            f"not {images.dtype} {list(images.shape)}"
        )
    return np.ascontiguousarray(images)


def one_by_one(
    images: NDArray[np.uint8], answer: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Ask a file that takes `[1, H, W, C]` each image in turn: logits `[B, K]`."""
    return np.concatenate([answer(images[index : index + 1]) for index in range(len(images))])


def unanswered(artifact: Artifact, runtime: str, count: int, reason: str) -> BackendError:
    """The error of a runtime that failed at so many images, for want of memory as a rule."""
    if count == 1:
        return BackendError(f"{artifact.path}: {runtime} can't answer an image: {reason}")
    return BackendError(
        f"{artifact.path}: {runtime} can't answer {count:,} images at once: {reason}; try a smaller batch"
    )


def require_signature(artifact: Artifact, inputs: Sequence[tuple[str, Shape]], outputs: Sequence[Shape]) -> None:
    """Make sure a loaded file is what its description says.

    Args:
        artifact: whose description counts.
        inputs: the runtime's name of each input's element type, and its shape.
        outputs: shape of each output.

    Raises:
        ArtifactError: it does not take such images alone, or answers with another number of logits.
    """
    described = artifact.description
    if len(inputs) != 1 or len(outputs) != 1:
        raise ArtifactError(
            f"{artifact.path}: it has {len(inputs)} inputs and {len(outputs)} outputs, not one of each; export it again"
        )
    ((element, shape),), (answer,) = inputs, outputs
    if element not in _UINT8 or len(shape) != 4 or shape[1:] != described.image_shape:
        raise ArtifactError(
            f"{artifact.path}: it takes {element} {list(shape)}, not the uint8 images "
            f"[B, {', '.join(map(str, described.image_shape))}] its description says; export it again"
        )
    if len(answer) != 2 or answer[1] not in (len(described.classes), None):
        raise ArtifactError(
            f"{artifact.path}: it answers with {answer[-1] if answer else 'no'} logits, but its description names "
            f"{len(described.classes)} classes; export it again"
        )
