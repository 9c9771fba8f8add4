"""The test images a network got wrong with the most confidence: where to look for bad labels and blind spots."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mobilenets.data.loader import PreparedImages
from mobilenets.evaluation.evaluate import Predictions
from mobilenets.evaluation.metrics import NO_CLASS
from mobilenets.evaluation.results import Mistake

LARGEST_THUMBNAIL = 96  # pixels


def confident_mistakes(
    predictions: Predictions, images: PreparedImages, classes: Sequence[str], *, most: int = 12
) -> tuple[Mistake, ...]:
    """The `most` wrong answers with the highest probability, surest first, each with the image as it was seen."""
    called, confidence = predictions.predicted, predictions.confidence
    wrong = np.flatnonzero(~predictions.correct)
    surest = wrong[np.argsort(-confidence[wrong], kind="stable")][:most]
    return tuple(
        Mistake(
            image=images.names[index],
            thumbnail=_thumbnail(images.batch([int(index)])[0]),
            truth=classes[predictions.labels[index]],
            predicted="no class" if called[index] == NO_CLASS else classes[called[index]],
            confidence=100 * float(confidence[index]),
        )
        for index in surest
    )


def _thumbnail(pixels: NDArray[np.uint8]) -> str:
    """Pixels [H, W, C] as a PNG in a data address."""
    image = Image.fromarray(pixels.squeeze(axis=2) if pixels.shape[2] == 1 else pixels)
    image.thumbnail((LARGEST_THUMBNAIL, LARGEST_THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
