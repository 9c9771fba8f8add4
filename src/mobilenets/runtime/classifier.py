"""Classifying pictures with an exported file: decode, arrange, run, and say how sure the answer is; no PyTorch here.

classifier = Classifier("flowers.onnx")
for answer in classifier.predict(["garden.jpg"]):
    print(answer.label, answer.probability)
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mobilenets.artifact.container import Artifact, read_artifact
from mobilenets.artifact.description import Confidence
from mobilenets.artifact.golden import GoldenAnswer
from mobilenets.errors import ArtifactError, BadImage, BadImagesError, DataError, MobilenetsError, first_line
from mobilenets.images import open_image
from mobilenets.runtime.backend import Backend, choices, open_backend

UNKNOWN: Final = "unknown"
Picture = str | Path | bytes | Image.Image | NDArray[np.uint8]
"""A path, an image file's content, a picture of Pillow's, or pixels uint8 `[H, W, 3]` or `[H, W, 1]`."""

_NOT_CALIBRATED: Final = Confidence(temperature=1.0, threshold=0.0, basis="not calibrated")
_DEEP_MODES: Final = ("I;16", "I;16L", "I;16B", "I", "F")
_BATCH: Final = 16


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
    """An exported file ready to answer.

    Args:
        path: the file, or OpenVINO's folder.
        backend: the runtime, one of `runtime.backend.BACKENDS`; None takes the file's default.
        threads: threads one answer may use; None as `runtime.backend.open_backend` has it.
        precision: arithmetic to compute in; None likewise.
        threshold: smallest probability of an answer that is given, 0 to give every answer; None takes the file's own,
            which is 0 where none was calibrated.
        check: ask the file its golden pairs first, to be sure that it answers here as it did where it was made.

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
    ) -> None:
        if threshold is not None and not 0 <= threshold <= 1:
            raise DataError(f"a threshold is a probability from 0 to 1, not {threshold}")
        self.artifact: Artifact = read_artifact(Path(path))
        self.backend: Backend = open_backend(self.artifact, backend=backend, threads=threads, precision=precision)
        confidence = self.artifact.description.confidence or _NOT_CALIBRATED
        self.temperature = confidence.temperature
        self.threshold = confidence.threshold if threshold is None else threshold
        if check:
            check_golden(self.artifact, self.backend)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in output order."""
        return self.artifact.description.classes

    def predict(self, images: Sequence[Picture], *, top: int = 5) -> list[Prediction]:
        """Recognise pictures.

        Args:
            images: any number of them, of any size; all are decoded by the rules of training.
            top: how many classes each answer lists, at most all there are.

        Returns:
            An answer for each picture, in order.

        Raises:
            BadImagesError: pictures that can't be read; `bad` lists all of them, `picture 1` being the first. To go on
                past them use `predict_files`.
            DataError: pixels that are no picture, or a `top` below 1.
            ArtifactError: the file answers with numbers that are none.
        """
        bad: list[BadImage] = []
        answers: list[Prediction] = []
        for start in range(0, len(images), _BATCH):
            names, arrays = [], []
            for number, picture in enumerate(images[start : start + _BATCH], start + 1):
                name = str(picture) if isinstance(picture, str | Path) else f"picture {number}"
                try:
                    arrays.append(self.prepare(picture, name))
                    names.append(name)
                except BadImagesError as error:
                    bad += error.bad
            if arrays and not bad:
                answers += self.answer(np.stack(arrays), names, top=top)
        if bad:
            raise BadImagesError(bad)
        return answers

    def prepare(self, picture: Picture, name: str) -> NDArray[np.uint8]:
        """Decode and arrange one picture: uint8 `[H, W, C]` as the file takes it. Safe to call from several threads.

        Raises:
            BadImagesError: it can't be read.
            DataError: pixels that are no picture.
        """
        return self.artifact.description.preprocessing.arrange(_open(picture, name))

    def answer(self, images: NDArray[np.uint8], names: Sequence[str], *, top: int = 5) -> list[Prediction]:
        """Recognise prepared images uint8 `[B, H, W, C]`; `names` go with them.

        Raises:
            DataError: images of another size than the file takes, or a `top` below 1.
            ArtifactError: the file answers with numbers that are none.
        """
        if top < 1:
            raise DataError(f"top is {top}; it must be at least 1")
        logits = self.backend.predict(images)
        if not np.isfinite(logits).all():  # also -inf, which softmax would take for a probability of 0
            raise ArtifactError(f"{self.artifact.path}: it answers with numbers that are none; export it again")
        probabilities = softmax(logits / self.temperature)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
        return [
            self._prediction(name, row[best], best) for name, row, best in zip(names, probabilities, order, strict=True)
        ]

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
                f"{where}: this way of computing is too coarse for it, or wrong: {answer.words}. The file itself is "
                f"sound: choose backend {choice.backend} with precision {choice.precision}, in which its golden pairs "
                "hold, or export it again here to have this way's bound measured"
            )
    raise ArtifactError(
        f"{where}: its golden pairs no longer hold: {answer.words}; the file is changed or this runtime computes it "
        "wrongly: export it again"
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


def _open(picture: Picture, name: str) -> Image.Image:
    if isinstance(picture, str | Path):
        return open_image(Path(picture), name=name)
    if isinstance(picture, bytes):
        return open_image(io.BytesIO(picture), name=name)
    if isinstance(picture, Image.Image):
        return _upright_rgb(picture, name)
    return _from_pixels(picture, name)


def _upright_rgb(picture: Image.Image, name: str) -> Image.Image:
    """What `open_image` makes of a file, made of a picture already open; what takes rules it is left to decide."""
    if 0 in picture.size:
        raise BadImagesError([BadImage(name, f"{picture.width}x{picture.height} pixels")])
    try:
        upright = ImageOps.exif_transpose(picture)
        if upright.mode in _DEEP_MODES:
            return open_image(_saved(upright, "TIFF"), name=name)
        if upright.has_transparency_data:
            return open_image(_saved(upright.convert("RGBA"), "PNG"), name=name)
        return upright.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:  # of a file opened by the caller but not read to its end
        raise BadImagesError([BadImage(name, first_line(error))]) from error


def _saved(picture: Image.Image, file_format: str) -> io.BytesIO:
    file = io.BytesIO()
    picture.save(file, file_format)
    return file


def _from_pixels(pixels: NDArray[np.uint8], name: str) -> Image.Image:
    if not isinstance(pixels, np.ndarray):
        raise DataError(f"{name}: a {type(pixels).__name__} is no picture; pass a path, bytes, Pillow image or array")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
        raise DataError(f"{name}: pixels are uint8 [H, W, 3] or [H, W, 1], not {pixels.dtype} {list(pixels.shape)}")
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3))))
