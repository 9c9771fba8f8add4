"""Classifying pictures with an exported file: decode, arrange, run, calibrate; no PyTorch here.

    classifier = Classifier("flowers.onnx")
    for answer in classifier.predict(["garden.jpg", "meadow.jpg"]):
        print(answer.label, answer.probability)

A picture may be given in any of the forms of `Picture`; each becomes what its image file would.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeGuard, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mobilenets.artifact.container import Artifact, read_artifact
from mobilenets.artifact.description import Confidence
from mobilenets.artifact.golden import GoldenAnswer
from mobilenets.errors import ArtifactError, BadImage, BadImagesError, DataError, MobilenetsError, first_line
from mobilenets.formatting import decodable
from mobilenets.image_formats import AS_STORED, GREY_MODES, MAX_PIXELS, DeepPixels, check_max_pixels
from mobilenets.images import open_image
from mobilenets.machine import lock_across_forks
from mobilenets.run_folder import recommended_file
from mobilenets.runtime.backend import Backend, choices, open_backend

Picture = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | NDArray[np.uint8]
"""A path, an image file's content, an open binary file, a picture of Pillow's, or pixels uint8 `[H, W, 3]`,
`[H, W, 4]` (RGBA), `[H, W, 1]` or `[H, W]`."""

TAKEN: Final = "pass a path, bytes, an open binary file, a Pillow image or a NumPy array"
_Opener = Callable[[Path | io.BytesIO], Image.Image]
_PIXELS: Final = "pixels are uint8 [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] (RGBA)"
_CONTENT: Final = (bytes, bytearray, memoryview)
# A picture of Pillow's that is not read yet, or an open file, may be one that several threads were given: each has a
# place in its file, which two readers would move under each other's hands.
_READING: Final = lock_across_forks()


def is_picture(value: object) -> TypeGuard[Picture]:
    """Whether this is one picture, not several or something else."""
    if isinstance(value, np.ndarray):
        return value.ndim != 4
    return isinstance(value, (str, os.PathLike, *_CONTENT, Image.Image)) or hasattr(value, "read")


def open_picture(
    picture: Picture, name: str, max_pixels: int = MAX_PIXELS, deep: DeepPixels = AS_STORED
) -> Image.Image:
    """Return a picture upright and RGB, by the rules of `open_image`. Safe to call from several threads.

    Args:
        picture: in any of its forms.
        name: what errors call it.
        max_pixels: see `open_image`.
        deep: likewise.

    Raises:
        BadImagesError: it can't be read.
        DataError: it is no picture; the message says what is taken.
    """
    read = partial(open_image, name=name, max_pixels=max_pixels, deep=deep)
    if isinstance(picture, (str, os.PathLike)):
        return read(Path(picture))
    if isinstance(picture, _CONTENT):
        return read(io.BytesIO(picture))
    if isinstance(picture, Image.Image):
        return _upright_rgb(picture, name, read)
    if isinstance(picture, np.ndarray):
        return _from_pixels(picture, name, read)
    if hasattr(picture, "read"):
        return read(io.BytesIO(_read(picture, name)))
    raise DataError(f"{name}: a {type(picture).__name__} is no picture; {TAKEN}")


def _read(file: BinaryIO, name: str) -> bytes:
    """All that an open file holds, wherever it stands; of a pipe, what is left."""
    try:
        if hasattr(file, "seekable") and file.seekable():
            with _READING:
                file.seek(0)
                content = file.read()
        else:
            content = file.read()
    except (OSError, ValueError) as error:  # ValueError: it is closed
        raise BadImagesError([BadImage(name, first_line(error))]) from error
    if not isinstance(content, bytes):
        raise DataError(f"{name}: a file opened as text is no picture; open it as binary, 'rb'")
    return content


def _upright_rgb(picture: Image.Image, name: str, read: _Opener) -> Image.Image:
    """What `open_image` makes of a file, made of a picture already open; what takes rules it is left to decide."""
    if 0 in picture.size:
        raise BadImagesError([BadImage(name, f"{picture.width}x{picture.height} pixels")])
    try:
        with _READING:
            picture.load()
        upright = ImageOps.exif_transpose(picture)
        if upright.mode in GREY_MODES:
            return read(_saved(upright, "TIFF"))
        if upright.has_transparency_data:
            return read(_saved(upright.convert("RGBA"), "PNG"))
        return upright.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:  # of a file opened by the caller but not read to its end
        raise BadImagesError([BadImage(name, first_line(error))]) from error


def _saved(picture: Image.Image, file_format: str) -> io.BytesIO:
    file = io.BytesIO()
    picture.save(file, file_format)
    return file


def _from_pixels(pixels: NDArray[np.uint8], name: str, read: _Opener) -> Image.Image:
    planes = pixels[:, :, None] if pixels.ndim == 2 else pixels
    if planes.dtype != np.uint8 or planes.ndim != 3 or planes.shape[2] not in (1, 3, 4) or 0 in planes.shape:
        raise DataError(f"{name}: {_PIXELS}, not {pixels.dtype} {list(pixels.shape)}")
    if planes.shape[2] == 4:
        return _upright_rgb(Image.fromarray(np.ascontiguousarray(planes)), name, read)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(planes, (*planes.shape[:2], 3))))


UNKNOWN: Final = "unknown"
_NOT_CALIBRATED: Final = Confidence(temperature=1.0, threshold=0.0, basis="not calibrated")
_BATCH: Final = 16
_LEFT_BEHIND: Final[list[Backend]] = []
"""Backends of the process that this one is a fork of: destroying one would wait for its threads, which a fork lacks."""


@dataclass(frozen=True)
class Prediction:
    """What a picture was recognised as.

    Attributes:
        name: the picture's path, or its place in the sequence such as `picture 3` (counted from 1).
        label: the likeliest class, or `unknown` where its probability is below the threshold.
        probability: that of the likeliest class, 0 to 1, whatever the label.
        top: the likeliest classes with their probabilities, likeliest first.
    """

    name: str
    label: str
    probability: float
    top: tuple[tuple[str, float], ...]


class Classifier:
    """An exported file ready to answer. Any number of threads may share it.

    Pickled or copied it is the path and the arguments: the file is opened again, and refused where it has changed. In
    a forked process it opens the file again by itself.

    Args:
        path: the file, or OpenVINO's folder; or a comparison's, for the network it recommends.
        backend: the runtime, one of `runtime.backend.BACKENDS`; None takes the file's default.
        threads: threads one answer may use; None as `runtime.backend.open_backend` has it.
        precision: arithmetic to compute in; None likewise.
        threshold: smallest probability of an answer that is given, 0 to give every answer; None takes the file's own,
            which is 0 where none was calibrated.
        check: ask the file its golden pairs first, to be sure that it answers here as it did where it was made.
        max_pixels: of how many pixels an image may be: one of more is refused by its header.

    Raises:
        ArtifactError: the file is missing, damaged, not written by mobilenets, or its golden pairs no longer hold.
        BackendError: no such runtime, or it can't run this file in this way.
        MissingExtraError: the runtime is not installed; the message names the extra.
        DataError: a threshold that is no probability.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        backend: str | None = None,
        threads: int | None = None,
        precision: str | None = None,
        threshold: float | None = None,
        check: bool = True,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        check_max_pixels(max_pixels)
        if threshold is not None and not 0 <= threshold <= 1:
            raise DataError(f"a threshold is a probability from 0 to 1, not {threshold}")
        self.max_pixels = max_pixels
        path = recommended_file(path) or Path(path)
        self.artifact: Artifact = read_artifact(path)
        self.backend: Backend = open_backend(self.artifact, backend=backend, threads=threads, precision=precision)
        confidence = self.artifact.description.confidence or _NOT_CALIBRATED
        self.temperature = confidence.temperature
        self.threshold = confidence.threshold if threshold is None else threshold
        self._process = os.getpid()
        self._place = path.absolute()  # where it is found from another folder, too
        self._asked: dict[str, Any] = {
            "backend": backend,
            "threads": threads,
            "precision": precision,
            "threshold": threshold,
            "max_pixels": max_pixels,
        }
        if check:
            check_golden(self.artifact, self.backend)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path, the arguments and the file's digest."""
        return _reopen, (type(self), self._place, self._asked, self.artifact.description.digest)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in output order."""
        return self.artifact.description.classes

    def predict(self, images: Picture | Iterable[Picture], *, top: int = 5) -> list[Prediction]:
        """Recognise pictures.

        Args:
            images: one picture, or any number of them, of any size; all are decoded by the rules of training. A
                picture is a path, an image file's content or an open binary file, a picture of Pillow's, or pixels
                uint8 `[H, W, 3]`, `[H, W, 4]` (RGBA), `[H, W, 1]` or `[H, W]`; an array `[B, H, W, C]` is B of them.
            top: how many classes each answer lists, at most all there are.

        Returns:
            An answer for each picture, in order; a list of one for one picture.

        Raises:
            BadImagesError: pictures that can't be read; `bad` lists all of them, `picture 1` being the first. To go on
                past them, or for folders and zips of images, use `predict_files`.
            DataError: what is no picture, or a `top` below 1.
            ArtifactError: the file answers with NaN or infinity.
        """
        pictures = iter(_pictures(images))
        numbers = count(1)
        bad: list[BadImage] = []
        answers: list[Prediction] = []
        while some := list(islice(pictures, _BATCH)):
            names, arrays = [], []
            for picture, number in zip(some, numbers, strict=False):
                name = decodable(os.fspath(picture)) if isinstance(picture, str | os.PathLike) else f"picture {number}"
                try:
                    arrays.append(self.prepare(picture, name))
                    names.append(name)
                except BadImagesError as error:
                    bad += error.bad
            if arrays and not bad:
                answers += self.answer(np.stack(arrays), names, top=top)
        if bad:
            raise BadImagesError(bad, "fix or remove them; predict_files goes on past them")
        return answers

    def prepare(self, picture: Picture, name: str) -> NDArray[np.uint8]:
        """Decode and arrange one picture: uint8 `[H, W, C]` as the file takes it. Safe to call from several threads.

        Raises:
            BadImagesError: it can't be read.
            DataError: what is no picture.
        """
        preprocessing = self.artifact.description.preprocessing
        return preprocessing.arrange(open_picture(picture, name, self.max_pixels, preprocessing.deep))

    def answer(self, images: NDArray[np.uint8], names: Sequence[str], *, top: int = 5) -> list[Prediction]:
        """Recognise prepared images uint8 `[B, H, W, C]`; `names` go with them.

        Raises:
            DataError: images of another size than the file takes, or a `top` below 1.
            ArtifactError: the file answers with NaN or infinity; or, in a forked process, is no longer there.
        """
        if top < 1:
            raise DataError(f"top is {top}; it must be at least 1")
        logits = self._own_backend().predict(images).astype(np.float64) / self.temperature
        if not np.isfinite(logits).all():  # also -inf, which softmax would take for a probability of 0
            raise ArtifactError(f"{self.artifact.path}: it answers with NaN or infinity; export it again")
        probabilities = softmax(logits)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
        return [
            self._prediction(name, row[best], best) for name, row, best in zip(names, probabilities, order, strict=True)
        ]

    def _own_backend(self) -> Backend:
        """The file loaded by this process: a fork has none of the runtime's threads."""
        if self._process != os.getpid():
            here = _reopen(type(self), self._place, self._asked, self.artifact.description.digest)
            _LEFT_BEHIND.append(self.backend)
            self.backend, self._process = here.backend, here._process
        return self.backend

    def _prediction(self, name: str, probabilities: NDArray[np.float64], best: NDArray[np.intp]) -> Prediction:
        top = tuple((self.classes[index], float(share)) for index, share in zip(best, probabilities, strict=True))
        label, probability = top[0]
        return Prediction(name, label if probability >= self.threshold else UNKNOWN, probability, top)


