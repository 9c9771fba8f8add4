"""Golden pairs: a few images with the logits a file gave when it was made, checked again wherever it is loaded."""

from __future__ import annotations

import base64
import binascii
import io
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mobilenets.errors import ArtifactError

_MODES = {1: "L", 3: "RGB"}
# What base64 and Pillow raise on text that is no picture, or one of gigantic size.
_FAULTS = (
    *(binascii.Error, UnidentifiedImageError, Image.DecompressionBombError, ValueError, OSError, SyntaxError),
    *(TypeError, EOFError, MemoryError, ArithmeticError, struct.error, zlib.error),
)
_SHARE_LOST: Final = {"bf16": 0.05, "fp16": 0.01}
"""Of files without measured bounds: how much fewer bits may change a logit, as a share of the greatest."""


@dataclass(frozen=True)
class GoldenAnswer:
    """How a file answers its golden images now.

    Attributes:
        difference: largest |difference| of a logit; NaN where an answer is none.
        allowed: what it may be.
        same_class: images that were given the same class as when the file was made.
        images: how many were asked.
    """

    difference: float
    allowed: float
    same_class: int
    images: int

    @property
    def holds(self) -> bool:
        """Whether the answers are as near as they have to be."""
        return self.difference <= self.allowed  # not where it is not a number

    @property
    def figures(self) -> str:
        """The figures, as part of a message."""
        return (
            f"a logit differs by {self.difference:.3g}, more than {self.allowed:.3g}; {self.same_class} of "
            f"{self.images} images keep their class"
        )


@dataclass(frozen=True, eq=False)
class GoldenPairs:
    """Images uint8 `[N, H, W, C]` and their logits float32 `[N, K]`, N at least 1.

    Attributes:
        images: what is asked.
        logits: what the file answered, in the runtime it was checked with.
        tolerance: largest |difference| of a logit that another machine's arithmetic may make, where nothing was
            measured. 8-bit files get a wide one: a processor without 8-bit dot products rounds elsewhere.
        bounds: the same as measured when the file was made, by `RUNTIME ARITHMETIC` such as `openvino bf16`, and by
            `ARITHMETIC` for runtimes that were not there; empty in files of earlier versions.
    """

    images: NDArray[np.uint8]
    logits: NDArray[np.float32]
    tolerance: float
    bounds: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse arrays that are no pairs."""
        shapes = self.images.shape, self.logits.shape
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[3] not in _MODES:
            raise ArtifactError(f"golden images are uint8 [N, H, W, C], not {self.images.dtype} {list(shapes[0])}")
        if self.logits.dtype != np.float32 or self.logits.ndim != 2 or not np.isfinite(self.logits).all():
            raise ArtifactError(f"golden logits are finite float32 [N, K], not {self.logits.dtype} {list(shapes[1])}")
        if len(self.images) != len(self.logits) or len(self.images) == 0:
            raise ArtifactError(f"{len(self.images)} golden images can't go with {len(self.logits)} answers")
        if not 0 < self.tolerance < np.inf:
            raise ArtifactError(f"a tolerance is a number above 0, not {self.tolerance}")
        for name, bound in self.bounds.items():
            if not 0 < bound < np.inf:
                raise ArtifactError(f"the bound of {name} is a number above 0, not {bound}")

    def allowed(self, backend: str, precision: str) -> float:
        """Largest |difference| of a logit in a runtime and an arithmetic: as measured, else by the old rule."""
        for name in (f"{backend} {precision}", precision):
            if name in self.bounds:
                return self.bounds[name]
        return max(self.tolerance, _SHARE_LOST.get(precision, 0.0) * float(np.abs(self.logits).max()))

    def ask(
        self,
        predict: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
        where: str,
        *,
        backend: str = "",
        precision: str = "",
    ) -> GoldenAnswer:
        """Ask the images again.

        Args:
            predict: the loaded file as a function of images to logits.
            where: names the file and its runtime in the message.
            backend: the runtime.
            precision: the arithmetic it computes in.

        Raises:
            ArtifactError: it answers with logits of another shape.
        """
        answered = predict(self.images)
        if answered.shape != self.logits.shape:
            raise ArtifactError(
                f"{where}: it answers its golden images with logits {list(answered.shape)}, "
                f"not {list(self.logits.shape)}; export it again"
            )
        return GoldenAnswer(
            difference=float(np.abs(answered.astype(np.float64) - self.logits).max()),
            allowed=self.allowed(backend, precision),
            same_class=int((answered.argmax(axis=1) == self.logits.argmax(axis=1)).sum()),
            images=len(self.images),
        )

    def to_dict(self) -> dict[str, object]:
        """Return what JSON can hold: images as PNG, logits as little-endian float32, both in base64."""
        return {
            "images": [_encode_png(image) for image in self.images],
            "logits": base64.b64encode(self.logits.astype("<f4").tobytes()).decode(),
            "tolerance": self.tolerance,
            "bounds": dict(self.bounds),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Raises:
            ArtifactError: it is damaged.
            KeyError: a part is missing.
        """
        try:
            images = np.stack([_decode_png(text) for text in data["images"]])
            raw = base64.b64decode(data["logits"], validate=True)
            logits = np.frombuffer(raw, dtype="<f4").reshape(len(images), -1).astype(np.float32)
        except _FAULTS as error:
            raise ArtifactError(f"golden pairs can't be read: {error}") from error
        bounds = {str(name): float(bound) for name, bound in data.get("bounds", {}).items()}
        return cls(images, logits, float(data["tolerance"]), bounds)


def _encode_png(image: NDArray[np.uint8]) -> str:
    height, width, channels = image.shape
    picture = Image.frombytes(_MODES[channels], (width, height), np.ascontiguousarray(image).tobytes())
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _decode_png(text: str) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=("PNG",)) as picture:
        pixels = np.asarray(picture)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
