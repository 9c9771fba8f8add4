"""What a backbone answers, kept: the same images through the same backbone are computed once on this machine.

A part of the images is known by its pixels and the backbone by its weights, so nothing kept can be out of date: another
picture under the same name, other weights or another preparation have another key. A run that is killed finds again
every part it had done, and so does another run on the same images.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from mobilenets.arrays import read_arrays
from mobilenets.errors import RunError
from mobilenets.files import write_atomically
from mobilenets.machine import user_cache
from mobilenets.models.layers import Normalizer
from mobilenets.models.network import MobileNet
from mobilenets.preprocessing import Preprocessing

LIMIT: Final = 2 * 2**30
"""Bytes of features kept; beyond them, those not used for longest go. 2 GiB are 400,000 images of MobileNetV2."""


class FeatureCache:
    """Arrays in files of their own, each checked when it is read.

    Attributes:
        damaged: how many files were found damaged; their features are computed again.
        complaint: why nothing more is kept, where the folder can't be written; else empty.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or user_cache() / "mobilenets" / "features"
        self.damaged = 0
        self.complaint = ""

    def get(self, key: str, shape: tuple[int, int]) -> NDArray[np.float32] | None:
        """The features kept under `key`, `shape` = `[B, F]`; None where there are none, or damaged ones."""
        path = self._path(key)
        try:
            # The archive carries a checksum of its content, which reading compares.
            found = read_arrays(path, "features")["features"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            self.damaged += 1
            return None
        if found.shape != shape or found.dtype != np.float32 or not np.isfinite(found).all():
            self.damaged += 1
            return None
        with contextlib.suppress(OSError):  # of somebody else: that it was used then stays unknown
            path.touch()
        features: NDArray[np.float32] = found
        return features

    def put(self, key: str, features: NDArray[np.float32]) -> None:
        """Keep features; a folder that can't be written costs only the keeping."""

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez(file, features=features)

        if self.complaint:
            return
        try:
            write_atomically(self._path(key), write)
        except RunError as error:
            self.complaint = str(error)

    def prune(self, limit: int = LIMIT) -> None:
        """Remove what was not used for longest, until at most `limit` bytes are left."""
        files = []
        for path in self.folder.glob("*/*.npz"):
            with contextlib.suppress(OSError):  # another run's pruning was faster
                files.append((path, path.stat()))
        excess = sum(status.st_size for _, status in files) - limit
        for path, status in sorted(files, key=lambda one: one[1].st_mtime):
            if excess <= 0:
                return
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                self.complaint = f"{self.folder} can't be pruned ({error.strerror or error})"
                return
            excess -= status.st_size

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npz"


class Embedding:
    """A network's backbone in evaluation mode, as a function that remembers.

    Args:
        model: the network; it is moved to the device, and its mode is changed.
        preprocessing: how its images are normalised.
        device: where to compute.
        cache: where answers are kept.
    """

    def __init__(
        self, model: MobileNet, preprocessing: Preprocessing, device: torch.device, cache: FeatureCache
    ) -> None:
        # Channels-last is the fastest layout for a forward pass over a large batch.
        self.model = model.to(device).to(memory_format=torch.channels_last).eval()
        self.device = device
        self.cache = cache
        self.size = model.classifier.in_features
        self._normalize = Normalizer(preprocessing).to(device)
        self._identity = _identity(model, preprocessing, device)

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Images uint8 `[B, H, W, C]` -> what the classifier is given, float32 `[B, F]`."""
        images = np.ascontiguousarray(images)  # mirrored ones are views that torch does not take
        key = hashlib.sha256(f"{self._identity} {images.shape}".encode())
        key.update(images.data)
        known = self.cache.get(key.hexdigest(), (len(images), self.size))
        if known is not None:
            return known
        with torch.inference_mode():
            inputs: torch.Tensor = self._normalize(torch.from_numpy(images).to(self.device))
            features = self.model.embed(inputs.contiguous(memory_format=torch.channels_last))
        found: NDArray[np.float32] = features.float().cpu().numpy()
        self.cache.put(key.hexdigest(), found)
        return found


def _identity(model: MobileNet, preprocessing: Preprocessing, device: torch.device) -> str:
    """A digest of all that the features depend on but the pixels."""
    said = [model.config.to_dict(), preprocessing.to_dict(), torch.__version__, device.type]
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for name, tensor in model.state_dict().items():
        if not name.startswith("classifier."):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