def check_golden(artifact: Artifact, backend: Backend) -> float:
    """Ask a loaded file its golden pairs, one image at a time, and return the largest |difference| of a logit.

    Where they don't hold, the file is asked in the other ways this machine can run it that are at least as exact: one
    in which they do tells a file that is sound, in an arithmetic that is too coarse for it, from one that is damaged.

    Raises:
        ArtifactError: it does not answer as it did when it was made; the message says which of the two it is.
    """
    answer = _asked(artifact, backend)
    if answer.holds:
        return answer.difference
    where = f"{artifact.path} in {backend.name} {backend.precision}"
    golden = artifact.description.golden
    for choice in choices(artifact):
        same = (choice.backend, choice.precision) == (backend.name, backend.precision)
        if same or golden.allowed(choice.backend, choice.precision) > answer.allowed:
            continue
        try:
            other = open_backend(artifact, backend=choice.backend, precision=choice.precision, threads=backend.threads)
            sound = _asked(artifact, other).holds
        except MobilenetsError:
            continue
        if sound:
            raise ArtifactError(
                f"{where}: this way of computing is too coarse for it, or wrong: {answer.figures}. The file itself is "
                f"sound: choose backend {choice.backend} with precision {choice.precision}, in which its golden pairs "
                "hold, or export it again here to have this way's bound measured"
            )
    raise ArtifactError(
        f"{where}: its golden pairs no longer hold: {answer.figures}; the file is changed or this runtime computes it "
        "incorrectly: export it again"
    )


