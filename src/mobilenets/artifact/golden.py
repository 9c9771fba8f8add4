"""Golden pairs: a few images with the answers a file gave when it was made, to be asked again wherever it is loaded."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mobilenets.errors import ArtifactError

_MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True, eq=False)
class GoldenPairs:
    """Images uint8 `[N, H, W, C]` and their logits float32 `[N, K]`, N at least 1.

    Attributes:
        images: what is asked.
        logits: what the file answered, in the runtime it was checked with.
        tolerance: largest |difference| of a logit that another machine's arithmetic may make. 8-bit files get a wide
            one: a processor without 8-bit dot products rounds elsewhere.
    """

    images: NDArray[np.uint8]
    logits: NDArray[np.float32]
    tolerance: float

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

    def check(
        self, predict: Callable[[NDArray[np.uint8]], NDArray[np.float32]], where: str, *, share: float = 0.0
    ) -> float:
        """Ask the images again and return the largest |difference| of a logit.

        Args:
            predict: the loaded file as a function of images to logits.
            where: names the file and its runtime in the message.
            share: of the greatest |logit| that may be lost too, where the runtime computes in fewer bits than the file
                was made for.

        Raises:
            ArtifactError: an answer differs by more than that.
        """
        answered = predict(self.images)
        if answered.shape != self.logits.shape:
            raise ArtifactError(
                f"{where}: it answers its golden images with logits {list(answered.shape)}, "
                f"not {list(self.logits.shape)}; export it again"
            )
        largest = float(np.abs(answered.astype(np.float64) - self.logits).max())
        allowed = max(self.tolerance, share * float(np.abs(self.logits).max()))
        if not largest <= allowed:  # also where it is not a number
            raise ArtifactError(
                f"{where}: its golden pairs no longer hold: a logit differs by {largest:.3g}, more than "
                f"{allowed:.3g}; the file is changed or this runtime computes it wrongly: export it again"
            )
        return largest

    def to_dict(self) -> dict[str, object]:
        """Return what JSON can hold: images as PNG, logits as little-endian float32, both in base64."""
        return {
            "images": [_encode_png(image) for image in self.images],
            "logits": base64.b64encode(self.logits.astype("<f4").tobytes()).decode(),
            "tolerance": self.tolerance,
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
        except (binascii.Error, UnidentifiedImageError, ValueError, OSError, SyntaxError) as error:
            raise ArtifactError(f"golden pairs can't be read: {error}") from error
        return cls(images, logits, float(data["tolerance"]))


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
