"""Which images a network was trained on, so that it is not scored on them: a set of content digests that travels along.

An image is known by the first 64 bits of BLAKE2b over its bytes as stored, whatever it is called and wherever it lies.
A run folder keeps them in `trained_images.npz`, NumPy's own format, as sorted arrays of uint64: 8 bytes an image.
Exported files keep the upper 40 bits, 5 bytes an image: an image that was not trained on is taken for one that was
with a probability of N / 2^40, for 50,000 images 5 in 100 million.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from mobilenets.errors import RunError
from mobilenets.files import write_atomically
from mobilenets.limits import read_arrays

IMAGE_RECORD: Final = "trained_images.npz"
EXPORTED_BITS: Final = 40
MOST_EXPORTED: Final = 200_000
"""Images whose digests go into an exported file: a megabyte. Of more, the run folder alone knows."""
_WHOLE: Final = 64

Digests = NDArray[np.uint64]


def digest_of(content: bytes) -> int:
    """The digest of an image's bytes: 64 bits of BLAKE2b."""
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "big")


def digest_array(digests: Iterable[int]) -> Digests:
    """Digests as an array `[N]`, in the order given."""
    return np.fromiter(digests, dtype=np.uint64)


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """Which images a network has seen, by content.

    Attributes:
        trained: digests of the images it was trained on, sorted.
        validated: of its validation images, sorted.
        inherited: of the images that the weights it began with were trained on, sorted.
        excluded: names of images that were left out of training and scoring, with their digests.
        bits: how many upper bits of each digest are known.
    """

    trained: Digests
    validated: Digests = field(default_factory=lambda: np.empty(0, np.uint64))
    inherited: Digests = field(default_factory=lambda: np.empty(0, np.uint64))
    excluded: Mapping[str, int] = field(default_factory=dict)
    bits: int = _WHOLE

    @property
    def all_trained(self) -> Digests:
        """Of all images that shaped the weights, sorted."""
        return np.union1d(self.trained, self.inherited)

    def was_trained_on(self, digests: Digests) -> NDArray[np.bool_]:
        """Which of these images `[N]` it was trained on, copies of training images included."""
        return self._known(digests, self.trained) | self._known(digests, self.inherited)

    def was_validated_on(self, digests: Digests) -> NDArray[np.bool_]:
        """Which of these images `[N]` it was validated on."""
        return self._known(digests, self.validated)

    def leaves_out(self, name: str, digest: int) -> bool:
        """Whether this image is one of those excluded: of the same name and content."""
        known = self.excluded.get(name)
        return known is not None and known >> (_WHOLE - self.bits) == digest >> (_WHOLE - self.bits)

    def _known(self, digests: Digests, among: Digests) -> NDArray[np.bool_]:
        shift = np.uint64(_WHOLE - self.bits)
        return np.isin(digests >> shift, among >> shift)

    def save(self, folder: Path) -> None:
        """Write it into a run folder, whole or not at all."""
        names = [name.encode("utf-8", "surrogateescape") for name in self.excluded]

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez_compressed(
                    file,
                    trained=self.trained,
                    validated=self.validated,
                    inherited=self.inherited,
                    excluded_names=np.array(names, dtype=np.bytes_),
                    excluded=digest_array(self.excluded.values()),
                )

        write_atomically(folder / IMAGE_RECORD, write)

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Read what `save` wrote; None where there is none, as in run folders of earlier versions.

        Raises:
            RunError: the file is damaged: without it the network could be scored on images it was trained on.
        """
        path = folder / IMAGE_RECORD
        try:
            digests = read_arrays(path, "trained", "validated", "inherited", "excluded", "excluded_names")
            texts = digests.pop("excluded_names")
            if texts.dtype.kind != "S" or texts.ndim != 1:
                raise ValueError("names are a list of bytes")
            names = [bytes(name).decode("utf-8", "surrogateescape") for name in texts]
            if any(array.dtype != np.uint64 or array.ndim != 1 for array in digests.values()):
                raise ValueError("digests are sorted arrays of uint64")
            excluded = dict(zip(names, digests.pop("excluded").tolist(), strict=True))
            trained, validated, inherited = (digests[name] for name in ("trained", "validated", "inherited"))
            return cls(trained=trained, validated=validated, inherited=inherited, excluded=excluded)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise RunError(
                f"{path}, which says what the network was trained on, can't be read ({reason}): bring it back, or "
                "train again"
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """What an exported file says of it; with more than `MOST_EXPORTED` images only how many there were."""
        counted = {"trained": self.all_trained, "validated": self.validated}
        if sum(map(len, counted.values())) > MOST_EXPORTED:
            return {"images": len(counted["trained"])}
        return {
            "bits": EXPORTED_BITS,
            **{name: _text(digests) for name, digests in counted.items()},
            "excluded": {name: f"{digest:016x}" for name, digest in self.excluded.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self | None:
        """Read what `to_dict` wrote; None where the digests were too many to travel.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is no such record.
        """
        if "trained" not in data:
            return None
        if data["bits"] != EXPORTED_BITS:
            raise ValueError(f"digests of {data['bits']} bits, not {EXPORTED_BITS}")
        return cls(
            _digests(data["trained"]),
            _digests(data["validated"]),
            excluded={str(name): int(digest, 16) for name, digest in data["excluded"].items()},
            bits=EXPORTED_BITS,
        )


def _text(digests: Digests) -> str:
    """The upper 40 bits of each, five bytes an image, as base64."""
    octets = digests.astype(">u8").view(np.uint8).reshape(-1, 8)[:, : EXPORTED_BITS // 8]
    return base64.b64encode(octets.tobytes()).decode()


def _digests(text: str) -> Digests:
    try:
        octets = np.frombuffer(base64.b64decode(text, validate=True), np.uint8).reshape(-1, EXPORTED_BITS // 8)
    except binascii.Error as error:
        raise ValueError(f"digests are no base64 ({error})") from error
    whole = np.zeros((len(octets), 8), np.uint8)
    whole[:, : EXPORTED_BITS // 8] = octets
    return whole.view(">u8").reshape(-1).astype(np.uint64)