def _asked(artifact: Artifact, backend: Backend) -> GoldenAnswer:
    def one_at_a_time(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.concatenate([backend.predict(image[None]) for image in images])

    where = f"{artifact.path} in {backend.name} {backend.precision}"
    return artifact.description.golden.ask(one_at_a_time, where, backend=backend.name, precision=backend.precision)


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities `[B, K]` of logits `[B, K]`."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


def _reopen(kind: type[Classifier], path: Path, asked: Mapping[str, Any], digest: str) -> Classifier:
    """Open a classifier's file again, to which it must not make a difference where and when.

    Raises:
        ArtifactError: the file is gone, or another.
    """
    try:
        again = kind(path, **asked, check=False)
    except ArtifactError as error:
        raise ArtifactError(f"a copied classifier opens its file again: {error}") from error
    if again.artifact.description.digest != digest:
        raise ArtifactError(
            f"{path}: it is another file than the one this classifier was made with; open it by Classifier"
        )
    return again


def _pictures(images: Picture | Iterable[Picture]) -> Iterable[Picture]:
    if is_picture(images):
        return [images]
    if isinstance(images, Iterable) and not isinstance(images, Mapping):
        return cast(Iterable[Picture], images)
    raise DataError(f"predict takes a picture or several, not a {type(images).__name__}: {TAKEN}")
