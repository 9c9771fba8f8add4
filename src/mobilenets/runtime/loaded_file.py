"""What all backends share: a file loaded in a runtime, by one process, for any number of its threads; no PyTorch here.

`ResourcePool` shares what only one thread may use at a time, such as an interpreter, among any number of threads.
"""

from __future__ import annotations

import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Generic, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from mobilenets.artifact.container import Artifact
from mobilenets.errors import ArtifactError, BackendError, DataError
from mobilenets.machine import usable_cores

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


Item = TypeVar("Item")

_LEAST: Final = 2  # part of an answer runs on one core whatever `threads` says: a second caller uses the others
_CHECK_SECONDS: Final = 1.0


def pool_size(threads: int) -> int:
    """How many answers of so many threads this machine computes at once: more would only take memory."""
    return max(_LEAST, usable_cores() // threads)


class _Loan(Generic[Item]):
    """What a thread has borrowed."""

    item: Item | None = None


class ResourcePool(Generic[Item]):
    """At most so many items, each made when all others are borrowed, each used by one thread at a time.

    Whatever ends a thread's use of an item, its place is free again: the loans are counted by the objects that stand
    for them, which vanish with the frames of the thread, even where Ctrl-C comes between two lines of this class.

    Args:
        make: makes an item; called from the thread that needs it, also from several at once.
        most: items in use at a time; further threads wait.
    """

    def __init__(self, make: Callable[[], Item], most: int) -> None:
        self._make = make
        self._most = most
        self._idle: list[Item] = []
        self._loans: weakref.WeakSet[_Loan[Item]] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._returned = threading.Condition(self._lock)

    def add(self, item: Item) -> None:
        """Put in an item that was made already."""
        with self._lock:
            self._idle.append(item)

    @contextmanager
    def borrow(self) -> Iterator[Item]:
        """Have an item for the time of the block. One whose use raises is not used again: its state is unknown."""
        loan: _Loan[Item] = _Loan()
        whole = False
        try:
            self._take(loan)
            if loan.item is None:
                loan.item = self._make()
            yield loan.item
            whole = True
        finally:
            with self._lock:  # not as the condition, whose own `__enter__` Ctrl-C could break off with the lock taken
                self._loans.discard(loan)
                if whole and loan.item is not None:
                    self._idle.append(loan.item)
                self._returned.notify()

    def _take(self, loan: _Loan[Item]) -> None:
        with self._lock:
            while len(self._loans) >= self._most:
                self._returned.wait(_CHECK_SECONDS)  # not for ever: a thread that was stopped may not have said so
            self._loans.add(loan)
            if self._idle:
                loan.item = self._idle.pop()


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
