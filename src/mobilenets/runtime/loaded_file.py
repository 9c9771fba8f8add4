"""What all backends are: a file loaded in a runtime, by one process, for any number of its threads; no PyTorch here."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from mobilenets.artifact.container import Artifact
from mobilenets.errors import ArtifactError, BackendError
from mobilenets.runtime.tensors import one_by_one, require_images


@dataclass(frozen=True)
class LoadedFile(ABC):
    """A file loaded in a runtime. Safe to ask from several threads at once; answers are the caller's own memory.

    Attributes:
        artifact: the file.
        threads: threads one answer may use.
        precision: arithmetic it computes in.
        process: id of the process that loaded it. Runtimes keep threads, which a fork leaves behind.
    """

    artifact: Artifact
    threads: int
    precision: str
    process: int = field(default_factory=os.getpid, kw_only=True)

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Answer images uint8 `[B, H, W, C]` with logits float32 `[B, K]`.

        Raises:
            DataError: images of another type or size than the file takes.
            BackendError: the runtime can't compute so many images, or this process is a fork of the one that loaded
                the file.
        """
        images = require_images(images, self.artifact)
        if self.process != os.getpid():
            raise BackendError(
                f"{self.artifact.path}: loaded before this process was forked, which a runtime's threads do not "
                "survive; open it in the new process (a Classifier does so by itself)"
            )
        return self._answer(images) if self.artifact.description.dynamic_batch else one_by_one(images, self._answer)

    @abstractmethod
    def _answer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Answer images that fit, all at once."""

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied: what the runtime has loaded is of this process alone."""
        raise BackendError(
            f"{self.artifact.path}: a file loaded in a runtime can't be pickled or copied; pickle its Classifier, "
            "which opens the file again"
        )


def read_model(artifact: Artifact) -> bytes:
    """The content of the one file a runtime opens, for runtimes that load it more than once.

    Raises:
        ArtifactError: it can't be read.
    """
    try:
        return artifact.model_path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{artifact.path}: can't be read ({error.strerror}); export it again") from error
